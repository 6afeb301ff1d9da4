"use client";

import { useMutation } from "convex/react";
import { useState, type SyntheticEvent } from "react";
import { api, type Campaign, type Id, type InboxRow } from "../api";
import { clipped, visible } from "../format/foreign";
import { sentenceOf } from "../hooks/refusal";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField, TextAreaField, TextField } from "../ui/field";
import { shared } from "./model/lines";
import { countOf } from "./model/sentences";

type Props = {
  campaigns: readonly Campaign[];
  name: string;
  onClose: () => void;
  onClosed: () => void;
  onCreated: (plan: { name: string; tradePlanId: Id<"tradePlans"> }) => void;
  rows: readonly InboxRow[];
};

/** A plan from rows: their symbol is filled in, and they are saved with it. */
export function NewPlanDialog({ campaigns, name: typed, onClose, onClosed, onCreated, rows }: Props) {
  const create = useMutation(api.tradePlans.createTradePlan);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const symbol = clipped(visible(shared(rows, (row) => row.symbol) ?? ""), 64).text;
  const submit = async (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const text = (field: string) => {
      const value = form.get(field);
      return typeof value === "string" ? value.trim() : "";
    };
    const campaignId = campaigns.find(({ _id }) => _id === text("campaign"))?._id;
    const name = text("name");
    if (name === "" || text("symbol") === "") {
      setError("A plan needs a name and a symbol.");
      return;
    }
    setBusy(true);
    try {
      const tradePlanId = await create({
        ...(campaignId === undefined ? {} : { campaignId }),
        entryConditions: text("entry"),
        exitConditions: text("exit"),
        instrumentSymbol: text("symbol"),
        name,
        status: "active",
        targetConditions: text("target"),
      });
      onCreated({ name, tradePlanId });
    } catch (failure) {
      setError(sentenceOf(failure));
      setBusy(false);
    }
  };
  return (
    <Dialog
      open
      onClosed={onClosed}
      onOpenChange={(open) => !open && onClose()}
      title="New plan"
      description={`${countOf(rows.length, "row")} will be saved with it.`}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" type="submit" form="ti-new-plan" busy={busy}>
            Create and save
          </Button>
        </>
      }
    >
      <form id="ti-new-plan" onSubmit={(event) => void submit(event)} className="space-y-3">
        <div className="grid gap-3 sm:grid-cols-[2fr_1fr]">
          {/* The dialog was opened to fill this in. */}
          {/* eslint-disable-next-line jsx-a11y/no-autofocus */}
          <TextField autoFocus autoComplete="off" defaultValue={typed} error={error} label="Name" maxLength={200} name="name" />
          <TextField autoComplete="off" defaultValue={symbol} label="Symbol" maxLength={64} name="symbol" />
        </div>
        <SelectField label="Campaign" name="campaign" defaultValue="">
          <option value="">None</option>
          {campaigns
            .filter(({ status }) => status !== "closed")
            .map(({ _id, name }) => (
              <option key={_id} value={_id}>
                {name}
              </option>
            ))}
        </SelectField>
        <TextAreaField label="Entry" name="entry" rows={2} />
        <TextAreaField label="Exit" name="exit" rows={2} />
        <TextAreaField label="Target" name="target" rows={2} />
      </form>
    </Dialog>
  );
}
