"use client";

import { useMutation, useQuery } from "convex/react";
import { useState, type SyntheticEvent } from "react";
import { api } from "~/convex/_generated/api";
import type { Id } from "~/convex/_generated/dataModel";
import { Badge } from "~/trade-import/ui/badge";
import { Button } from "~/trade-import/ui/button";
import { SelectField, TextField } from "~/trade-import/ui/field";
import { LoadingRows } from "~/trade-import/ui/states";
import { Place } from "./place";

export function PlanList() {
  const plans = useQuery(api.tradePlans.listTradePlans, {});
  const campaigns = useQuery(api.campaigns.listCampaigns, {});
  const move = useMutation(api.tradePlans.updateTradePlanStatus);
  if (plans === undefined || campaigns === undefined) {
    return (
      <Place title="Plans">
        <LoadingRows label="Loading plans" />
      </Place>
    );
  }
  return (
    <Place title="Plans">
      <NewPlan campaigns={campaigns} />
      <ul className="mt-4 divide-y divide-ti-line rounded-lg border border-ti-line bg-ti-surface">
        {plans.map((plan) => (
          <li key={plan._id} className="flex flex-wrap items-center gap-x-4 gap-y-1 px-4 py-2">
            <span className="font-medium">{plan.name}</span>
            <span className="text-ti-muted">{plan.instrumentSymbol}</span>
            <Badge>{plan.status}</Badge>
            <span className="text-ti-muted">{campaigns.find(({ _id }) => _id === plan.campaignId)?.name}</span>
            {plan.status === "closed" ? null : (
              <Button
                look="quiet"
                size="sm"
                className="ml-auto"
                aria-label={`Close ${plan.name}`}
                onClick={() => void move({ status: "closed", tradePlanId: plan._id })}
              >
                Close
              </Button>
            )}
          </li>
        ))}
      </ul>
    </Place>
  );
}

function NewPlan({ campaigns }: { campaigns: readonly { _id: Id<"campaigns">; name: string }[] }) {
  const create = useMutation(api.tradePlans.createTradePlan);
  const [name, setName] = useState("");
  const [symbol, setSymbol] = useState("");
  const [campaignId, setCampaignId] = useState("");
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    if (name.trim() === "" || symbol.trim() === "") return;
    const campaign = campaigns.find(({ _id }) => _id === campaignId);
    void create({
      entryConditions: "",
      exitConditions: "",
      instrumentSymbol: symbol,
      name: name.trim(),
      status: "active",
      targetConditions: "",
      ...(campaign === undefined ? {} : { campaignId: campaign._id }),
    }).then(() => {
      setName("");
      setSymbol("");
    });
  };
  return (
    <form onSubmit={submit} className="grid max-w-3xl items-end gap-2 sm:grid-cols-[2fr_1fr_1fr_auto]">
      <TextField label="New plan" value={name} onChange={(event) => setName(event.target.value)} />
      <TextField label="Symbol" value={symbol} onChange={(event) => setSymbol(event.target.value)} />
      <SelectField label="Campaign" value={campaignId} onChange={(event) => setCampaignId(event.target.value)}>
        <option value="">none</option>
        {campaigns.map(({ _id, name: campaign }) => (
          <option key={_id} value={_id}>
            {campaign}
          </option>
        ))}
      </SelectField>
      <Button type="submit">Create</Button>
    </form>
  );
}
