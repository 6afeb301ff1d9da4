// One execution, seen by several sources and in several revisions: what all its views together say. The result
// depends on the views, never on the order in which they came.
import type { Execution, Source, View } from "../validators";

/** How much a source knows. Flex states currency, multiplier, fees and bookings, which the live API does not. */
const RANKS: Readonly<Record<Source, number>> = {
  ibkr_flex_activity: 2,
  ibkr_flex_confirm: 1,
  ibkr_live: 0,
  kraken_trades: 0,
};

/** Enough for any real execution; an endless row of corrections would outgrow its document. */
export const MAX_VIEWS = 12;

/** What a view may leave unsaid, so that a lower one says it. */
const OPTIONAL = [
  "conid",
  "currency",
  "externalOrderId",
  "feeCurrency",
  "multiplier",
  "openClose",
  "side",
  "tradeId",
  "transactionId",
] as const satisfies ReadonlyArray<keyof Execution>;

/** All that an execution states; its raw text, its source and the revision's number are not part of what it says. */
const FACTS = [
  ...OPTIONAL,
  "assetClass",
  "cancels",
  "fee",
  "kind",
  "occurredAt",
  "price",
  "quantity",
  "rawSymbol",
  "symbol",
] as const satisfies ReadonlyArray<keyof Execution>;

export function sameFacts(a: Execution, b: Execution): boolean {
  return FACTS.every((fact) => a[fact] === b[fact]) && [...a.flags].sort().join() === [...b.flags].sort().join();
}

/** Two words of one source on one revision: the later one counts. */
export function isSameVoice(a: Execution, b: Execution): boolean {
  return a.source === b.source && a.revision === b.revision;
}

/** The views after one more came: it replaces an older view of the same source and revision. */
export function viewsAfter(views: ReadonlyArray<View>, incoming: View): View[] {
  const others = views.filter((view) => !isSameVoice(view, incoming));
  return [...others, incoming].sort(byRank).slice(0, MAX_VIEWS);
}

/** The highest revision as the best source tells it, with what it leaves unsaid from the views below. */
export function mergeViews(views: ReadonlyArray<View>): Execution {
  const [top, ...below] = [...views].sort(byRank);
  if (top === undefined) throw new Error("An execution without a view.");
  const { importJobId: _job, seenAt: _at, ...stated } = top;
  const merged: Execution = { ...stated, ...feeOf([top, ...below]) };
  for (const field of OPTIONAL) {
    if (field !== "feeCurrency") Object.assign(merged, said(field, [top, ...below]));
  }
  const timed = [top, ...below].find((view) => !view.flags.includes("no_time_of_day"));
  if (timed !== undefined && timed !== top) {
    merged.occurredAt = timed.occurredAt;
    merged.flags = merged.flags.filter((flag) => flag !== "no_time_of_day");
  }
  return merged;
}

function byRank(a: Execution, b: Execution): number {
  return b.revision - a.revision || RANKS[b.source] - RANKS[a.source];
}

function said(field: (typeof OPTIONAL)[number], views: ReadonlyArray<Execution>): Partial<Execution> {
  const value = views.find((view) => view[field] !== undefined)?.[field];
  return value === undefined ? {} : { [field]: value };
}

/** A rebooking says no commission: the original's stays charged (reference ibkr 4.6). */
function feeOf(views: ReadonlyArray<Execution>): Pick<Execution, "fee" | "feeCurrency"> {
  const revisions = [...new Set(views.map((view) => view.revision))];
  const best = revisions.map((revision) => views.filter((view) => view.revision === revision));
  const charged = best.find(([view]) => view !== undefined && Number(view.fee) !== 0) ?? best[0] ?? [];
  const fee = charged[0]?.fee ?? "0";
  return { fee, ...said("feeCurrency", [...charged, ...views]) };
}
