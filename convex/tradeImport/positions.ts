// Keeps what is derived of executions in step with the rows before them. New rows go on from the position that is
// known; whatever else moves a position is noted, and the rows behind it are derived anew once it rests, in bounded
// steps. The decisions are in rules/direction.ts and rules/derivation.ts.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";
import { derive, derivedFlags, samePositions, withDerivedFlags, type Positions } from "./rules/derivation";
import { decimalOf, isPositive } from "./rules/decimal";
import { FLAT, positionAfter, sameLegs, type Leg } from "./rules/direction";
import { materialise, tradesOf, type TradeFacts } from "./rules/materialise";
import { refreshSuggestions } from "./suggestions";

/** Executions that one step derives anew, and as part of something else. */
const STEP = 200;
const SHORT_STEP = 100;

/** A run waits until nothing has moved the position for this long: a backfill does so with every batch … */
const QUIET_MS = 3_000;

/** … but not longer than this. */
const LONGEST_WAIT_MS = 60_000;

/** A run that is overdue by this much was lost. */
const LOST_AFTER_MS = 600_000;

/** Trades that somebody typed, read of one ticker between two executions, and in one transaction. */
const MAX_TYPED = 1_000;
const MAX_TYPED_IN_ALL = 4_000;

/** The newest of them, by which a change is noticed soon. */
const MAX_DIGESTED = 100;

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** Instruments looked at in one call of `touchPendingPositions`. */
const MAX_CHECKED = 100;

/** Later than any execution. */
const END = Number.MAX_SAFE_INTEGER;

type Stored = Doc<"externalExecutions">;
type InstrumentState = Doc<"importPositions">;
type TypedTrade = Doc<"trades">;

export type Instrument = Pick<InstrumentState, "accountRef" | "assetType" | "ownerId" | "ticker">;

/** A place in the order in which executions move a position: by time, then by id, those without one first. */
export type Moment = Pick<Stored, "externalExecutionId" | "ingestionHash" | "occurredAt">;

export function byMoment(a: Moment, b: Moment): number {
  return (
    a.occurredAt - b.occurredAt ||
    byText(a.externalExecutionId ?? "", b.externalExecutionId ?? "") ||
    byText(a.ingestionHash, b.ingestionHash)
  );
}

function byText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Null for an execution that has never been in the journal. */
export function instrumentOf({ accountRef, assetType, ownerId, ticker }: Stored): Instrument | null {
  return assetType === undefined || ticker === undefined ? null : { accountRef, assetType, ownerId, ticker };
}

/**
 * Something has moved the position between these two moments: what was derived from there on is derived anew, soon
 * and in steps.
 */
export async function touchPosition(
  ctx: MutationCtx,
  instrument: Instrument,
  from: number,
  to: number = from,
): Promise<void> {
  await plan(ctx, await note(ctx, instrument, from, to), QUIET_MS);
}

/** The same for an execution that was dismissed, undone, brought back or changed by hand. */
export async function touchExecution(ctx: MutationCtx, execution: Stored): Promise<void> {
  const instrument = instrumentOf(execution);
  if (instrument !== null) await touchPosition(ctx, instrument, execution.occurredAt);
}

/**
 * Rows of these executions were reviewed: they count from now on, and so may closes behind them. Done at once where
 * it is little, else soon.
 */
export async function settleReviewed(ctx: MutationCtx, executions: ReadonlyArray<Stored>): Promise<void> {
  const touched = new Map<string, { from: number; instrument: Instrument; to: number }>();
  for (const execution of executions) {
    const instrument = instrumentOf(execution);
    if (instrument === null) continue;
    const key = keyOf(instrument);
    const { occurredAt } = execution;
    const { from, to } = touched.get(key) ?? { from: occurredAt, to: occurredAt };
    touched.set(key, { from: Math.min(from, occurredAt), instrument, to: Math.max(to, occurredAt) });
  }
  let left = SHORT_STEP;
  for (const { from, instrument, to } of touched.values()) {
    const state = await note(ctx, instrument, from, to);
    const digest = await typedDigest(ctx, instrument);
    const current = digest === state.typedDigest ? state : await noteAll(ctx, state, digest);
    const { done, read } = left > 0 ? await step(ctx, current, left) : { done: false, read: 0 };
    left -= read;
    if (!done) await plan(ctx, current, 0);
  }
}

