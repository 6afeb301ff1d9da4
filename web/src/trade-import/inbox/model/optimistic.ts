// What pages of `inbox.list` will say, shown before the server has said it.
import type { Campaign, InboxRow, Plan } from "../../api";
import type { ReviewArgs } from "./decisions";
import { rowKey } from "./lines";

type Names = { campaigns: readonly Pick<Campaign, "_id" | "name">[]; plans: readonly Pick<Plan, "_id" | "campaignId" | "name">[] };

/** A row as a review will leave it. */
export function reviewed(row: InboxRow, args: ReviewArgs, names: Names): InboxRow {
  const planId = args.tradePlanId === undefined ? (row.plan?.tradePlanId ?? null) : args.tradePlanId;
  const plan = planId === null ? undefined : names.plans.find(({ _id }) => _id === planId);
  const own = args.campaignId === undefined ? ownCampaign(row) : args.campaignId;
  const campaignId = planId === null ? own : (plan?.campaignId ?? null);
  const campaign = campaignId === null ? undefined : names.campaigns.find(({ _id }) => _id === campaignId);
  return {
    ...row,
    campaign: campaign === undefined ? null : { campaignId: campaign._id, derived: planId !== null, name: campaign.name },
    direction: args.direction ?? row.direction,
    flags: args.direction === undefined ? row.flags : row.flags.filter((flag) => flag !== "direction_guessed"),
    notes: args.notes === undefined ? row.notes : args.notes,
    plan: planId === null ? null : { name: plan?.name ?? row.plan?.name ?? row.suggestion?.name ?? "", tradePlanId: planId },
    status: "reviewed",
    suggestion: null,
    suggestionReason: "none",
  };
}

function ownCampaign({ campaign }: InboxRow) {
  return campaign === null || campaign.derived ? null : campaign.campaignId;
}

/** Null where nothing changes: a page that stays the same must not be drawn anew. */
export function without(page: readonly InboxRow[], keys: ReadonlySet<string>): InboxRow[] | null {
  const left = page.filter((row) => !keys.has(rowKey(row)));
  return left.length === page.length ? null : left;
}

export function changed(page: readonly InboxRow[], keys: ReadonlySet<string>, change: (row: InboxRow) => InboxRow): InboxRow[] | null {
  return page.some((row) => keys.has(rowKey(row))) ? page.map((row) => (keys.has(rowKey(row)) ? change(row) : row)) : null;
}

/**
 * Rows put among pages, newest first, each into the page that spans its time. Returns the pages that change, by their
 * index.
 */
export function inserted(pages: readonly (readonly InboxRow[])[], rows: readonly InboxRow[]): Map<number, InboxRow[]> {
  const result = new Map<number, InboxRow[]>();
  const known = new Set(pages.flat().map(rowKey));
  for (const row of rows) {
    if (known.has(rowKey(row))) continue;
    const index = pageOf(pages, row);
    if (index < 0) continue;
    const page = result.get(index) ?? [...(pages[index] ?? [])];
    const place = page.findIndex(({ occurredAt }) => occurredAt < row.occurredAt);
    page.splice(place < 0 ? page.length : place, 0, row);
    result.set(index, page);
  }
  return result;
}

/** The last page that begins no earlier than the row; else the one that begins first. */
function pageOf(pages: readonly (readonly InboxRow[])[], row: InboxRow): number {
  let found = -1;
  let start = Infinity;
  let newest = -1;
  let latest = -Infinity;
  pages.forEach((page, index) => {
    const at = page[0]?.occurredAt ?? (pages.length === 1 ? Infinity : -Infinity);
    if (at >= row.occurredAt && at <= start) [found, start] = [index, at];
    if (at > latest) [newest, latest] = [index, at];
  });
  return found >= 0 ? found : newest;
}
