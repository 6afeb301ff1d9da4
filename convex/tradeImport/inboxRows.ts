// A row of the inbox as the user reads it, and where rows of each kind are found.
import { v, type Infer } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { shares } from "./rules/decimal";
import { tickerOf } from "./rules/symbols";
import { earlierRevisions } from "./rules/views";
import { viewsOf } from "./state";
import type { TypedTrades } from "./twins";
import {
  vAssetClass,
  vExecutionFlag,
  vImportFlag,
  vProvider,
  vSide,
  vSource,
  vSuggestionReason,
} from "./validators";

export const vRowStatus = v.union(v.literal("pending_review"), v.literal("reviewed"), v.literal("dismissed"));

const vPlanRef = v.object({ name: v.string(), tradePlanId: v.id("tradePlans") });

/** What the execution was before the broker corrected it. */
const vEarlierRevision = v.object({
  fee: v.string(),
  occurredAt: v.number(),
  price: v.string(),
  quantity: v.string(),
  revision: v.number(),
  side: v.union(vSide, v.null()),
  source: vSource,
});

export const vInboxRow = v.object({
  accountRef: v.string(),
  assetClass: vAssetClass,
  /** The plan's campaign, or the trade's own where it has no plan. */
  campaign: v.union(
    v.object({ campaignId: v.id("campaigns"), derived: v.boolean(), name: v.string() }),
    v.null(),
  ),
  currency: v.union(v.string(), v.null()),
  direction: v.union(v.literal("long"), v.literal("short"), v.null()),
  executionFlags: v.array(vExecutionFlag),
  executionId: v.id("externalExecutions"),
  externalExecutionId: v.union(v.string(), v.null()),
  externalOrderId: v.union(v.string(), v.null()),
  fee: v.string(),
  feeCurrency: v.union(v.string(), v.null()),
  flags: v.array(vImportFlag),
  /** Oldest first. */
  history: v.array(vEarlierRevision),
  importJobId: v.id("importJobs"),
  leg: v.union(v.number(), v.null()),
  notes: v.union(v.string(), v.null()),
  occurredAt: v.number(),
  plan: v.union(vPlanRef, v.null()),
  price: v.string(),
  provider: vProvider,
  quantity: v.string(),
  rawSymbol: v.string(),
  side: v.union(vSide, v.null()),
  source: vSource,
  status: vRowStatus,
  suggestion: v.union(vPlanRef, v.null()),
  suggestionReason: vSuggestionReason,
  symbol: v.string(),
  /** Null for a dismissed row: it has no trade. */
  tradeId: v.union(v.id("trades"), v.null()),
  /** Of a pending row: trades that somebody typed and that are likely the same. Which one stays is the user's. */
  twins: v.array(
    v.object({ date: v.number(), price: v.number(), quantity: v.number(), tradeId: v.id("trades") }),
  ),
});
export type InboxRow = Infer<typeof vInboxRow>;

export type Filters = {
  accountRef?: string;
  from?: number;
  provider?: "ibkr" | "kraken";
  symbol?: string;
  to?: number;
};

