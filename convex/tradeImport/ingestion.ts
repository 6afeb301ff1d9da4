// From the worker's rows to executions, trades and rejects, inside the mutation that received them.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { originalsOf, voids, withTrade } from "./cancels";
import { bringBack } from "./decisions";
import { refusal } from "./errors";
import { byMoment, differences, insertRow, instrumentOf, rowsOf, RunningPositions, writeRows } from "./positions";
import { accountRefOf } from "./rules/accounts";
import { isDecimal, isPositive } from "./rules/decimal";
import { correctedLegs, derivedFlags, isUndecided, withDerivedFlags } from "./rules/derivation";
import { legsOf, positionAfterAll, type Fill } from "./rules/direction";
import { materialise, tradesOf, type Place, type TradeFacts } from "./rules/materialise";
import { plainSentence } from "./rules/text";
import { isOutdated, isSameVoice, mergeViews, OPTIONAL, sameFacts, viewsAfter } from "./rules/views";
import { viewsOf } from "./state";
import { refreshSuggestions } from "./suggestions";
import type { Execution, ImportFlag, Reject, View } from "./validators";

export const MAX_BATCH = 500;

/** Names and ids longer than this are no broker's. */
const MAX_NAME = 500;

/** Of one row as its source sent it: a document holds a mebibyte. */
const MAX_PAYLOAD = 131_072;

/** `asOf`: up to when the rows' word holds, where a kept report is read again; else null, for now. */
type Job = { asOf: number | null; connection: Doc<"brokerageConnections">; job: Doc<"importJobs">; now: number; running: RunningPositions };

type Stored = Doc<"externalExecutions">;

export type Fates = { held: number; inserted: number; known: number; rejected: number; updated: number };

/** What became of one row: exactly one of the counters. */
type Fate = keyof Fates;

/** And the trades of which the suggestions may have changed with it. */
type Outcome = { fate: Fate; trades: TradeFacts[] };

export async function storeBatch(
  ctx: MutationCtx,
  { asOf, connection, job: importJob, now }: Omit<Job, "running">,
  executions: Execution[],
  rejects: Reject[],
): Promise<Fates> {
  if (executions.length > MAX_BATCH || rejects.length > MAX_BATCH) {
    throw refusal("invalid_row", `A batch holds at most ${MAX_BATCH} rows; send it in parts.`);
  }
  for (const execution of executions) check(execution, connection);

  const job: Job = { asOf, connection, job: importJob, now, running: new RunningPositions(ctx) };
  const fates: Fates = { held: 0, inserted: 0, known: 0, rejected: 0, updated: 0 };
  const touched = new Map<string, TradeFacts>();
  // Trades with equal times keep the order of insertion in the app's figures, so it must not be chance; and a
  // correction follows what it corrects and the cancel of that, which may name no more than the first booking.
  for (const execution of [...executions].sort(byTimeRevisionAndKey)) {
    const { fate, trades } = await storeExecution(ctx, job, execution);
    fates[fate] += 1;
    for (const trade of trades) touched.set(trade.ticker, trade);
  }
  await job.running.settle();
  await resolveRejects(ctx, job, executions);
  for (const reject of rejects) fates[await storeReject(ctx, job, reject)] += 1;
  await refreshSuggestions(ctx, job.connection.ownerId, [...touched.values()]);
  return fates;
}

/** The worker splits a refused batch until the offending row is alone, so each refusal names one row. */
function check(execution: Execution, connection: Doc<"brokerageConnections">): void {
  if (execution.accountRef !== connection.accountRef || execution.provider !== connection.provider) {
    throw refusal("other_account", "A row belongs to another account than the one connected.");
  }
  const wrong = problemOf(execution);
  if (wrong !== null) throw refusal("invalid_row", `${keyOf(execution).slice(0, 100)}: ${wrong}`);
}

