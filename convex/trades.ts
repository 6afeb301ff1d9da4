import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel";
import { mutation, query, type MutationCtx } from "./_generated/server";
import { calculateTradesPL } from "./lib/plCalculation";
import { countsForAnalytics, editLink, isVisible, visibleTrades } from "./tradeImport/journal";
import { importedTradeFields } from "./tradeImport/tables";

const assetTypeValidator = v.union(v.literal("crypto"), v.literal("stock"));
const directionValidator = v.union(v.literal("long"), v.literal("short"));
const sideValidator = v.union(v.literal("buy"), v.literal("sell"));

const tradeWithPLValidator = v.object({
  _creationTime: v.number(),
  _id: v.id("trades"),
  assetType: assetTypeValidator,
  date: v.number(),
  direction: directionValidator,
  notes: v.optional(v.string()),
  price: v.number(),
  quantity: v.number(),
  realizedPL: v.union(v.number(), v.null()),
  side: sideValidator,
  ticker: v.string(),
  tradePlanId: v.optional(v.id("tradePlans")),
  ...importedTradeFields,
});

async function requireTrade(ctx: MutationCtx, tradeId: Id<"trades">): Promise<Doc<"trades">> {
  const trade = await ctx.db.get("trades", tradeId);
  if (trade === null || !(await isVisible(ctx, trade))) throw new Error("Trade not found");
  return trade;
}

async function requireTradePlan(ctx: MutationCtx, tradePlanId: Id<"tradePlans">): Promise<void> {
  if ((await ctx.db.get("tradePlans", tradePlanId)) === null) throw new Error("Trade plan not found");
}

export const createTrade = mutation({
  args: {
    assetType: assetTypeValidator,
    date: v.number(),
    direction: directionValidator,
    notes: v.optional(v.string()),
    price: v.number(),
    quantity: v.number(),
    side: sideValidator,
    ticker: v.string(),
    tradePlanId: v.optional(v.id("tradePlans")),
  },
  handler: async (ctx, args) => {
    if (args.tradePlanId !== undefined) await requireTradePlan(ctx, args.tradePlanId);
    return await ctx.db.insert("trades", { ...args, source: "manual" });
  },
  returns: v.id("trades"),
});

export const updateTrade = mutation({
  args: {
    assetType: v.optional(assetTypeValidator),
    date: v.optional(v.number()),
    direction: v.optional(directionValidator),
    notes: v.optional(v.string()),
    price: v.optional(v.number()),
    quantity: v.optional(v.number()),
    side: v.optional(sideValidator),
    ticker: v.optional(v.string()),
    tradeId: v.id("trades"),
    tradePlanId: v.optional(v.union(v.id("tradePlans"), v.null())),
  },
  handler: async (ctx, { tradeId, tradePlanId, ...changes }) => {
    const trade = await requireTrade(ctx, tradeId);
    if (tradePlanId) await requireTradePlan(ctx, tradePlanId);
    const link = editLink(trade, { tradePlanId });
    if (link === "conflict") throw new Error("A trade with a plan belongs to the plan's campaign");
    await ctx.db.patch("trades", tradeId, { ...changes, ...link });
    return null;
  },
  returns: v.null(),
});

export const deleteTrade = mutation({
  args: { tradeId: v.id("trades") },
  handler: async (ctx, args) => {
    await requireTrade(ctx, args.tradeId);
    await ctx.db.delete("trades", args.tradeId);
    return null;
  },
  returns: v.null(),
});

export const listTrades = query({
  args: {},
  handler: async (ctx) => {
    const trades = await visibleTrades(ctx, await ctx.db.query("trades").collect());
    const results = calculateTradesPL(trades.filter(countsForAnalytics));
    return trades
      .sort((a, b) => b.date - a.date)
      .map((trade) => ({ ...trade, realizedPL: results.get(trade._id) ?? null }));
  },
  returns: v.array(tradeWithPLValidator),
});

export const getTrade = query({
  args: { tradeId: v.id("trades") },
  handler: async (ctx, args) => {
    const trades = await visibleTrades(ctx, await ctx.db.query("trades").collect());
    const results = calculateTradesPL(trades.filter(countsForAnalytics));
    const trade = trades.find(({ _id }) => _id === args.tradeId);
    return trade ? { ...trade, realizedPL: results.get(trade._id) ?? null } : null;
  },
  returns: v.union(tradeWithPLValidator, v.null()),
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
