// Cancels find what they void, and what they void finds them, whichever came first.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import type { Fate, Job } from "./ingestion";
import { isVoided } from "./rules/cancels";
import { viewsOf } from "./state";
import type { Execution } from "./validators";

/** Bookings that share one id: an original, its cancel and its rebooking, in two kinds of statement. */
const MAX_RELATED = 24;

type Stored = Doc<"externalExecutions">;

/** Stores a cancel and applies it; one whose original is not known yet is held, and shown. */
export async function storeCancel(ctx: MutationCtx, job: Job, stored: Stored | null, cancel: Execution): Promise<Fate> {
  if (stored !== null) return "known";
  const executionId = await ctx.db.insert("externalExecutions", {
    ...cancel,
    connectionId: job.connection._id,
    heldReason: "original_not_seen",
    importJobId: job.job._id,
    ownerId: job.connection.ownerId,
    state: "held",
    tradeIds: [],
  });
  const originals = await originalsOf(ctx, { ...cancel, ownerId: job.connection.ownerId });
  for (const original of originals) await settleCancels(ctx, original._id);
  if (originals.length === 0) return "held";
  await ctx.db.patch("externalExecutions", executionId, { heldReason: undefined, state: "live" });
  return "updated";
}

/** Voids or restores an execution according to the cancels that are known. */
export async function settleCancels(ctx: MutationCtx, executionId: Id<"externalExecutions">): Promise<void> {
  const stored = await ctx.db.get("externalExecutions", executionId);
  if (stored === null || stored.provider !== "ibkr") return;
  const cancels = await cancelsOf(ctx, stored);
  for (const cancel of cancels) {
    if (cancel.state === "held") {
      await ctx.db.patch("externalExecutions", cancel._id, { heldReason: undefined, state: "live" });
    }
  }
  const voided = isVoided(viewsOf(stored), cancels);
  if (voided === (stored.state === "voided") || stored.state === "dismissed") return;
  const state = voided ? "voided" : stored.heldReason === undefined ? "live" : "held";
  await ctx.db.patch("externalExecutions", executionId, { state });
  for (const tradeId of stored.tradeIds) {
    const trade = await ctx.db.get("trades", tradeId);
    if (trade === null) continue;
    const others = (trade.importFlags ?? []).filter((flag) => flag !== "voided_by_broker");
    await ctx.db.patch("trades", tradeId, { importFlags: voided ? [...others, "voided_by_broker"] : others });
  }
}

/** The cancels that name one of an execution's bookings. */
async function cancelsOf(ctx: MutationCtx, stored: Stored): Promise<Stored[]> {
  const views = viewsOf(stored);
  const tradeIds = new Set(views.flatMap(({ tradeId }) => tradeId ?? []));
  const names = [
    ...new Set(views.flatMap(({ transactionId }) => (transactionId === undefined ? [] : [`tx:${transactionId}`]))),
    ...[...tradeIds].map((tradeId) => `trade:${tradeId}`),
  ];
  const found = new Map<string, Stored>();
  for (const name of names) {
    for (const cancel of await named(ctx, stored, name)) found.set(cancel._id, cancel);
  }
  for (const tradeId of tradeIds) {
    for (const booking of await ofTrade(ctx, stored, tradeId)) {
      if (booking.kind === "cancel") found.set(booking._id, booking);
    }
  }
  return [...found.values()];
}

type Scope = Pick<Stored, "accountRef" | "ownerId" | "provider">;

/** The executions that a cancel may mean. */
async function originalsOf(ctx: MutationCtx, cancel: Execution & Scope): Promise<Stored[]> {
  const found = new Map<string, Stored>();
  const reference = cancel.cancels ?? "";
  if (reference.startsWith("tx:")) {
    for (const booking of await ofTransaction(ctx, cancel, reference.slice("tx:".length))) {
      found.set(booking._id, booking);
    }
  }
  const tradeId = cancel.tradeId ?? (reference.startsWith("trade:") ? reference.slice("trade:".length) : undefined);
  if (tradeId !== undefined) {
    for (const booking of await ofTrade(ctx, cancel, tradeId)) found.set(booking._id, booking);
  }
  return [...found.values()].filter(({ kind }) => kind !== "cancel");
}

async function named(ctx: MutationCtx, scope: Scope, name: string): Promise<Stored[]> {
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_cancels", (q) =>
      q
        .eq("ownerId", scope.ownerId)
        .eq("provider", scope.provider)
        .eq("accountRef", scope.accountRef)
        .eq("cancels", name),
    )
    .take(MAX_RELATED);
}

async function ofTrade(ctx: MutationCtx, scope: Scope, tradeId: string): Promise<Stored[]> {
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_tradeId", (q) =>
      q
        .eq("ownerId", scope.ownerId)
        .eq("provider", scope.provider)
        .eq("accountRef", scope.accountRef)
        .eq("tradeId", tradeId),
    )
    .take(MAX_RELATED);
}

async function ofTransaction(ctx: MutationCtx, scope: Scope, transactionId: string): Promise<Stored[]> {
  return await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_transactionId", (q) =>
      q
        .eq("ownerId", scope.ownerId)
        .eq("provider", scope.provider)
        .eq("accountRef", scope.accountRef)
        .eq("transactionId", transactionId),
    )
    .take(MAX_RELATED);
}