function problemOf(execution: Execution): string | null {
  for (const field of ["fee", "price", "quantity"] as const) {
    if (!isDecimal(execution[field])) return `${field} is not a plain decimal`;
  }
  if (execution.kind === "fill" && !isPositive(execution.quantity)) return "quantity is not positive";
  if (execution.kind === "fill" && execution.side === undefined) return "side is missing";
  if (!Number.isSafeInteger(execution.occurredAt) || execution.occurredAt < 0) return "occurredAt is not a time";
  if (!Number.isSafeInteger(execution.revision)) return "revision is not a number";
  if (execution.externalExecutionId === "") return "externalExecutionId is empty";
  for (const field of ["externalExecutionId", "externalOrderId", "rawSymbol", "symbol"] as const) {
    if ((execution[field] ?? "").length > MAX_NAME) return `${field} is too long`;
  }
  if (execution.rawPayload.length > MAX_PAYLOAD) return "the row is too long";
  return null;
}

function keyOf(execution: Execution): string {
  return execution.externalExecutionId ?? execution.ingestionHash;
}

function byTimeRevisionAndKey(a: Execution, b: Execution): number {
  return a.occurredAt - b.occurredAt || a.revision - b.revision || byMoment(a, b);
}

async function storeExecution(ctx: MutationCtx, job: Job, incoming: Execution): Promise<Outcome> {
  const execution = incoming.kind === "cancel" ? withTrade(incoming) : incoming;
  const stored = await findExecution(ctx, job.connection.ownerId, execution);
  if (stored === null) {
    return execution.kind === "cancel"
      ? await insertCancel(ctx, job, execution)
      : await insertExecution(ctx, job, execution);
  }
  if (stored.state === "undone") return await storeAgain(ctx, job, stored, execution);
  const views = viewsOf(stored);
  const known = views.find((view) => isSameVoice(view, execution));
  if (known !== undefined && sameFacts(known, execution)) return { fate: "known", trades: [] };
  if (known !== undefined && job.asOf !== null && isOutdated(known, job.asOf)) return { fate: "known", trades: [] };
  const after = viewsAfter(views, { ...execution, importJobId: job.job._id, seenAt: job.asOf ?? job.now });
  return stored.kind === "cancel"
    ? await reviseCancel(ctx, job.running, stored, after)
    : await revise(ctx, job.running, job.job._id, stored, after);
}

/** An undone execution comes back as it was, with what was decided about it, and learns what is said of it now. */
async function storeAgain(ctx: MutationCtx, job: Job, stored: Stored, execution: Execution): Promise<Outcome> {
  const back = await comeBack(ctx, job.running, stored, job.job._id);
  const after = viewsAfter(viewsOf(back), { ...execution, importJobId: job.job._id, seenAt: job.asOf ?? job.now });
  if (back.kind === "cancel") return await reviseCancel(ctx, job.running, back, after);
  const { trades } = await revise(ctx, job.running, job.job._id, back, after);
  const merged = mergeViews(after);
  const { place } = materialise(merged);
  if (place === null) return { fate: "held", trades };
  return { fate: "inserted", trades: [...trades, ...tradesOf(merged, place, back.derived?.legs ?? [])] };
}

/** Its rows stand where they stood, and move the position again. */
async function comeBack(
  ctx: MutationCtx,
  running: RunningPositions,
  stored: Stored,
  importJobId: Id<"importJobs">,
): Promise<Stored> {
  const instrument = instrumentOf(stored);
  if (instrument !== null) running.change(instrument, stored.occurredAt);
  return await bringBack(ctx, stored, importJobId);
}

/** By the broker's id; a row without one by its hash, and only among rows without one. */
export async function findExecution(
  ctx: QueryCtx,
  ownerId: string,
  execution: Execution,
): Promise<Doc<"externalExecutions"> | null> {
  const { accountRef, externalExecutionId, ingestionHash, provider } = execution;
  if (externalExecutionId !== undefined) {
    return await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_provider_account_executionId", (q) =>
        q
          .eq("ownerId", ownerId)
          .eq("provider", provider)
          .eq("accountRef", accountRef)
          .eq("externalExecutionId", externalExecutionId),
      )
      .unique();
  }
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_hash", (q) =>
      q
        .eq("ownerId", ownerId)
        .eq("provider", provider)
        .eq("accountRef", accountRef)
        .eq("ingestionHash", ingestionHash)
        .eq("externalExecutionId", undefined),
    )
    .unique();
}