/**
 * Finds what moved positions without a word: trades that somebody typed, changed or deleted, which are the app's own
 * affair. To be called about once an hour; it looks at some instruments each time, the longest unseen first. All is
 * derived anew once a day for an instrument with rows in review, and once a week for the others. A run that was lost
 * is scheduled again. Returns how many instruments it touched.
 */
export async function touchPendingPositions(ctx: MutationCtx, limit: number = MAX_CHECKED): Promise<number> {
  const now = Date.now();
  const unseen = await ctx.db
    .query("importPositions")
    .withIndex("by_checkedAt", (q) => q.lt("checkedAt", now - HOUR / 2))
    .take(Math.min(limit, MAX_CHECKED));
  let touched = 0;
  for (const state of unseen) {
    const digest = await typedDigest(ctx, state);
    const patience = (await hasPending(ctx, state)) ? DAY : 7 * DAY;
    await ctx.db.patch("importPositions", state._id, { checkedAt: now });
    if (digest === state.typedDigest && state.fullAt > now - patience) continue;
    await plan(ctx, await noteAll(ctx, state, digest), QUIET_MS);
    touched += 1;
  }
  const dirty = await ctx.db
    .query("importPositions")
    .withIndex("by_dirtyFrom", (q) => q.gte("dirtyFrom", 0))
    .take(MAX_CHECKED);
  for (const state of dirty) await plan(ctx, state, QUIET_MS);
  return touched;
}

/** Derives one instrument's directions anew from where they may be wrong. */
export const recompute = internalMutation({
  args: { positionId: v.id("importPositions") },
  handler: async (ctx, { positionId }): Promise<null> => {
    const state = await ctx.db.get("importPositions", positionId);
    if (state === null) return null;
    if (state.dirtyFrom === undefined) {
      await ctx.db.patch("importPositions", positionId, { dueAt: undefined });
      return null;
    }
    const now = Date.now();
    const quietAt = Math.min((state.touchedAt ?? 0) + QUIET_MS, (state.dirtySince ?? 0) + LONGEST_WAIT_MS);
    const { done } = quietAt > now ? { done: false } : await step(ctx, state, STEP);
    if (done) await ctx.db.patch("importPositions", positionId, { dueAt: undefined });
    else await schedule(ctx, positionId, Math.max(0, quietAt - now));
    return null;
  },
  returns: v.null(),
});

/** The positions that new rows of one batch go on from, read once an instrument as long as they come in order. */
export class RunningPositions {
  private readonly running = new Map<string, Running>();
  private readonly moved = new Map<string, { from: number; instrument: Instrument; to: number }>();
  private typedLeft = MAX_TYPED_IN_ALL;

  constructor(private readonly ctx: MutationCtx) {}

  /** The positions just before this moment. */
  async before(instrument: Instrument, at: Moment): Promise<Positions> {
    const key = keyOf(instrument);
    const known = this.running.get(key);
    const isUsable = known !== undefined && byMoment(known.at, at) < 0 && (known.next === null || byMoment(at, known.next) < 0);
    const { next, positions, since } = isUsable ? { ...known, since: known.at.occurredAt } : await this.load(instrument, at);
    const typed = await typedTrades(this.ctx, instrument, { after: since, upTo: at.occurredAt }, this.typedLeft);
    this.typedLeft -= typed.trades.length;
    const now = typed.trades.reduce(withTyped, positions);
    this.running.set(key, { at, next, positions: now });
    // What could not be read here has its own transaction.
    if (next !== null || !typed.isComplete) this.move(instrument, at.occurredAt);
    return now;
  }

  /** The same for a stored row that moves; what lies behind it is derived anew anyway. */
  async beforeStored(instrument: Instrument, at: Moment, stored: Stored): Promise<Positions> {
    const near = await neighbour(this.ctx, instrument, at, "desc");
    const previous = near?._id === stored._id ? await neighbour(this.ctx, instrument, near, "desc") : near;
    const range = { after: previous?.occurredAt ?? null, upTo: at.occurredAt };
    const { trades } = await typedTrades(this.ctx, instrument, range, this.typedLeft);
    this.typedLeft -= trades.length;
    return trades.reduce(withTyped, positionsOf(previous));
  }

