// One execution, seen by several sources and in several revisions: what all its views together say. The result
// depends on the views, never on the order in which they came.
import type { Change, Execution, ExecutionFlag, Source, View } from "../validators";

/** How much a source knows. Flex states currency, multiplier, fees and bookings, which the live API does not. */
const RANKS: Readonly<Record<Source, number>> = {
  ibkr_flex_activity: 3,
  ibkr_flex_confirm: 2,
  ibkr_live: 1,
  kraken_trades: 0,
};

/** Enough for any real execution; an endless row of corrections would outgrow its document. */
export const MAX_VIEWS = 12;

/** What a view may leave unsaid, so that another one says it. */
export const OPTIONAL = [
  "cancels",
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
type Optional = (typeof OPTIONAL)[number];

/** All that an execution states; its raw text, its source and the revision's number are not part of what it says. */
const FACTS = [
  ...OPTIONAL,
  "assetClass",
  "fee",
  "kind",
  "occurredAt",
  "price",
  "quantity",
  "rawSymbol",
  "symbol",
] as const satisfies ReadonlyArray<keyof Execution>;

/** Flags that say how far `occurredAt` can be trusted. */
const DOUBTS: Readonly<Partial<Record<ExecutionFlag, number>>> = { ambiguous_time: 1, no_time_of_day: 2 };

export function sameFacts(a: Execution, b: Execution): boolean {
  return FACTS.every((fact) => a[fact] === b[fact]) && [...a.flags].sort().join() === [...b.flags].sort().join();
}

/** Two words of one source on one revision: the later one counts. */
export function isSameVoice(a: Execution, b: Execution): boolean {
  return a.source === b.source && a.revision === b.revision;
}

/** Did the broker say this later than `seenAt`? Then what a kept report of that time says is no news. */
export function isOutdated(view: View, seenAt: number): boolean {
  return view.seenAt > seenAt;
}

/** What differs between two states of one execution, as people read it. */
export function changedFacts(before: Execution, after: Execution): Change[] {
  return FACTS.filter((fact) => before[fact] !== after[fact]).map((fact) => ({
    after: spelt(after[fact]),
    before: spelt(before[fact]),
    fact,
  }));
}

function spelt(value: number | string | undefined): string | null {
  return value === undefined ? null : String(value);
}

/** The views after one more came, the best first: it replaces an older view of the same source and revision. */
export function viewsAfter(views: ReadonlyArray<View>, incoming: View): View[] {
  const others = views.filter((view) => !isSameVoice(view, incoming));
  return [...others, incoming].sort(byRank).slice(0, MAX_VIEWS);
}

/**
 * The highest revision as the best source tells it. What it leaves unsaid comes from the last word of each other
 * source, so that Flex enriches a correction that only the live API has shown; what a source has taken back is gone.
 */
export function mergeViews(views: ReadonlyArray<Execution>): Execution {
  const ranked = [...views].sort(byRank);
  const [top] = ranked;
  if (top === undefined) throw new Error("An execution without a view.");
  const words = ranked.filter(({ source }, index) => ranked.findIndex((view) => view.source === source) === index);
  const charged = chargedBy(top, ranked);
  const merged = { ...stated(top), ...timeOf(top, ranked), fee: charged.fee };
  for (const field of OPTIONAL) Object.assign(merged, said(field, wordsOn(field, top, charged, words)));
  return merged;
}

/** What the execution said in each revision before the last one, oldest first. */
export function earlierRevisions(views: ReadonlyArray<Execution>): Execution[] {
  const last = Math.max(...views.map(({ revision }) => revision));
  const earlier = new Set(views.flatMap(({ revision }) => (revision < last ? [revision] : [])));
  return [...earlier]
    .sort((a, b) => a - b)
    .map((revision) => mergeViews(views.filter((view) => view.revision <= revision)));
}

function byRank(a: Execution, b: Execution): number {
  return b.revision - a.revision || RANKS[b.source] - RANKS[a.source];
}

function stated(view: Execution & Partial<View>): Execution {
  const { importJobId: _job, seenAt: _at, ...execution } = view;
  return execution;
}

function wordsOn(field: Optional, top: Execution, charged: Execution, words: Execution[]): Execution[] {
  if (field === "feeCurrency") return [charged, ...words];
  // A correction may turn the side round, or be of a kind that has none.
  if (field === "side") return words.filter(({ revision }) => revision === top.revision);
  return words;
}

function said(field: Optional, words: ReadonlyArray<Execution>): Partial<Execution> {
  const value = words.find((view) => view[field] !== undefined)?.[field];
  return value === undefined ? {} : { [field]: value };
}

/** The view whose fee holds. A rebooking says no commission: the original's stays charged (reference ibkr 4.6). */
function chargedBy(top: Execution, ranked: ReadonlyArray<Execution>): Execution {
  const bestOfEach = ranked.filter(
    ({ revision }, index) => ranked.findIndex((view) => view.revision === revision) === index,
  );
  return bestOfEach.find(({ fee }) => Number(fee) !== 0) ?? top;
}

/** A day without a time, or an hour that the clocks repeat, gives way to a view that knows the moment. */
function timeOf(top: Execution, ranked: ReadonlyArray<Execution>): Pick<Execution, "flags" | "occurredAt"> {
  const least = Math.min(...ranked.map(doubt));
  const timed = ranked.find((view) => doubt(view) === least) ?? top;
  const isDoubt = (flag: ExecutionFlag) => flag in DOUBTS;
  const flags = [...top.flags.filter((flag) => !isDoubt(flag)), ...timed.flags.filter(isDoubt)];
  return { flags, occurredAt: timed.occurredAt };
}

function doubt({ flags }: Execution): number {
  return Math.max(0, ...flags.map((flag) => DOUBTS[flag] ?? 0));
}
