import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel";
import { mutation, query, type MutationCtx } from "./_generated/server";
import { calculateTradesPL, summarise } from "./lib/plCalculation";
import { countedTrades, countsForAnalytics, visibleTrades } from "./tradeImport/journal";
import { importedTradeFields } from "./tradeImport/tables";

const statusValidator = v.union(
  v.literal("active"),
  v.literal("closed"),
  v.literal("idea"),
  v.literal("watching"),
);
type Status = Doc<"tradePlans">["status"];

const tradePlanValidator = v.object({
  _creationTime: v.number(),
  _id: v.id("tradePlans"),
  campaignId: v.optional(v.id("campaigns")),
  closedAt: v.optional(v.number()),
  entryConditions: v.string(),
  exitConditions: v.string(),
  instrumentNotes: v.optional(v.string()),
  instrumentSymbol: v.string(),
  instrumentType: v.optional(v.string()),
  invalidatedAt: v.optional(v.number()),
  name: v.string(),
  rationale: v.optional(v.string()),
  sortOrder: v.optional(v.number()),
  status: statusValidator,
  targetConditions: v.string(),
});

const tradeWithPLValidator = v.object({
  _creationTime: v.number(),
  _id: v.id("trades"),
  assetType: v.union(v.literal("crypto"), v.literal("stock")),
  date: v.number(),
  direction: v.union(v.literal("long"), v.literal("short")),
  notes: v.optional(v.string()),
  price: v.number(),
  quantity: v.number(),
  realizedPL: v.union(v.number(), v.null()),
  side: v.union(v.literal("buy"), v.literal("sell")),
  ticker: v.string(),
  tradePlanId: v.optional(v.id("tradePlans")),
  ...importedTradeFields,
});

const plSummaryValidator = v.object({
  losingTrades: v.number(),
  realizedPL: v.number(),
  tradeCount: v.number(),
  winningTrades: v.number(),
});

const MOVES: Readonly<Record<Status, readonly Status[]>> = {
  active: ["watching", "closed"],
  closed: ["idea", "watching", "active"],
  idea: ["watching", "active", "closed"],
  watching: ["idea", "active", "closed"],
};

function newestFirst(a: Doc<"tradePlans">, b: Doc<"tradePlans">): number {
  return b._creationTime - a._creationTime;
}

function bySortOrder(a: Doc<"tradePlans">, b: Doc<"tradePlans">): number {
  const [first, second] = [a.sortOrder ?? Infinity, b.sortOrder ?? Infinity];
  return first === second ? newestFirst(a, b) : first - second;
}

async function requireTradePlan(ctx: MutationCtx, tradePlanId: Id<"tradePlans">): Promise<Doc<"tradePlans">> {
  const plan = await ctx.db.get("tradePlans", tradePlanId);
  if (plan === null) throw new Error("Trade plan not found");
  return plan;
}

async function requireCampaign(ctx: MutationCtx, campaignId: Id<"campaigns">): Promise<Doc<"campaigns">> {
  const campaign = await ctx.db.get("campaigns", campaignId);
  if (campaign === null) throw new Error("Campaign not found");
  return campaign;
}

export const createTradePlan = mutation({
  args: {
    campaignId: v.optional(v.id("campaigns")),
    entryConditions: v.string(),
    exitConditions: v.string(),
    instrumentNotes: v.optional(v.string()),
    instrumentSymbol: v.string(),
    instrumentType: v.optional(v.string()),
    name: v.string(),
    rationale: v.optional(v.string()),
    sortOrder: v.optional(v.number()),
    status: v.optional(statusValidator),
    targetConditions: v.string(),
  },
  handler: async (ctx, args) => {
    if (args.campaignId !== undefined) await requireCampaign(ctx, args.campaignId);
    return await ctx.db.insert("tradePlans", {
      ...args,
      instrumentSymbol: args.instrumentSymbol.trim().toUpperCase(),
      status: args.status ?? "idea",
    });
  },
  returns: v.id("tradePlans"),
});