  /** What the position is after the row for which `before` was asked last. */
  after(instrument: Instrument, positions: Positions): void {
    const known = this.running.get(keyOf(instrument));
    if (known !== undefined) known.positions = positions;
  }

  /** A stored row of the instrument has changed. */
  change(instrument: Instrument, ...times: number[]): void {
    this.running.delete(keyOf(instrument));
    for (const time of times) this.move(instrument, time);
  }

  /** Has the rows behind those that did not come last derived anew. */
  async settle(): Promise<void> {
    for (const { from, instrument, to } of this.moved.values()) await touchPosition(this.ctx, instrument, from, to);
    this.moved.clear();
  }

  private move(instrument: Instrument, time: number): void {
    const key = keyOf(instrument);
    const { from, to } = this.moved.get(key) ?? { from: time, to: time };
    this.moved.set(key, { from: Math.min(from, time), instrument, to: Math.max(to, time) });
  }

  private async load(instrument: Instrument, at: Moment) {
    const previous = await neighbour(this.ctx, instrument, at, "desc");
    const next = await neighbour(this.ctx, instrument, at, "asc");
    if (previous === null && next === null) await stateOf(this.ctx, instrument);
    return { next, positions: positionsOf(previous), since: previous?.occurredAt ?? null };
  }
}

type Running = { at: Moment; next: Moment | null; positions: Positions };

/**
 * Writes the rows of an execution that are to say `after` where they said `before`. What both say stays as it is: a
 * user may have put the row right. Rows are added; one that is no more is deleted where nobody decided about it.
 */
export async function writeRows(
  ctx: MutationCtx,
  execution: Pick<Stored, "_id" | "importJobId" | "ownerId" | "tradeIds">,
  rows: ReadonlyArray<Doc<"trades"> | null>,
  { after, before }: { after: ReadonlyArray<TradeFacts>; before: ReadonlyArray<TradeFacts> },
): Promise<Id<"trades">[]> {
  const tradeIds = execution.tradeIds.slice(0, after.length);
  for (const [index, facts] of after.entries()) {
    const row = rows[index];
    if (index >= rows.length) tradeIds.push(await insertRow(ctx, execution, facts));
    // Somebody deleted the row: it does not come back.
    else if (row) await patchRow(ctx, row._id, differences(before[index], facts));
  }
  const [kept] = rows;
  for (const row of rows.slice(after.length)) {
    if (!row) continue;
    if (kept) await ctx.db.patch("trades", kept._id, inherited(kept, row));
    await ctx.db.delete("trades", row._id);
  }
  return tradeIds;
}

async function patchRow(ctx: MutationCtx, tradeId: Id<"trades">, changes: Partial<TradeFacts>): Promise<void> {
  if (Object.keys(changes).length > 0) await ctx.db.patch("trades", tradeId, changes);
}

/** A new row of the inbox. Never a plan or a campaign: linking is the user's. */
export async function insertRow(
  ctx: MutationCtx,
  { _id: executionId, importJobId, ownerId }: Pick<Stored, "_id" | "importJobId" | "ownerId">,
  facts: TradeFacts,
): Promise<Id<"trades">> {
  return await ctx.db.insert("trades", {
    ...facts,
    executionId,
    importJobId,
    inboxStatus: "pending_review",
    ownerId,
    suggestionReason: "none",
  });
}

/** The broker's facts that are not what they were, but for flags. */
export function differences(before: TradeFacts | undefined, after: TradeFacts): Partial<TradeFacts> {
  const { importFlags: _flags, ...facts } = after;
  const changed = Object.entries(facts).filter(([fact, value]) => before?.[fact as keyof TradeFacts] !== value);
  return Object.fromEntries(changed);
}

/** What a user wrote on a row that becomes part of another one. */
function inherited(kept: Doc<"trades">, gone: Doc<"trades">): Partial<Doc<"trades">> {
  const isLinked = kept.tradePlanId !== undefined || kept.campaignId !== undefined;
  return {
    notes: kept.notes ?? gone.notes,
    ...(isLinked ? {} : { campaignId: gone.campaignId, tradePlanId: gone.tradePlanId }),
  };
}

