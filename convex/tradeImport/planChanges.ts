// Brings the suggestions of pending rows in step with the plans that are open, without any hook in the app's plan
// functions: it looks whether the open plans are still those that the suggestions were made for.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";
import { fingerprintOf } from "./rules/plans";
import { openPlans, refreshSuggestions } from "./suggestions";

/** Few, because a step looks at many rows of each. */
const MAX_TICKERS = 4;
const MAX_OWNERS = 50;

/** One owner's pending rows, the first instruments at once and the others in steps. False where nothing had changed. */
export async function refreshChanged(ctx: MutationCtx, ownerId: string): Promise<boolean> {
  const plans = await openPlans(ctx);
  return plans !== null && (await refreshIfChanged(ctx, ownerId, fingerprintOf(plans)));
}

/** The same for every owner who has a connection, in steps. For a cron. */
export async function refreshAllSuggestions(ctx: MutationCtx): Promise<void> {
  await refreshOwners(ctx, "");
}

export const nextTickers = internalMutation({
  args: { after: v.string(), ownerId: v.string() },
  handler: async (ctx, args): Promise<null> => {
    await refreshTickers(ctx, args.ownerId, args.after);
    return null;
  },
  returns: v.null(),
});

export const nextOwners = internalMutation({
  args: { after: v.string() },
  handler: async (ctx, args): Promise<null> => {
    await refreshOwners(ctx, args.after);
    return null;
  },
  returns: v.null(),
});

async function refreshOwners(ctx: MutationCtx, after: string): Promise<void> {
  const plans = await openPlans(ctx);
  if (plans === null) return;
  const fingerprint = fingerprintOf(plans);
  let last = after;
  for (let count = 0; count < MAX_OWNERS; count += 1) {
    const connection = await ctx.db
      .query("brokerageConnections")
      .withIndex("by_ownerId", (q) => q.gt("ownerId", last))
      .first();
    if (connection === null) return;
    last = connection.ownerId;
    // Its own mutation: the first instruments of fifty owners are no small step.
    const state = await stateOf(ctx, last);
    if (state?.plans === fingerprint) continue;
    await remember(ctx, last, state, fingerprint);
    await ctx.scheduler.runAfter(0, internal.tradeImport.planChanges.nextTickers, { after: "", ownerId: last });
  }
  await ctx.scheduler.runAfter(0, internal.tradeImport.planChanges.nextOwners, { after: last });
}

async function refreshIfChanged(ctx: MutationCtx, ownerId: string, fingerprint: string): Promise<boolean> {
  const state = await stateOf(ctx, ownerId);
  if (state?.plans === fingerprint) return false;
  await remember(ctx, ownerId, state, fingerprint);
  await refreshTickers(ctx, ownerId, "");
  return true;
}

async function refreshTickers(ctx: MutationCtx, ownerId: string, after: string): Promise<void> {
  const instruments: Pick<Doc<"trades">, "assetType" | "ticker">[] = [];
  let last = after;
  while (instruments.length < MAX_TICKERS) {
    const trade = await ctx.db
      .query("trades")
      .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
        q.eq("ownerId", ownerId).eq("inboxStatus", "pending_review").gt("ticker", last),
      )
      .first();
    if (trade === null) break;
    instruments.push(trade);
    last = trade.ticker;
  }
  await refreshSuggestions(ctx, ownerId, instruments, { clearing: true });
  if (instruments.length === MAX_TICKERS) {
    await ctx.scheduler.runAfter(0, internal.tradeImport.planChanges.nextTickers, { after: last, ownerId });
  }
}

async function stateOf(ctx: MutationCtx, ownerId: string): Promise<Doc<"importSuggestionState"> | null> {
  return await ctx.db
    .query("importSuggestionState")
    .withIndex("by_ownerId", (q) => q.eq("ownerId", ownerId))
    .unique();
}

async function remember(
  ctx: MutationCtx,
  ownerId: string,
  state: Doc<"importSuggestionState"> | null,
  plans: string,
): Promise<void> {
  const refreshedAt = Date.now();
  if (state === null) await ctx.db.insert("importSuggestionState", { ownerId, plans, refreshedAt });
  else await ctx.db.patch("importSuggestionState", state._id, { plans, refreshedAt });
}