async function insertExecution(
  ctx: MutationCtx,
  { connection, job, running }: Job,
  execution: Execution,
): Promise<Outcome> {
  const { ownerId } = connection;
  const made = materialise(execution);
  const voided = await voids(ctx, { ...execution, ownerId }, [execution]);
  const executionId = await ctx.db.insert("externalExecutions", {
    ...execution,
    connectionId: connection._id,
    heldReason: made.place === null ? made.heldReason : undefined,
    importJobId: job._id,
    ownerId,
    state: voided ? "voided" : made.place === null ? "held" : "live",
    tradeIds: [],
  });
  if (made.place === null) return { fate: "held", trades: [] };
  const entering = { ...execution, _id: executionId, importJobId: job._id, ownerId };
  return { fate: "inserted", trades: await enter(ctx, running, entering, made.place, voided) };
}

/**
 * Brings an execution that has no trades into the journal, or back into it: as new rows of the inbox, or held where the
 * journal has no place for it. Returns the trades it became, of which the suggestions may have changed.
 */
export async function enterJournal(ctx: MutationCtx, stored: Stored): Promise<TradeFacts[]> {
  const made = materialise(stored);
  const voided = await voids(ctx, stored, viewsOf(stored));
  if (made.place === null) {
    const state = voided ? "voided" : "held";
    await ctx.db.patch("externalExecutions", stored._id, { heldReason: made.heldReason, state });
    return [];
  }
  const running = new RunningPositions(ctx);
  const trades = await enter(ctx, running, stored, made.place, voided);
  await running.settle();
  return trades;
}

type Entering = Execution & Pick<Stored, "_id" | "importJobId" | "ownerId">;

async function enter(
  ctx: MutationCtx,
  running: RunningPositions,
  execution: Entering,
  place: Place,
  voided: boolean,
): Promise<TradeFacts[]> {
  const { assetType, side, ticker } = place;
  const instrument = { accountRef: execution.accountRef, assetType, ownerId: execution.ownerId, ticker };
  const before = await running.before(instrument, execution);
  const legs = legsOf({ ...execution, side }, before.after);
  // A row that waits for review does not count, and one that never happened moves nothing.
  const positions = voided ? before : { after: positionAfterAll(before.after, legs), counted: before.counted };
  running.after(instrument, positions);
  const trades = tradesOf(execution, place, legs);
  const tradeIds: Id<"trades">[] = [];
  for (const trade of trades) {
    const importFlags = flagsWith(trade.importFlags, { changed: false, voided });
    tradeIds.push(await insertRow(ctx, execution, { ...trade, importFlags }));
  }
  await ctx.db.patch("externalExecutions", execution._id, {
    assetType,
    derived: { ...positions, legs },
    heldReason: undefined,
    state: voided ? "voided" : "live",
    ticker,
    tradeIds,
  });
  return trades;
}

/** A cancel voids what it names; until that is known, it is held and shown. */
async function insertCancel(ctx: MutationCtx, { connection, job, running }: Job, cancel: Execution): Promise<Outcome> {
  const { ownerId } = connection;
  const originals = await originalsOf(ctx, { ...cancel, ownerId }, cancel);
  await ctx.db.insert("externalExecutions", {
    ...cancel,
    ...placeOfCancel(originals),
    connectionId: connection._id,
    importJobId: job._id,
    ownerId,
    tradeIds: [],
  });
  return { fate: originals.length === 0 ? "held" : "updated", trades: await reviseAll(ctx, originals, running) };
}

async function reviseCancel(
  ctx: MutationCtx,
  running: RunningPositions,
  stored: Stored,
  views: View[],
): Promise<Outcome> {
  const merged = mergeViews(views);
  const originals = await originalsOf(ctx, stored, merged);
  await ctx.db.patch("externalExecutions", stored._id, { ...told(stored, merged, views), ...placeOfCancel(originals) });
  return { fate: sameFacts(stored, merged) ? "known" : "updated", trades: await reviseAll(ctx, originals, running) };
}