/** The rows of an execution by their legs; null is one that somebody deleted. */
export async function rowsOf(ctx: MutationCtx, { derived, tradeIds }: Stored): Promise<(Doc<"trades"> | null)[]> {
  const rows: (Doc<"trades"> | null)[] = Array.from({ length: derived?.legs.length ?? 0 }, () => null);
  for (const row of await Promise.all(tradeIds.map((tradeId) => ctx.db.get("trades", tradeId)))) {
    if (row !== null) rows[(row.leg ?? 1) - 1] = row;
  }
  return rows;
}

/** One step of the work, and how many executions it read. Notes what is left, but schedules nothing. */
async function step(ctx: MutationCtx, state: InstrumentState, limit: number): Promise<{ done: boolean; read: number }> {
  const from = state.dirtyFrom ?? END;
  const resumed = state.resumeAfter && (await ctx.db.get("externalExecutions", state.resumeAfter));
  const last = resumed?.occurredAt === from ? resumed : null;
  const page = last === null ? await pageFrom(ctx, state, from, limit) : await pageAfter(ctx, state, last, limit);
  const previous = last ?? (await lastBefore(ctx, state, from));
  const typed = await typedTrades(
    ctx,
    state,
    { after: previous?.occurredAt ?? null, upTo: page[page.length - 1]?.occurredAt ?? 0 },
    MAX_TYPED_IN_ALL,
  );
  if (!typed.isComplete) console.error(`More typed trades of ${state.ticker} than can be read at once; some do not count.`);

  let positions = positionsOf(previous);
  let next = 0;
  let isChanged = false;
  let isSettled = false;
  let done: Placed[] = [];
  for (const execution of page) {
    for (; (typed.trades[next]?.date ?? END) <= execution.occurredAt; next += 1) {
      const trade = typed.trades[next];
      if (trade !== undefined) positions = withTyped(positions, trade);
    }
    if (done.length > 0 && done[0]?.execution.occurredAt !== execution.occurredAt) {
      await restoreOrder(ctx, done);
      done = [];
    }
    const result = await deriveAnew(ctx, execution, positions);
    done.push(result);
    isChanged = isChanged || result.isChanged;
    positions = result.positions;
    isSettled = execution.occurredAt > (state.dirtyTo ?? END) && samePositions(positions, positionsOf(execution));
    if (isSettled) break;
  }
  await restoreOrder(ctx, done);
  if (isChanged) await refreshSuggestions(ctx, state.ownerId, [state]);

  const end = page[page.length - 1];
  const isDone = isSettled || end === undefined || page.length < limit;
  await ctx.db.patch("importPositions", state._id, {
    dirtyFrom: isDone ? undefined : end.occurredAt,
    // Touched again, it may wait anew.
    dirtySince: isDone ? undefined : Date.now(),
    dirtyTo: isDone ? undefined : state.dirtyTo,
    resumeAfter: isDone ? undefined : end._id,
    touchedAt: isDone ? undefined : state.touchedAt,
  });
  return { done: isDone, read: page.length };
}

type Placed = { execution: Stored; isChanged: boolean; positions: Positions; tradeIds: Id<"trades">[] };

async function deriveAnew(ctx: MutationCtx, execution: Stored, before: Positions): Promise<Placed> {
  const { derived } = execution;
  const { place } = materialise(execution);
  const unmoved = { execution, isChanged: false, tradeIds: execution.tradeIds };
  const rows = execution.state === "live" ? await rowsOf(ctx, execution) : [];
  if (derived === undefined || place === null || rows.every((row) => row === null)) {
    await save(ctx, execution, derived?.legs ?? [], before);
    return { ...unmoved, positions: before };
  }
  const placed = rows.map((row) => row && { ...row, isOut: isOut(row, execution) });
  const { flags, legs, positions } = derive({ ...execution, side: place.side }, before, { legs: derived.legs, rows: placed });
  const isMoved = !sameLegs(legs, derived.legs);
  const tradeIds = isMoved
    ? await writeRows(ctx, execution, rows, {
        after: tradesOf(execution, place, legs),
        before: tradesOf(execution, place, derived.legs),
      })
    : execution.tradeIds;
  for (const [index, row] of rows.entries()) {
    const wanted = flags[index];
    if (!row || !wanted || derivedFlags(row).join() === wanted.join()) continue;
    await ctx.db.patch("trades", row._id, { importFlags: withDerivedFlags(row.importFlags, wanted) });
  }
  await save(ctx, execution, legs, positions, tradeIds);
  return { execution, isChanged: isMoved, positions, tradeIds };
}