export const updateTradePlan = mutation({
  args: {
    campaignId: v.optional(v.union(v.id("campaigns"), v.null())),
    entryConditions: v.optional(v.string()),
    exitConditions: v.optional(v.string()),
    instrumentNotes: v.optional(v.string()),
    instrumentSymbol: v.optional(v.string()),
    instrumentType: v.optional(v.string()),
    invalidatedAt: v.optional(v.union(v.number(), v.null())),
    name: v.optional(v.string()),
    rationale: v.optional(v.string()),
    sortOrder: v.optional(v.union(v.number(), v.null())),
    targetConditions: v.optional(v.string()),
    tradePlanId: v.id("tradePlans"),
  },
  handler: async (ctx, { campaignId, instrumentSymbol, invalidatedAt, sortOrder, tradePlanId, ...texts }) => {
    await requireTradePlan(ctx, tradePlanId);
    if (campaignId) await requireCampaign(ctx, campaignId);
    await ctx.db.patch("tradePlans", tradePlanId, {
      ...texts,
      ...(campaignId === undefined ? {} : { campaignId: campaignId ?? undefined }),
      ...(instrumentSymbol === undefined ? {} : { instrumentSymbol: instrumentSymbol.trim().toUpperCase() }),
      ...(invalidatedAt === undefined ? {} : { invalidatedAt: invalidatedAt ?? undefined }),
      ...(sortOrder === undefined ? {} : { sortOrder: sortOrder ?? undefined }),
    });
    return null;
  },
  returns: v.null(),
});

export const updateTradePlanStatus = mutation({
  args: { status: statusValidator, tradePlanId: v.id("tradePlans") },
  handler: async (ctx, args) => {
    const plan = await requireTradePlan(ctx, args.tradePlanId);
    if (plan.status === args.status) return null;
    if (!MOVES[plan.status].includes(args.status)) {
      throw new Error(`A plan cannot move from ${plan.status} to ${args.status}`);
    }
    if (plan.status === "closed" && plan.campaignId !== undefined) {
      const campaign = await requireCampaign(ctx, plan.campaignId);
      if (campaign.status === "closed") throw new Error("A plan of a closed campaign cannot be reopened");
    }
    await ctx.db.patch("tradePlans", args.tradePlanId, {
      closedAt: args.status === "closed" ? Date.now() : undefined,
      status: args.status,
    });
    return null;
  },
  returns: v.null(),
});

export const getTradePlan = query({
  args: { tradePlanId: v.id("tradePlans") },
  handler: async (ctx, args) => await ctx.db.get("tradePlans", args.tradePlanId),
  returns: v.union(tradePlanValidator, v.null()),
});

export const listTradePlans = query({
  args: {
    campaignId: v.optional(v.union(v.id("campaigns"), v.null())),
    status: v.optional(statusValidator),
  },
  handler: async (ctx, args) => {
    const plans = await ctx.db.query("tradePlans").collect();
    return plans
      .filter((plan) => args.status === undefined || plan.status === args.status)
      .filter((plan) => args.campaignId === undefined || plan.campaignId === (args.campaignId ?? undefined))
      .sort(bySortOrder);
  },
  returns: v.array(tradePlanValidator),
});

export const listTradePlansByCampaign = query({
  args: { campaignId: v.id("campaigns") },
  handler: async (ctx, args) => {
    const plans = await ctx.db
      .query("tradePlans")
      .withIndex("by_campaignId", (q) => q.eq("campaignId", args.campaignId))
      .collect();
    return plans.sort(bySortOrder);
  },
  returns: v.array(tradePlanValidator),
});

export const listStandaloneTradePlans = query({
  args: {},
  handler: async (ctx) => {
    const plans = await ctx.db
      .query("tradePlans")
      .withIndex("by_campaignId", (q) => q.eq("campaignId", undefined))
      .collect();
    return plans.sort(bySortOrder);
  },
  returns: v.array(tradePlanValidator),
});

export const listOpenTradePlans = query({
  args: {},
  handler: async (ctx) => {
    const plans = await ctx.db.query("tradePlans").collect();
    return plans.filter((plan) => plan.status !== "closed").sort(newestFirst);
  },
  returns: v.array(tradePlanValidator),
});

export const getTradesByTradePlan = query({
  args: { tradePlanId: v.id("tradePlans") },
  handler: async (ctx, args) => {
    const trades = await visibleTrades(ctx, await ctx.db.query("trades").collect());
    const results = calculateTradesPL(trades.filter(countsForAnalytics));
    return trades
      .filter(({ tradePlanId }) => tradePlanId === args.tradePlanId)
      .map((trade) => ({ ...trade, realizedPL: results.get(trade._id) ?? null }));
  },
  returns: v.array(tradeWithPLValidator),
});

export const getTradePlanPL = query({
  args: { tradePlanId: v.id("tradePlans") },
  handler: async (ctx, args) => {
    const trades = await countedTrades(ctx, await ctx.db.query("trades").collect());
    const linked = trades.filter(({ tradePlanId }) => tradePlanId === args.tradePlanId);
    return summarise(linked, calculateTradesPL(trades));
  },
  returns: plSummaryValidator,
});
