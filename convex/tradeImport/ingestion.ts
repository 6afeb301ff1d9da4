// From the worker's rows to executions, trades and rejects, inside the mutation that received them.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { settleCancels, storeCancel } from "./cancels";
import { refusal } from "./errors";
import { accountRefOf } from "./rules/accounts";
import { isDecimal, isPositive } from "./rules/decimal";
import { materialise, type TradeFacts } from "./rules/materialise";
import { isSameVoice, mergeViews, sameFacts, viewsAfter } from "./rules/views";
import { viewsOf } from "./state";
import { refreshSuggestions } from "./suggestions";
import type { Execution, ImportFlag, Reject, View } from "./validators";

export const MAX_BATCH = 500;

export type Job = { connection: Doc<"brokerageConnections">; job: Doc<"importJobs">; now: number };

export type Fates = { held: number; inserted: number; known: number; rejected: number; updated: number };

/** What became of one row: exactly one of the counters. */
export type Fate = keyof Fates;

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
  // correction follows what it corrects, so that the history has both.
  for (const execution of [...executions].sort(byTimeKeyAndRevision)) {
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

function byTimeKeyAndRevision(a: Execution, b: Execution): number {
  if (a.occurredAt !== b.occurredAt) return a.occurredAt - b.occurredAt;
  if (keyOf(a) !== keyOf(b)) return keyOf(a) < keyOf(b) ? -1 : 1;
  return a.revision - b.revision;
}

async function storeExecution(
  ctx: MutationCtx,
  job: Job,
  execution: Execution,
): Promise<{ fate: Fate; trades: TradeFacts[] }> {
  const stored = await findExecution(ctx, job.connection.ownerId, execution);
  if (execution.kind === "cancel") return { fate: await storeCancel(ctx, job, stored, execution), trades: [] };
  if (stored === null) {
    const inserted = await insertExecution(ctx, job, execution);
    await settleCancels(ctx, inserted.executionId);
    return inserted;
  }
  const views = viewsOf(stored);
  const known = views.find((view) => isSameVoice(view, execution));
  if (known !== undefined && sameFacts(known, execution)) return { fate: "known", trades: [] };
  const seen = { ...execution, importJobId: job.job._id, seenAt: job.now };
  const after = viewsAfter(views, seen);
  const merged = mergeViews(after);
  if (sameFacts(stored, merged) && stored.revision === merged.revision) {
    // It says nothing new, but what a later view leaves unsaid may be found in it.
    await ctx.db.patch("externalExecutions", stored._id, { views: after });
    await settleCancels(ctx, stored._id);
    return { fate: "known", trades: [] };
  }
  const trades = await updateExecution(ctx, job, stored, merged, after);
  await settleCancels(ctx, stored._id);
  return { fate: "updated", trades };
}

/** By the broker's id; a row without one by its hash, and only among rows without one. */
async function findExecution(
  ctx: MutationCtx,
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

async function insertExecution(ctx: MutationCtx, { connection, job }: Job, execution: Execution) {
  const made = materialise(execution);
  const executionId = await ctx.db.insert("externalExecutions", {
    ...execution,
    connectionId: connection._id,
    heldReason: made.trades === null ? made.heldReason : undefined,
    importJobId: job._id,
    ownerId: connection.ownerId,
    state: made.trades === null ? "held" : "live",
    tradeIds: [],
  });
  if (made.trades === null) return { executionId, fate: "held" as const, trades: [] };
  await insertTrades(ctx, { executionId, importJobId: job._id, ownerId: connection.ownerId }, made.trades);
  return { executionId, fate: "inserted" as const, trades: made.trades };
}

/** The rows of the inbox for one execution. Never a plan or a campaign: linking is the user's. */
export async function insertTrades(
  ctx: MutationCtx,
  origin: { executionId: Id<"externalExecutions">; importJobId: Id<"importJobs">; ownerId: string },
  trades: TradeFacts[],
): Promise<void> {
  const tradeIds: Id<"trades">[] = [];
  for (const trade of trades) {
    tradeIds.push(
      await ctx.db.insert("trades", {
        ...trade,
        ...origin,
        inboxStatus: "pending_review",
        suggestionReason: "none",
      }),
    );
  }
  await ctx.db.patch("externalExecutions", origin.executionId, { heldReason: undefined, state: "live", tradeIds });
}

/** The broker's news reach the numbers; what a user decided about the row stays. */
async function updateExecution(
  ctx: MutationCtx,
  { job }: Job,
  stored: Doc<"externalExecutions">,
  execution: Execution,
  views: View[],
): Promise<TradeFacts[]> {
  await ctx.db.patch("externalExecutions", stored._id, {
    ...cleared(stored, execution),
    ...execution,
    views: views.length > 1 ? views : undefined,
  });
  const made = materialise(execution);
  if (made.trades === null) return [];
  if (stored.state === "held") {
    const origin = { executionId: stored._id, importJobId: job._id, ownerId: stored.ownerId };
    await insertTrades(ctx, origin, made.trades);
    return made.trades;
  }
  if (stored.state !== "live" && stored.state !== "voided") return [];

  const previous = materialise(stored);
  for (const [index, tradeId] of stored.tradeIds.entries()) {
    const trade = await ctx.db.get("trades", tradeId);
    const facts = made.trades[index];
    // Somebody deleted the row: the execution stays, the row does not come back.
    if (trade === null || facts === undefined) continue;
    const kept = (trade.importFlags ?? []).filter(isNews);
    const changed = trade.inboxStatus === "reviewed" && differ(previous.trades?.[index], facts);
    await ctx.db.patch("trades", tradeId, {
      ...facts,
      importFlags: [...new Set([...facts.importFlags, ...kept, ...(changed ? ["changed_by_broker" as const] : [])])],
      ...(facts.ticker === trade.ticker ? {} : { suggestedTradePlanId: undefined, suggestionReason: "none" }),
    });
  }
  return made.trades;
}

/** Flags that tell what the broker did to a row after it was imported. */
export function isNews(flag: ImportFlag): boolean {
  return flag === "changed_by_broker" || flag === "voided_by_broker";
}

/** Optional fields that the stored view has and the new one does not, as patch understands it. */
function cleared(stored: Execution, execution: Execution): Partial<Execution> {
  const optional = [
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
  ] as const;
  const gone = optional.filter((field) => stored[field] !== undefined && execution[field] === undefined);
  return Object.fromEntries(gone.map((field) => [field, undefined]));
}

function differ(before: TradeFacts | undefined, after: TradeFacts): boolean {
  return before === undefined || JSON.stringify(before) !== JSON.stringify(after);
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