async function save(
  ctx: MutationCtx,
  execution: Stored,
  legs: Leg[],
  positions: Positions,
  tradeIds: Id<"trades">[] = execution.tradeIds,
): Promise<void> {
  const { derived } = execution;
  const isSame = derived !== undefined && samePositions(derived, positions) && sameLegs(derived.legs, legs);
  if (isSame && tradeIds === execution.tradeIds) return;
  await ctx.db.patch("externalExecutions", execution._id, { derived: { ...positions, legs }, tradeIds });
}

/**
 * Trades with equal times keep the order of insertion in the app's figures. A row that came late, or became two, is
 * inserted anew behind its neighbours of the same moment, as long as nobody has decided about those that must move.
 */
async function restoreOrder(ctx: MutationCtx, placed: ReadonlyArray<Placed>): Promise<void> {
  if (placed.length < 2) return;
  let newest = -Infinity;
  for (const { execution, tradeIds } of placed) {
    if (execution.state !== "live") continue;
    const ordered: Id<"trades">[] = [];
    for (const tradeId of tradeIds) {
      const row = await ctx.db.get("trades", tradeId);
      const isLate = row !== null && row._creationTime < newest && row.inboxStatus === "pending_review";
      if (row === null || !isLate) {
        newest = Math.max(newest, row?._creationTime ?? newest);
        ordered.push(tradeId);
        continue;
      }
      const { _creationTime, _id, ...fields } = row;
      await ctx.db.delete("trades", tradeId);
      const moved = await ctx.db.insert("trades", fields);
      newest = (await ctx.db.get("trades", moved))?._creationTime ?? newest;
      ordered.push(moved);
    }
    if (ordered.join() !== tradeIds.join()) {
      await ctx.db.patch("externalExecutions", execution._id, { tradeIds: ordered });
    }
  }
}

/** Somebody has made it a trade of something else, or the broker says that this leg never was. */
function isOut(row: Doc<"trades">, { assetType, ticker }: Stored): boolean {
  return row.assetType !== assetType || row.ticker !== ticker || row.importFlags?.includes("voided_by_broker") === true;
}

function positionsOf(execution: Stored | null): Positions {
  return execution?.derived ?? { after: FLAT, counted: FLAT };
}

function withTyped({ after, counted }: Positions, { direction, quantity, side }: TypedTrade): Positions {
  const exact = decimalOf(quantity);
  const trade = { direction, quantity: isPositive(exact) ? exact : "0", side };
  return { after: positionAfter(after, trade), counted: positionAfter(counted, trade) };
}

/** Trades have no account where somebody typed them, so they are part of every account's position. */
async function typedTrades(
  ctx: MutationCtx,
  { assetType, ticker }: Pick<Instrument, "assetType" | "ticker">,
  { after, upTo }: { after: number | null; upTo: number },
  limit: number,
): Promise<{ isComplete: boolean; trades: TypedTrade[] }> {
  const most = Math.min(limit, MAX_TYPED);
  if (most <= 0) return { isComplete: false, trades: [] };
  const trades = await ctx.db
    .query("trades")
    .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
      q
        .eq("ownerId", undefined)
        .eq("inboxStatus", undefined)
        .eq("ticker", ticker)
        .gt("date", after ?? -Infinity)
        .lte("date", upTo),
    )
    .take(most);
  return { isComplete: trades.length < most, trades: trades.filter((trade) => trade.assetType === assetType) };
}