/** Each main filter has its index; where several are given, the narrowest one leads. */
export function trades(ctx: QueryCtx & { ownerId: string }, status: "pending_review" | "reviewed", filters: Filters) {
  const { accountRef, provider, symbol } = filters;
  const from = filters.from ?? -Infinity;
  const to = filters.to ?? Infinity;
  const table = ctx.db.query("trades");
  if (symbol !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("ticker", tickerOf(symbol))
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  if (accountRef !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_brokerAccountRef_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("brokerAccountRef", accountRef)
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  if (provider !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_source_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("source", provider)
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  return table
    .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
      q.eq("ownerId", ctx.ownerId).eq("inboxStatus", status).gte("date", from).lt("date", to),
    )
    .order("desc");
}

/** Executions in a state, newest first. */
export function executionsIn(ctx: QueryCtx & { ownerId: string }, state: "dismissed" | "held", filters: Filters) {
  return ctx.db
    .query("externalExecutions")
    .withIndex("by_ownerId_and_state_and_occurredAt", (q) =>
      q
        .eq("ownerId", ctx.ownerId)
        .eq("state", state)
        .gte("occurredAt", filters.from ?? -Infinity)
        .lt("occurredAt", filters.to ?? Infinity),
    )
    .order("desc");
}

export function matches(filters: Filters, row: { accountRef: string; provider: string; ticker: string }): boolean {
  return (
    (filters.accountRef === undefined || filters.accountRef === row.accountRef) &&
    (filters.provider === undefined || filters.provider === row.provider) &&
    (filters.symbol === undefined || tickerOf(filters.symbol) === row.ticker)
  );
}

export async function rowOf(
  ctx: QueryCtx,
  execution: Doc<"externalExecutions">,
  trade: Doc<"trades"> | null,
  typed: TypedTrades,
): Promise<InboxRow> {
  const plan = trade?.tradePlanId ? await ctx.db.get("tradePlans", trade.tradePlanId) : null;
  const suggestion = await suggestionOf(ctx, trade);
  const twins = trade?.inboxStatus === "pending_review" ? await typed.twinsOf(trade) : [];
  const campaignId = trade?.tradePlanId === undefined ? trade?.campaignId : plan?.campaignId;
  const campaign = campaignId ? await ctx.db.get("campaigns", campaignId) : null;
  const { fee, quantity } = amountsOf(execution, trade);
  return {
    accountRef: execution.accountRef,
    assetClass: execution.assetClass,
    campaign: campaign && { campaignId: campaign._id, derived: plan !== null, name: campaign.name },
    currency: execution.currency ?? null,
    direction: trade?.direction ?? null,
    executionFlags: execution.flags,
    executionId: execution._id,
    externalExecutionId: execution.externalExecutionId ?? null,
    externalOrderId: execution.externalOrderId ?? null,
    fee,
    feeCurrency: execution.feeCurrency ?? null,
    flags: trade?.importFlags ?? [],
    history: historyOf(execution),
    importJobId: execution.importJobId,
    leg: trade?.leg ?? null,
    notes: trade?.notes ?? null,
    occurredAt: execution.occurredAt,
    plan: planRef(plan),
    price: execution.price,
    provider: execution.provider,
    quantity,
    rawSymbol: execution.rawSymbol,
    side: execution.side ?? null,
    source: execution.source,
    status: trade === null ? "dismissed" : (trade.inboxStatus ?? "reviewed"),
    suggestion: planRef(suggestion),
    suggestionReason: suggestion === null ? "none" : (trade?.suggestionReason ?? "none"),
    symbol: execution.symbol,
    tradeId: trade?._id ?? null,
    twins: twins.map(({ _id: tradeId, date, price, quantity }) => ({ date, price, quantity, tradeId })),
  };
}

/** Exact, as the broker states them; a leg's are its part of them. */
function amountsOf({ derived, fee, quantity }: Doc<"externalExecutions">, trade: Doc<"trades"> | null) {
  const legs = derived?.legs ?? [];
  const at = (trade?.leg ?? 1) - 1;
  const leg = legs[at];
  if (trade === null || legs.length < 2 || leg === undefined) return { fee, quantity };
  return { fee: shares(fee, legs.map((each) => each.quantity))[at] ?? fee, quantity: leg.quantity };
}

/** A plan that was closed since is no suggestion any more, even before the row is refreshed. */
async function suggestionOf(ctx: QueryCtx, trade: Doc<"trades"> | null): Promise<Doc<"tradePlans"> | null> {
  if (trade?.suggestedTradePlanId === undefined) return null;
  const plan = await ctx.db.get("tradePlans", trade.suggestedTradePlanId);
  return plan?.status === "closed" ? null : plan;
}

function historyOf(execution: Doc<"externalExecutions">): Infer<typeof vEarlierRevision>[] {
  return earlierRevisions(viewsOf(execution)).map((earlier) => ({
    fee: earlier.fee,
    occurredAt: earlier.occurredAt,
    price: earlier.price,
    quantity: earlier.quantity,
    revision: earlier.revision,
    side: earlier.side ?? null,
    source: earlier.source,
  }));
}

function planRef(plan: Doc<"tradePlans"> | null) {
  return plan && { name: plan.name, tradePlanId: plan._id };
}

