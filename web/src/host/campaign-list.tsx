"use client";

import { useMutation, useQuery } from "convex/react";
import Link from "next/link";
import { useState, type SyntheticEvent } from "react";
import { api } from "~/convex/_generated/api";
import type { Doc } from "~/convex/_generated/dataModel";
import { Badge } from "~/trade-import/ui/badge";
import { Button } from "~/trade-import/ui/button";
import { TextField } from "~/trade-import/ui/field";
import { LoadingRows } from "~/trade-import/ui/states";
import { Money } from "./money";
import { Place } from "./place";

export function CampaignList() {
  const campaigns = useQuery(api.campaigns.listCampaigns, {});
  return (
    <Place title="Campaigns">
      <NewCampaign />
      {campaigns === undefined ? (
        <LoadingRows label="Loading campaigns" />
      ) : (
        <ul className="mt-4 divide-y divide-ti-line rounded-lg border border-ti-line bg-ti-surface">
          {campaigns.map((campaign) => (
            <CampaignLine key={campaign._id} campaign={campaign} />
          ))}
        </ul>
      )}
    </Place>
  );
}

function CampaignLine({ campaign }: { campaign: Doc<"campaigns"> }) {
  const figures = useQuery(api.campaigns.getCampaignPL, { campaignId: campaign._id });
  return (
    <li className="flex flex-wrap items-center gap-x-4 gap-y-1 px-4 py-2.5">
      <Link href={`/campaigns/${campaign._id}`} className="ti-focus rounded font-medium underline-offset-3 hover:underline">
        {campaign.name}
      </Link>
      <Badge>{campaign.status}</Badge>
      <span className="ml-auto flex gap-4 tabular-nums">
        <span className="text-ti-muted">{figures === undefined ? "…" : `${figures.tradeCount} trades`}</span>
        {figures === undefined ? null : <Money amount={figures.realizedPL} />}
      </span>
    </li>
  );
}

function NewCampaign() {
  const create = useMutation(api.campaigns.createCampaign);
  const [name, setName] = useState("");
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    if (name.trim() === "") return;
    void create({ name: name.trim(), status: "active", thesis: "" }).then(() => setName(""));
  };
  return (
    <form onSubmit={submit} className="flex max-w-md items-end gap-2">
      <div className="flex-1">
        <TextField label="New campaign" value={name} onChange={(event) => setName(event.target.value)} />
      </div>
      <Button type="submit">Create</Button>
    </form>
  );
}