/** A word that changes with the typed trades of a ticker, whatever was done to them. */
async function typedDigest(ctx: MutationCtx, { ticker }: Instrument): Promise<string> {
  const trades = await ctx.db
    .query("trades")
    .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
      q.eq("ownerId", undefined).eq("inboxStatus", undefined).eq("ticker", ticker),
    )
    .order("desc")
    .take(MAX_DIGESTED);
  const text = trades.map(({ _id, date, direction, quantity, side }) => [_id, date, direction, quantity, side].join()).join();
  let [high, low] = [0, 0];
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    low = Math.imul(low ^ code, 0x5bd1e995) + index;
    high = Math.imul(high ^ code, 0x1b873593) ^ (low >>> 13);
  }
  return trades.length === 0 ? "none" : `${trades.length}:${(high >>> 0).toString(36)}:${(low >>> 0).toString(36)}`;
}

async function hasPending(ctx: MutationCtx, { ownerId, ticker }: Instrument): Promise<boolean> {
  const row = await ctx.db
    .query("trades")
    .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
      q.eq("ownerId", ownerId).eq("inboxStatus", "pending_review").eq("ticker", ticker),
    )
    .first();
  return row !== null;
}

/** The nearest execution of the instrument before or after this moment. */
async function neighbour(
  ctx: MutationCtx,
  instrument: Instrument,
  at: Moment,
  order: "asc" | "desc",
): Promise<Stored | null> {
  const sign = order === "asc" ? 1 : -1;
  const near = await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_account_ticker_and_time", (q) => {
      const instrumentRange = q
        .eq("ownerId", instrument.ownerId)
        .eq("accountRef", instrument.accountRef)
        .eq("assetType", instrument.assetType)
        .eq("ticker", instrument.ticker);
      return order === "asc"
        ? instrumentRange.gte("occurredAt", at.occurredAt)
        : instrumentRange.lte("occurredAt", at.occurredAt);
    })
    .order(order)
    .first();
  if (near === null || near.occurredAt !== at.occurredAt || byMoment(near, at) * sign > 0) return near;
  // Others of the same instant lie between.
  const [same] = await sameInstant(ctx, instrument, at, order, 1);
  if (same !== undefined) return same;
  return order === "asc"
    ? ((await pageFrom(ctx, instrument, at.occurredAt, 1, true))[0] ?? null)
    : await lastBefore(ctx, instrument, at.occurredAt);
}

/** Executions of the same instant, behind or before one of them. */
async function sameInstant(
  ctx: MutationCtx,
  { accountRef, assetType, ownerId, ticker }: Instrument,
  { externalExecutionId, ingestionHash, occurredAt }: Moment,
  order: "asc" | "desc",
  limit: number,
): Promise<Stored[]> {
  const found: Stored[] = [];
  const twins = async () =>
    await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_account_ticker_and_time", (q) => {
        const range = q
          .eq("ownerId", ownerId)
          .eq("accountRef", accountRef)
          .eq("assetType", assetType)
          .eq("ticker", ticker)
          .eq("occurredAt", occurredAt)
          .eq("externalExecutionId", undefined);
        // A row with an id comes behind all that have none.
        if (externalExecutionId !== undefined) return range;
        return order === "asc" ? range.gt("ingestionHash", ingestionHash) : range.lt("ingestionHash", ingestionHash);
      })
      .order(order)
      .take(limit - found.length);
  const named = async () =>
    await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_account_ticker_and_time", (q) => {
        const range = q
          .eq("ownerId", ownerId)
          .eq("accountRef", accountRef)
          .eq("assetType", assetType)
          .eq("ticker", ticker)
          .eq("occurredAt", occurredAt);
        return order === "asc"
          ? range.gt("externalExecutionId", externalExecutionId ?? "")
          : range.gt("externalExecutionId", "").lt("externalExecutionId", externalExecutionId ?? "");
      })
      .order(order)
      .take(limit - found.length);
  const hasId = externalExecutionId !== undefined;
  if (order === "asc") {
    if (!hasId) found.push(...(await twins()));
    if (found.length < limit) found.push(...(await named()));
  } else {
    if (hasId) found.push(...(await named()));
    if (found.length < limit) found.push(...(await twins()));
  }
  return found;
}

