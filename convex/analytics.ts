import { v } from "convex/values";
import { query } from "./_generated/server";
import { calculateTradesPL, summarise } from "./lib/plCalculation";
import { belongsToCampaign, countedTrades } from "./tradeImport/journal";

const nullableNumber = v.union(v.number(), v.null());

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function average(values: number[]): number | null {
  return values.length === 0 ? null : sum(values) / values.length;
}

export const getDashboardStats = query({
  args: {},
  handler: async (ctx) => {
    const trades = await countedTrades(ctx, await ctx.db.query("trades").collect());
    const results = calculateTradesPL(trades);
    const yearStart = new Date(new Date().getFullYear(), 0, 1).getTime();
    const realized = trades.flatMap(({ _id, date }) => {
      const result = results.get(_id) ?? null;
      return result === null ? [] : [{ date, result }];
    });
    const amounts = realized.map(({ result }) => result);
    const wins = amounts.filter((amount) => amount > 0);
    const losses = amounts.filter((amount) => amount < 0);

    const campaigns = await ctx.db.query("campaigns").collect();
    const plans = await ctx.db.query("tradePlans").collect();
    const closed = campaigns.filter(({ status }) => status === "closed");
    const winning = closed.filter((campaign) => {
      const planIds = new Set(plans.filter(({ campaignId }) => campaignId === campaign._id).map(({ _id }) => _id));
      const own = trades.filter((trade) => belongsToCampaign(trade, campaign._id, planIds));
      return summarise(own, results).realizedPL > 0;
    });

    return {
      avgLoss: average(losses),
      avgWin: average(wins),
      closedCampaignCount: closed.length,
      openCampaignCount: campaigns.length - closed.length,
      profitFactor: losses.length === 0 ? null : sum(wins) / Math.abs(sum(losses)),
      totalRealizedPL: sum(amounts),
      totalRealizedPLYTD: sum(realized.filter(({ date }) => date >= yearStart).map(({ result }) => result)),
      totalTradeCount: trades.length,
      winningCampaignCount: winning.length,
      winRate: amounts.length === 0 ? null : wins.length / amounts.length,
    };
  },
  returns: v.object({
    avgLoss: nullableNumber,
    avgWin: nullableNumber,
    closedCampaignCount: v.number(),
    openCampaignCount: v.number(),
    profitFactor: nullableNumber,
    totalRealizedPL: v.number(),
    totalRealizedPLYTD: v.number(),
    totalTradeCount: v.number(),
    winningCampaignCount: v.number(),
    winRate: nullableNumber,
  }),
});
