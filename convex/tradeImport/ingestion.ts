// From the worker's rows to executions, trades and rejects, inside the mutation that received them.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { originalsOf, voids, withTrade } from "./cancels";
import { refusal } from "./errors";
import { accountRefOf } from "./rules/accounts";
import { isDecimal, isPositive } from "./rules/decimal";
import { materialise, type TradeFacts } from "./rules/materialise";
import { isOutdated, isSameVoice, mergeViews, OPTIONAL, sameFacts, viewsAfter } from "./rules/views";
import { viewsOf } from "./state";
import { refreshSuggestions } from "./suggestions";
import type { Execution, ImportFlag, Reject, View } from "./validators";

export const MAX_BATCH = 500;

/** `asOf`: up to when the rows' word holds, where a kept report is read again; else null, for now. */
type Job = { asOf: number | null; connection: Doc<"brokerageConnections">; job: Doc<"importJobs">; now: number };

export type Fates = { held: number; inserted: number; known: number; rejected: number; updated: number };

/** What became of one row: exactly one of the counters. */
type Fate = keyof Fates;

/** And the trades of which the suggestions may have changed with it. */
type Outcome = { fate: Fate; trades: TradeFacts[] };

export async function storeBatch(
  ctx: MutationCtx,
  job: Job,
  executions: Execution[],
  rejects: Reject[],
): Promise<Fates> {
  if (executions.length > MAX_BATCH || rejects.length > MAX_BATCH) {
    throw refusal("invalid_row", `A batch holds at most ${MAX_BATCH} rows; send it in parts.`);
  }
  for (const execution of executions) check(execution, job.connection);

  const fates: Fates = { held: 0, inserted: 0, known: 0, rejected: 0, updated: 0 };
  const touched = new Map<string, TradeFacts>();
  // Trades with equal times keep the order of insertion in the app's figures, so it must not be chance; and a
  // correction follows what it corrects and the cancel of that, which may name no more than the first booking.
  for (const execution of [...executions].sort(byTimeRevisionAndKey)) {
    const { fate, trades } = await storeExecution(ctx, job, execution);
    fates[fate] += 1;
    for (const trade of trades) touched.set(trade.ticker, trade);
  }
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
  if (wrong !== null) throw refusal("invalid_row", `${keyOf(execution)}: ${wrong}`);
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
  return null;
}

function keyOf(execution: Execution): string {
  return execution.externalExecutionId ?? execution.ingestionHash;
}

function byTimeRevisionAndKey(a: Execution, b: Execution): number {
  const [first, second] = [keyOf(a), keyOf(b)];
  return a.occurredAt - b.occurredAt || a.revision - b.revision || (first === second ? 0 : first < second ? -1 : 1);
}