async function pageFrom(
  ctx: MutationCtx,
  { accountRef, assetType, ownerId, ticker }: Instrument,
  from: number,
  limit: number,
  isExclusive = false,
): Promise<Stored[]> {
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_account_ticker_and_time", (q) => {
      const range = q
        .eq("ownerId", ownerId)
        .eq("accountRef", accountRef)
        .eq("assetType", assetType)
        .eq("ticker", ticker);
      return isExclusive ? range.gt("occurredAt", from) : range.gte("occurredAt", from);
    })
    .take(limit);
}

async function pageAfter(ctx: MutationCtx, instrument: Instrument, last: Stored, limit: number): Promise<Stored[]> {
  const same = await sameInstant(ctx, instrument, last, "asc", limit);
  if (same.length === limit) return same;
  return [...same, ...(await pageFrom(ctx, instrument, last.occurredAt, limit - same.length, true))];
}

async function lastBefore(
  ctx: MutationCtx,
  { accountRef, assetType, ownerId, ticker }: Instrument,
  before: number,
): Promise<Stored | null> {
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_account_ticker_and_time", (q) =>
      q
        .eq("ownerId", ownerId)
        .eq("accountRef", accountRef)
        .eq("assetType", assetType)
        .eq("ticker", ticker)
        .lt("occurredAt", before),
    )
    .order("desc")
    .first();
}

function keyOf({ accountRef, assetType, ownerId, ticker }: Instrument): string {
  return JSON.stringify([ownerId, accountRef, assetType, ticker]);
}

/** The instrument's row, made where there is none. */
async function stateOf(ctx: MutationCtx, instrument: Instrument): Promise<InstrumentState> {
  const { accountRef, assetType, ownerId, ticker } = instrument;
  const known = await ctx.db
    .query("importPositions")
    .withIndex("by_ownerId_and_accountRef_and_assetType_and_ticker", (q) =>
      q.eq("ownerId", ownerId).eq("accountRef", accountRef).eq("assetType", assetType).eq("ticker", ticker),
    )
    .unique();
  if (known !== null) return known;
  const now = Date.now();
  const positionId = await ctx.db.insert("importPositions", {
    accountRef,
    assetType,
    checkedAt: now,
    fullAt: now,
    ownerId,
    ticker,
    typedDigest: "none",
  });
  return await changed(ctx, positionId, {});
}

async function note(ctx: MutationCtx, instrument: Instrument, from: number, to: number): Promise<InstrumentState> {
  const state = await stateOf(ctx, instrument);
  const dirty = state.dirtyFrom;
  const now = Date.now();
  return await changed(ctx, state._id, {
    dirtyFrom: Math.min(from, dirty ?? from),
    dirtySince: state.dirtySince ?? now,
    dirtyTo: Math.max(to, state.dirtyTo ?? to, dirty ?? to),
    // Nothing before it has changed: a run that stopped there goes on.
    resumeAfter: dirty !== undefined && from > dirty ? state.resumeAfter : undefined,
    touchedAt: now,
  });
}

async function noteAll(ctx: MutationCtx, state: InstrumentState, digest: string): Promise<InstrumentState> {
  const noted = await note(ctx, state, 0, END);
  return await changed(ctx, noted._id, { fullAt: Date.now(), typedDigest: digest });
}

/** Schedules a run, unless one is. */
async function plan(ctx: MutationCtx, state: InstrumentState, delay: number): Promise<void> {
  const now = Date.now();
  const current = await ctx.db.get("importPositions", state._id);
  if (current?.dueAt !== undefined && current.dueAt > now - LOST_AFTER_MS) return;
  await schedule(ctx, state._id, delay);
}

async function schedule(ctx: MutationCtx, positionId: Id<"importPositions">, delay: number): Promise<void> {
  await ctx.db.patch("importPositions", positionId, { dueAt: Date.now() + delay });
  await ctx.scheduler.runAfter(delay, internal.tradeImport.positions.recompute, { positionId });
}

async function changed(
  ctx: MutationCtx,
  positionId: Id<"importPositions">,
  changes: Partial<InstrumentState>,
): Promise<InstrumentState> {
  await ctx.db.patch("importPositions", positionId, changes);
  const state = await ctx.db.get("importPositions", positionId);
  if (state === null) throw new Error("The position is gone.");
  return state;
}