function placeOfCancel(originals: unknown[]): Pick<Doc<"externalExecutions">, "heldReason" | "state"> {
  return originals.length === 0
    ? { heldReason: "original_not_seen", state: "held" }
    : { heldReason: undefined, state: "live" };
}

/** Brings executions in step with the cancels that are known. */
export async function reviseAll(
  ctx: MutationCtx,
  originals: Stored[],
  running?: RunningPositions,
): Promise<TradeFacts[]> {
  const own = running ?? new RunningPositions(ctx);
  const trades: TradeFacts[] = [];
  for (const original of originals) {
    trades.push(...(await revise(ctx, own, original.importJobId, original, viewsOf(original))).trades);
  }
  if (running === undefined) await own.settle();
  return trades;
}

/**
 * Brings an execution and its trades in step with all that is said of it and with the cancels that are known. What
 * a user decided about a trade stays; a dismissed execution learns its news and stays dismissed.
 */
async function revise(
  ctx: MutationCtx,
  running: RunningPositions,
  importJobId: Id<"importJobs">,
  stored: Stored,
  views: View[],
): Promise<Outcome> {
  const merged = mergeViews(views);
  const made = materialise(merged);
  const voided = await voids(ctx, stored, views);
  const fate = sameFacts(stored, merged) && stored.revision === merged.revision ? "known" : "updated";
  const news = told(stored, merged, views);
  if (stored.state === "dismissed" && stored.decisions !== undefined && !voided) {
    // It was put away because the broker had cancelled it, and it is cancelled no more.
    const back = await comeBack(ctx, running, stored, stored.importJobId);
    return await revise(ctx, running, importJobId, back, views);
  }
  if (stored.state === "dismissed" || stored.state === "undone") {
    await ctx.db.patch("externalExecutions", stored._id, news);
    const instrument = instrumentOf(stored);
    // It moves nothing, but has its place among those that do.
    if (instrument !== null && byMoment(stored, merged) !== 0) {
      running.change(instrument, stored.occurredAt, merged.occurredAt);
    }
    return { fate, trades: [] };
  }
  if (stored.heldReason !== undefined && made.place === null) {
    const place = { heldReason: made.heldReason, state: voided ? ("voided" as const) : ("held" as const) };
    await ctx.db.patch("externalExecutions", stored._id, { ...news, ...place });
    return { fate, trades: [] };
  }
  const state = voided ? ("voided" as const) : ("live" as const);
  if (stored.heldReason !== undefined && made.place !== null) {
    await ctx.db.patch("externalExecutions", stored._id, { ...news, state });
    const entering = { ...merged, _id: stored._id, importJobId, ownerId: stored.ownerId };
    return { fate, trades: await enter(ctx, running, entering, made.place, voided) };
  }
  if (fate === "known" && voided === (stored.state === "voided")) {
    await ctx.db.patch("externalExecutions", stored._id, { ...news, state });
    return { fate, trades: [] };
  }
  const { place, trades } = await reviseRows(ctx, running, stored, { merged, place: made.place, voided });
  await ctx.db.patch("externalExecutions", stored._id, { ...news, ...place, state });
  return { fate, trades };
}

type News = { merged: Execution; place: Place | null; voided: boolean };

/** What of an execution's place in the journal has changed. */
type NewPlace = Partial<Pick<Stored, "assetType" | "derived" | "ticker" | "tradeIds">>;

