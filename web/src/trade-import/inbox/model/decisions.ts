// What a decision about rows asks of the server, and what it was like before.
import type { Id, InboxRow } from "../../api";
import { rowKey } from "./lines";

/** `accept` takes what each row shows: its own plan, else the suggested one. */
export type Link =
  | { campaignId: Id<"campaigns">; kind: "campaign"; name: string }
  | { kind: "accept" }
  | { kind: "blank" }
  | { kind: "plan"; name: string; tradePlanId: Id<"tradePlans"> };

/** What the user has put right about a row and saves with it. */
export type Draft = { direction?: "long" | "short"; notes?: string };
export type Drafts = ReadonlyMap<string, Draft>;

export type ReviewArgs = {
  campaignId?: Id<"campaigns"> | null;
  direction?: "long" | "short";
  notes?: string | null;
  tradeIds: Id<"trades">[];
  tradePlanId?: Id<"tradePlans"> | null;
};

export type ReviewCall = { args: ReviewArgs; rows: InboxRow[] };

/** The server takes so many rows at once, all or nothing. */
export const MAX_ROWS = 200;

/** Rows that get the same share a call. `skipped` have nothing to accept. */
export function reviewCalls(rows: readonly InboxRow[], link: Link, drafts: Drafts): { calls: ReviewCall[]; skipped: InboxRow[] } {
  const calls = new Map<string, ReviewCall[]>();
  const skipped: InboxRow[] = [];
  for (const row of rows) {
    const chosen = linkOf(row, link);
    if (chosen === null || row.tradeId === null) {
      skipped.push(row);
      continue;
    }
    const { direction, notes } = drafts.get(rowKey(row)) ?? {};
    const same = {
      ...chosen,
      ...(direction === undefined || direction === row.direction ? {} : { direction }),
      ...(notes === undefined || notes === (row.notes ?? "") ? {} : { notes: notes === "" ? null : notes }),
    };
    const key = JSON.stringify(same);
    const parts = calls.get(key) ?? [];
    const last = parts[parts.length - 1];
    if (last === undefined || last.rows.length === MAX_ROWS) parts.push({ args: { ...same, tradeIds: [row.tradeId] }, rows: [row] });
    else {
      last.args.tradeIds.push(row.tradeId);
      last.rows.push(row);
    }
    calls.set(key, parts);
  }
  return { calls: [...calls.values()].flat(), skipped };
}

function linkOf(row: InboxRow, link: Link): Pick<ReviewArgs, "campaignId" | "tradePlanId"> | null {
  switch (link.kind) {
    case "accept": {
      const plan = row.plan ?? row.suggestion;
      return plan && { tradePlanId: plan.tradePlanId };
    }
    case "blank":
      return { campaignId: null, tradePlanId: null };
    case "campaign":
      return { campaignId: link.campaignId, tradePlanId: null };
    case "plan":
      return { tradePlanId: link.tradePlanId };
  }
}

/** Plans that `accept` would save with, each once. */
export function acceptable(rows: readonly InboxRow[]): { name: string; tradePlanId: Id<"tradePlans"> }[] {
  const plans = rows.flatMap((row) => row.plan ?? row.suggestion ?? []);
  return [...new Map(plans.map((plan) => [plan.tradePlanId, plan])).values()];
}

type Reopened = {
  campaignId: Id<"campaigns"> | null;
  direction: "long" | "short";
  flags: InboxRow["flags"];
  notes: string | null;
  status: "pending_review" | "reviewed";
  tradeId: Id<"trades">;
  tradePlanId: Id<"tradePlans"> | null;
};

/** Rows as `inbox.reopen` takes them, to be as they are now; `tradeIds` where they have got others since. */
export function reopenRows(rows: readonly InboxRow[], tradeIds?: ReadonlyMap<string, Id<"trades">>): Reopened[] {
  return rows.flatMap((row) => {
    const tradeId = tradeIds === undefined ? row.tradeId : tradeIds.get(rowKey(row));
    if (tradeId === undefined || tradeId === null || row.direction === null || row.status === "dismissed") return [];
    return {
      campaignId: row.campaign === null || row.campaign.derived ? null : row.campaign.campaignId,
      direction: row.direction,
      flags: row.flags,
      notes: row.notes,
      status: row.status,
      tradeId,
      tradePlanId: row.plan?.tradePlanId ?? null,
    };
  });
}

export function inParts<T>(all: readonly T[], size: number = MAX_ROWS): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, part) => all.slice(part * size, (part + 1) * size));
}
