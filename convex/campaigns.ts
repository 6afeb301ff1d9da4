import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel";
import { mutation, query, type MutationCtx, type QueryCtx } from "./_generated/server";
import { calculateTradesPL, isOpening, summarise } from "./lib/plCalculation";
import { belongsToCampaign, countedTrades } from "./tradeImport/journal";

const statusValidator = v.union(v.literal("active"), v.literal("closed"), v.literal("planning"));

const campaignValidator = v.object({
  _creationTime: v.number(),
  _id: v.id("campaigns"),
  closedAt: v.optional(v.number()),
  name: v.string(),
  retrospective: v.optional(v.string()),
  status: statusValidator,
  thesis: v.string(),
});

/** Quantities up to this are rounding, not positions. */
const DUST = 0.0001;

async function requireCampaign(ctx: MutationCtx, campaignId: Id<"campaigns">): Promise<Doc<"campaigns">> {
  const campaign = await ctx.db.get("campaigns", campaignId);
  if (campaign === null) throw new Error("Campaign not found");
  return campaign;
}

async function planIdsOf(ctx: QueryCtx, campaignId: Id<"campaigns">): Promise<Set<Id<"tradePlans">>> {
  const plans = await ctx.db
    .query("tradePlans")
    .withIndex("by_campaignId", (q) => q.eq("campaignId", campaignId))
    .collect();
  return new Set(plans.map(({ _id }) => _id));
}

export const createCampaign = mutation({
  args: { name: v.string(), status: v.optional(statusValidator), thesis: v.string() },
  handler: async (ctx, args) =>
    await ctx.db.insert("campaigns", { ...args, status: args.status ?? "planning" }),
  returns: v.id("campaigns"),
});

export const updateCampaign = mutation({
  args: {
    campaignId: v.id("campaigns"),
    name: v.optional(v.string()),
    retrospective: v.optional(v.string()),
    thesis: v.optional(v.string()),
  },
  handler: async (ctx, { campaignId, ...changes }) => {
    await requireCampaign(ctx, campaignId);
    await ctx.db.patch("campaigns", campaignId, changes);
    return null;
  },
  returns: v.null(),
});

export const updateCampaignStatus = mutation({
  args: { campaignId: v.id("campaigns"), status: statusValidator },
  handler: async (ctx, args) => {
    await requireCampaign(ctx, args.campaignId);
    await ctx.db.patch("campaigns", args.campaignId, {
      closedAt: args.status === "closed" ? Date.now() : undefined,
      status: args.status,
    });
    return null;
  },
  returns: v.null(),
});

export const getCampaign = query({
  args: { campaignId: v.id("campaigns") },
  handler: async (ctx, args) => await ctx.db.get("campaigns", args.campaignId),
  returns: v.union(campaignValidator, v.null()),
});

export const listCampaigns = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("campaigns").order("desc").collect(),
  returns: v.array(campaignValidator),
});

export const listCampaignsByStatus = query({
  args: { status: statusValidator },
  handler: async (ctx, args) =>
    await ctx.db
      .query("campaigns")
      .withIndex("by_status", (q) => q.eq("status", args.status))
      .order("desc")
      .collect(),
  returns: v.array(campaignValidator),
});

export const getCampaignPL = query({
  args: { campaignId: v.id("campaigns") },
  handler: async (ctx, args) => {
    const planIds = await planIdsOf(ctx, args.campaignId);
    const trades = await countedTrades(ctx, await ctx.db.query("trades").collect());
    const own = trades.filter((trade) => belongsToCampaign(trade, args.campaignId, planIds));
    return summarise(own, calculateTradesPL(trades));
  },
  returns: v.object({
    losingTrades: v.number(),
    realizedPL: v.number(),
    tradeCount: v.number(),
    winningTrades: v.number(),
  }),
});

export const getCampaignPositionStatus = query({
  args: { campaignId: v.id("campaigns") },
  handler: async (ctx, args) => {
    const planIds = await planIdsOf(ctx, args.campaignId);
    const trades = await countedTrades(ctx, await ctx.db.query("trades").collect());
    const own = trades.filter((trade) => belongsToCampaign(trade, args.campaignId, planIds));
    const open = new Map<string, { direction: "long" | "short"; quantity: number; ticker: string }>();
    for (const trade of own) {
      const { direction, ticker } = trade;
      const key = `${ticker}:${direction}`;
      const position = open.get(key) ?? { direction, quantity: 0, ticker };
      position.quantity += isOpening(trade) ? trade.quantity : -trade.quantity;
      open.set(key, position);
    }
    const positions = [...open.values()].filter(({ quantity }) => quantity > DUST);
    return {
      isFullyClosed: own.length > 0 && positions.length === 0,
      positions,
      realizedPL: summarise(own, calculateTradesPL(trades)).realizedPL,
    };
  },
  returns: v.object({
    isFullyClosed: v.boolean(),
    positions: v.array(
      v.object({
        direction: v.union(v.literal("long"), v.literal("short")),
        quantity: v.number(),
        ticker: v.string(),
      }),
    ),
    realizedPL: v.number(),
  }),
});
