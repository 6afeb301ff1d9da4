// Finds the cancels of an execution and the executions of a cancel, whichever came first.
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { bookingName, cancelledTrade, cancelledTransaction, isVoided } from "./rules/cancels";
import type { Execution } from "./validators";

/** Rows that share one id: an original, its rebookings and their cancels, in two kinds of statement. */
const MAX_RELATED = 24;

type Stored = Doc<"externalExecutions">;
type Scope = Pick<Stored, "accountRef" | "ownerId" | "provider">;

/** A cancel that names the trade alone is found by it too. */
export function withTrade(cancel: Execution): Execution {
  const tradeId = cancelledTrade(cancel);
  return tradeId === undefined ? cancel : { ...cancel, tradeId };
}

/**
 * Has the broker cancelled the execution that these views tell of? The cancels that waited for it wait no more.
 * Without ids of a booking, as from Kraken and IBKR's live API, nothing is read.
 */
export async function voids(ctx: MutationCtx, scope: Scope, views: ReadonlyArray<Execution>): Promise<boolean> {
  const cancels = (await cancelsOf(ctx, scope, views)).filter(({ state }) => state !== "undone");
  for (const cancel of cancels) {
    if (cancel.state === "held") {
      await ctx.db.patch("externalExecutions", cancel._id, { heldReason: undefined, state: "live" });
    }
  }
  return isVoided(views, cancels);
}

async function cancelsOf(ctx: MutationCtx, scope: Scope, views: ReadonlyArray<Execution>): Promise<Stored[]> {
  const found = new Map<string, Stored>();
  for (const transactionId of new Set(views.flatMap((view) => view.transactionId ?? []))) {
    const cancels = await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_provider_account_cancels", (q) =>
        q
          .eq("ownerId", scope.ownerId)
          .eq("provider", scope.provider)
          .eq("accountRef", scope.accountRef)
          .eq("cancels", bookingName(transactionId)),
      )
      .take(MAX_RELATED);
    for (const cancel of cancels) found.set(cancel._id, cancel);
  }
  for (const tradeId of new Set(views.flatMap((view) => view.tradeId ?? []))) {
    const cancels = await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_provider_account_tradeId_kind", (q) =>
        q
          .eq("ownerId", scope.ownerId)
          .eq("provider", scope.provider)
          .eq("accountRef", scope.accountRef)
          .eq("tradeId", tradeId)
          .eq("kind", "cancel"),
      )
      .take(MAX_RELATED);
    for (const cancel of cancels) found.set(cancel._id, cancel);
  }
  return [...found.values()];
}

/** The executions that a cancel may mean: the one of its transaction, else those of its trade. */
export async function originalsOf(ctx: MutationCtx, scope: Scope, cancel: Execution): Promise<Stored[]> {
  const isOriginal = ({ kind }: Stored) => kind !== "cancel";
  const transactionId = cancelledTransaction(cancel);
  if (transactionId !== undefined) {
    const booked = await ctx.db
      .query("externalExecutions")
      .withIndex("by_owner_provider_account_transactionId", (q) =>
        q
          .eq("ownerId", scope.ownerId)
          .eq("provider", scope.provider)
          .eq("accountRef", scope.accountRef)
          .eq("transactionId", transactionId),
      )
      .take(MAX_RELATED);
    if (booked.some(isOriginal)) return booked.filter(isOriginal);
  }
  const tradeId = cancelledTrade(cancel);
  if (tradeId === undefined) return [];
  const traded = await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_tradeId_kind", (q) =>
      q
        .eq("ownerId", scope.ownerId)
        .eq("provider", scope.provider)
        .eq("accountRef", scope.accountRef)
        .eq("tradeId", tradeId),
    )
    .take(MAX_RELATED);
  return traded.filter(isOriginal);
}
