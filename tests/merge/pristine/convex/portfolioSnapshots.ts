import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

const sourceValidator = v.union(v.literal("api"), v.literal("calculated"), v.literal("manual"));

const snapshotValidator = v.object({
  _creationTime: v.number(),
  _id: v.id("portfolioSnapshots"),
  cashBalance: v.optional(v.number()),
  date: v.number(),
  source: sourceValidator,
  totalValue: v.number(),
});

export const createSnapshot = mutation({
  args: {
    cashBalance: v.optional(v.number()),
    date: v.number(),
    source: sourceValidator,
    totalValue: v.number(),
  },
  handler: async (ctx, args) => await ctx.db.insert("portfolioSnapshots", args),
  returns: v.id("portfolioSnapshots"),
});

export const getLatestSnapshot = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("portfolioSnapshots").withIndex("by_date").order("desc").first(),
  returns: v.union(snapshotValidator, v.null()),
});

export const listSnapshots = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("portfolioSnapshots").withIndex("by_date").order("desc").collect(),
  returns: v.array(snapshotValidator),
});