async function reviseRows(
  ctx: MutationCtx,
  running: RunningPositions,
  stored: Stored,
  { merged, place, voided }: News,
): Promise<{ place: NewPlace; trades: TradeFacts[] }> {
  const was = materialise(stored).place;
  if (was === null || stored.derived === undefined) return { place: {}, trades: [] };
  const rows = await rowsOf(ctx, stored);
  const before = tradesOf(stored, was, stored.derived.legs);
  const isFree = isUndecided(rows, stored.derived.legs);
  if (place === null) {
    // What is no trade any more stays as it was: the row may be somebody's.
    running.change({ ...stored, ...was }, stored.occurredAt);
    for (const row of rows) await reviseFlags(ctx, row, { after: undefined, before: undefined, isFree, voided });
    return { place: {}, trades: before };
  }
  const moved = await replaced(running, stored, { isFree, merged, place, voided, was });
  const after = tradesOf(merged, place, moved.derived?.legs ?? stored.derived.legs);
  const written = await writeRows(ctx, stored, isFree ? rows : rows.slice(0, after.length), { after, before });
  // The row of a leg that is no more stays where somebody decided about it, and says so.
  const tradeIds = isFree ? written : [...written, ...stored.tradeIds.slice(written.length)];
  for (const [index, row] of rows.entries()) {
    const isGone = index >= after.length;
    if (isGone && isFree) continue;
    await reviseFlags(ctx, row, { after: after[index], before: before[index], isFree, voided: voided || isGone });
  }
  return { place: { ...moved, tradeIds }, trades: [...before, ...after] };
}

/** Gives a corrected execution its place among the others. */
async function replaced(
  running: RunningPositions,
  stored: Stored,
  { isFree, merged, place, voided, was }: News & { isFree: boolean; place: Place; was: Place },
): Promise<NewPlace> {
  const { accountRef, ownerId } = stored;
  const { assetType, side, ticker } = place;
  const isMoved = ticker !== was.ticker || assetType !== was.assetType || !isSameFill(stored, merged);
  const isTurned = voided !== (stored.state === "voided");
  const left = { accountRef, assetType: was.assetType, ownerId, ticker: was.ticker };
  if (isMoved || isTurned) running.change(left, stored.occurredAt);
  if (!isMoved) return {};

  const entered = { accountRef, assetType, ownerId, ticker };
  const base = await running.beforeStored(entered, merged, stored);
  const fill: Fill = { ...merged, side };
  const fresh = legsOf(fill, base.after);
  const legs = stored.derived?.legs ?? [];
  const isNews = merged.quantity !== stored.quantity || merged.side !== stored.side;
  const next = isFree ? fresh : isNews ? correctedLegs(legs, fresh, fill) : legs;
  const positions = voided ? base : { after: positionAfterAll(base.after, next), counted: base.counted };
  running.change(entered, merged.occurredAt);
  return { assetType, derived: { ...positions, legs: next }, ticker };
}

/** Do both move a position alike, at the same moment? */
function isSameFill(a: Execution, b: Execution): boolean {
  return (
    a.assetClass === b.assetClass &&
    a.occurredAt === b.occurredAt &&
    a.openClose === b.openClose &&
    a.quantity === b.quantity &&
    a.side === b.side &&
    [...a.flags].sort().join() === [...b.flags].sort().join()
  );
}

async function reviseFlags(
  ctx: MutationCtx,
  row: Doc<"trades"> | null,
  {
    after,
    before,
    isFree,
    voided,
  }: { after: TradeFacts | undefined; before: TradeFacts | undefined; isFree: boolean; voided: boolean },
): Promise<void> {
  // Somebody deleted the row: the execution stays, the row does not come back.
  if (row === null) return;
  const flags = row.importFlags ?? [];
  const turned = voided !== flags.includes("voided_by_broker");
  const changed = row.inboxStatus === "reviewed" && (turned || contradicts(before, after));
  const moved = after !== undefined && before !== undefined && after.ticker !== before.ticker && after.ticker !== row.ticker;
  const facts = after?.importFlags ?? flags.filter(isFact);
  await ctx.db.patch("trades", row._id, {
    importFlags: flagsWith(isFree ? facts : withDerivedFlags(facts, derivedFlags(row)), {
      changed: changed || flags.includes("changed_by_broker"),
      voided,
    }),
    ...(voided || moved ? { suggestedTradePlanId: undefined, suggestionReason: "none" as const } : {}),
  });
}

/**
 * Is something else now said than before? A currency that Flex adds to a live fill is no news of the broker, nor is
 * an order's number, which every source gives anew (reference ibkr 5).
 */