async function storeExecution(ctx: MutationCtx, job: Job, incoming: Execution): Promise<Outcome> {
  const execution = incoming.kind === "cancel" ? withTrade(incoming) : incoming;
  const stored = await findExecution(ctx, job.connection.ownerId, execution);
  if (stored === null) {
    return execution.kind === "cancel"
      ? await insertCancel(ctx, job, execution)
      : await insertExecution(ctx, job, execution);
  }
  const views = viewsOf(stored);
  const known = views.find((view) => isSameVoice(view, execution));
  if (known !== undefined && sameFacts(known, execution)) return { fate: "known", trades: [] };
  if (known !== undefined && job.asOf !== null && isOutdated(known, job.asOf)) return { fate: "known", trades: [] };
  const after = viewsAfter(views, { ...execution, importJobId: job.job._id, seenAt: job.asOf ?? job.now });
  return stored.kind === "cancel"
    ? await reviseCancel(ctx, stored, after)
    : await revise(ctx, job.job._id, stored, after);
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

async function insertExecution(ctx: MutationCtx, { connection, job }: Job, execution: Execution): Promise<Outcome> {
  const { ownerId } = connection;
  const made = materialise(execution);
  const voided = await voids(ctx, { ...execution, ownerId }, [execution]);
  const executionId = await ctx.db.insert("externalExecutions", {
    ...execution,
    connectionId: connection._id,
    heldReason: made.trades === null ? made.heldReason : undefined,
    importJobId: job._id,
    ownerId,
    state: voided ? "voided" : made.trades === null ? "held" : "live",
    tradeIds: [],
  });
  if (made.trades === null) return { fate: "held", trades: [] };
  await insertTrades(ctx, { executionId, importJobId: job._id, ownerId }, made.trades, voided);
  return { fate: "inserted", trades: made.trades };
}

/** The rows of the inbox for one execution. Never a plan or a campaign: linking is the user's. */
export async function insertTrades(
  ctx: MutationCtx,
  origin: { executionId: Id<"externalExecutions">; importJobId: Id<"importJobs">; ownerId: string },
  trades: TradeFacts[],
  voided: boolean,
): Promise<void> {
  const tradeIds: Id<"trades">[] = [];
  for (const trade of trades) {
    tradeIds.push(
      await ctx.db.insert("trades", {
        ...trade,
        ...origin,
        importFlags: flagsWith(trade.importFlags, { changed: false, voided }),
        inboxStatus: "pending_review",
        suggestionReason: "none",
      }),
    );
  }
  await ctx.db.patch("externalExecutions", origin.executionId, {
    heldReason: undefined,
    state: voided ? "voided" : "live",
    tradeIds,
  });
}

/** A cancel voids what it names; until that is known, it is held and shown. */
async function insertCancel(ctx: MutationCtx, { connection, job }: Job, cancel: Execution): Promise<Outcome> {
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
  return { fate: originals.length === 0 ? "held" : "updated", trades: await reviseAll(ctx, originals) };
}

async function reviseCancel(ctx: MutationCtx, stored: Doc<"externalExecutions">, views: View[]): Promise<Outcome> {
  const merged = mergeViews(views);
  const originals = await originalsOf(ctx, stored, merged);
  await ctx.db.patch("externalExecutions", stored._id, { ...told(stored, merged, views), ...placeOfCancel(originals) });
  return { fate: sameFacts(stored, merged) ? "known" : "updated", trades: await reviseAll(ctx, originals) };
}

function placeOfCancel(originals: unknown[]): Pick<Doc<"externalExecutions">, "heldReason" | "state"> {
  return originals.length === 0
    ? { heldReason: "original_not_seen", state: "held" }
    : { heldReason: undefined, state: "live" };
}

async function reviseAll(ctx: MutationCtx, originals: Doc<"externalExecutions">[]): Promise<TradeFacts[]> {
  const trades: TradeFacts[] = [];
  for (const original of originals) {
    trades.push(...(await revise(ctx, original.importJobId, original, viewsOf(original))).trades);
  }
  return trades;
}

/**
 * Brings an execution and its trades in step with all that is said of it and with the cancels that are known. What
 * a user decided about a trade stays; a dismissed execution learns its news and stays dismissed.
 */
async function revise(
  ctx: MutationCtx,
  importJobId: Id<"importJobs">,
  stored: Doc<"externalExecutions">,
  views: View[],
): Promise<Outcome> {
  const merged = mergeViews(views);
  const made = materialise(merged);
  const voided = await voids(ctx, stored, views);
  const fate = sameFacts(stored, merged) && stored.revision === merged.revision ? "known" : "updated";
  const news = told(stored, merged, views);
  if (stored.state === "dismissed") {
    await ctx.db.patch("externalExecutions", stored._id, news);
    return { fate, trades: [] };
  }
  if (stored.heldReason !== undefined && made.trades === null) {
    const place = { heldReason: made.heldReason, state: voided ? ("voided" as const) : ("held" as const) };
    await ctx.db.patch("externalExecutions", stored._id, { ...news, ...place });
    return { fate, trades: [] };
  }
  await ctx.db.patch("externalExecutions", stored._id, { ...news, state: voided ? "voided" : "live" });
  if (stored.heldReason !== undefined && made.trades !== null) {
    await insertTrades(ctx, { executionId: stored._id, importJobId, ownerId: stored.ownerId }, made.trades, voided);
    return { fate, trades: made.trades };
  }
  const before = materialise(stored).trades ?? [];
  const after = made.trades ?? [];
  if (fate === "known" && voided === (stored.state === "voided")) return { fate, trades: [] };
  for (const [index, tradeId] of stored.tradeIds.entries()) {
    await reviseTrade(ctx, tradeId, { after: after[index], before: before[index], voided });
  }
  return { fate, trades: [...before, ...after] };
}

async function reviseTrade(
  ctx: MutationCtx,
  tradeId: Id<"trades">,
  { after, before, voided }: { after: TradeFacts | undefined; before: TradeFacts | undefined; voided: boolean },
): Promise<void> {
  const trade = await ctx.db.get("trades", tradeId);
  // Somebody deleted the row: the execution stays, the row does not come back.
  if (trade === null) return;
  const flags = trade.importFlags ?? [];
  const turned = voided !== flags.includes("voided_by_broker");
  const changed = trade.inboxStatus === "reviewed" && (turned || contradicts(before, after));
  const facts = differences(before, after);
  const moved = facts.ticker !== undefined && facts.ticker !== trade.ticker;
  await ctx.db.patch("trades", tradeId, {
    ...facts,
    importFlags: flagsWith(after?.importFlags ?? flags.filter(isFact), {
      changed: changed || flags.includes("changed_by_broker"),
      voided,
    }),
    ...(voided || moved ? { suggestedTradePlanId: undefined, suggestionReason: "none" } : {}),
  });
}

/** The broker's facts that are not what they were. All others stay: a user may have put the row right. */
function differences(before: TradeFacts | undefined, after: TradeFacts | undefined): Partial<TradeFacts> {
  // What is no trade any more stays as it was: the row may be somebody's.
  if (after === undefined) return {};
  const facts = Object.entries(after).filter(([fact, value]) => before?.[fact as keyof TradeFacts] !== value);
  return Object.fromEntries(facts);
}

/**
 * Is something else now said than before? A currency that Flex adds to a live fill is no news of the broker, nor is
 * an order's number, which every source gives anew (reference ibkr 5).
 */
function contradicts(before: TradeFacts | undefined, after: TradeFacts | undefined): boolean {
  if (before === undefined) return after !== undefined;
  const { externalOrderId: _order, importFlags: _flags, ...changes } = differences(before, after);
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