function contradicts(before: TradeFacts | undefined, after: TradeFacts | undefined): boolean {
  if (before === undefined || after === undefined) return before === undefined && after !== undefined;
  const { externalOrderId: _order, leg: _leg, ...changes } = differences(before, after);
  return Object.keys(changes).some((fact) => before[fact as keyof TradeFacts] !== undefined);
}

/** Not a flag that tells what the broker did to the row after it was imported. */
function isFact(flag: ImportFlag): boolean {
  return flag !== "changed_by_broker" && flag !== "voided_by_broker";
}

function flagsWith(facts: ImportFlag[], news: { changed: boolean; voided: boolean }): ImportFlag[] {
  return [
    ...facts,
    ...(news.changed ? (["changed_by_broker"] as const) : []),
    ...(news.voided ? (["voided_by_broker"] as const) : []),
  ];
}

/** What is stored of `views`, as patch understands it: a field that none of them states is removed. */
function told(stored: Doc<"externalExecutions">, merged: Execution, views: View[]): Partial<Doc<"externalExecutions">> {
  const gone = OPTIONAL.filter((field) => stored[field] !== undefined && merged[field] === undefined);
  return {
    ...Object.fromEntries(gone.map((field) => [field, undefined])),
    ...merged,
    // The only view needs no list, unless it came later than the row.
    views: views.length > 1 || views[0]?.seenAt !== stored._creationTime ? views : undefined,
  };
}

/** A row that could not be read before, or had no connection of its account, has arrived. */
async function resolveRejects(ctx: MutationCtx, { connection, now }: Job, executions: Execution[]): Promise<void> {
  const { ownerId } = connection;
  const open = await ctx.db
    .query("importRejects")
    .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
      q.eq("ownerId", ownerId).eq("resolvedAt", undefined).gt("externalExecutionId", ""),
    )
    .first();
  if (open === null) return;
  for (const { externalExecutionId } of executions) {
    if (externalExecutionId === undefined) continue;
    const rejects = await ctx.db
      .query("importRejects")
      .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
        q.eq("ownerId", ownerId).eq("resolvedAt", undefined).eq("externalExecutionId", externalExecutionId),
      )
      .take(MAX_BATCH);
    for (const reject of rejects) {
      if (concerns(reject, connection)) await ctx.db.patch("importRejects", reject._id, { resolvedAt: now });
    }
  }
}

/** Is the reject's row one of this connection's account? One that names no account is its own connection's. */
function concerns(reject: Doc<"importRejects">, connection: Doc<"brokerageConnections">): boolean {
  if (reject.accountRef === undefined) return reject.connectionId === connection._id;
  return reject.accountRef === connection.accountRef;
}

async function storeReject(ctx: MutationCtx, { connection, job, now }: Job, reject: Reject): Promise<Fate> {
  const known = await ctx.db
    .query("importRejects")
    .withIndex("by_connectionId_and_fingerprint", (q) =>
      q.eq("connectionId", connection._id).eq("fingerprint", reject.fingerprint),
    )
    .unique();
  if (known !== null) return "known";
  const accountRef = accountRefOf(connection.provider, reject.accountRef ?? "") || undefined;
  await ctx.db.insert("importRejects", {
    ...reject,
    accountRef,
    connectionId: connection._id,
    importJobId: job._id,
    ownerId: connection.ownerId,
    rawPayload: reject.rawPayload.slice(0, MAX_PAYLOAD),
    reason: plainSentence(reject.reason),
    // The same end whichever of the two came first.
    resolvedAt: (await hasExecution(ctx, connection, { ...reject, accountRef })) ? now : undefined,
  });
  return "rejected";
}

async function hasExecution(
  ctx: MutationCtx,
  connection: Doc<"brokerageConnections">,
  reject: Reject,
): Promise<boolean> {
  const { ownerId, provider } = connection;
  const { accountRef = connection.accountRef, externalExecutionId } = reject;
  if (externalExecutionId === undefined || accountRef === undefined) return false;
  const execution = await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_executionId", (q) =>
      q
        .eq("ownerId", ownerId)
        .eq("provider", provider)
        .eq("accountRef", accountRef)
        .eq("externalExecutionId", externalExecutionId),
    )
    .unique();
  return execution !== null;
}
