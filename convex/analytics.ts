import { v } from "convex/values";
import { query } from "./_generated/server";
import { readJournal, summarise } from "./lib/journal";
import { belongsToCampaign } from "./tradeImport/rules/linkage";

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
    const journal = await readJournal(ctx);
    const yearStart = new Date(new Date().getFullYear(), 0, 1).getTime();
    const realized = journal.counted.flatMap((trade) => {
      const result = journal.realizedPL(trade);
      return result === null ? [] : [{ date: trade.date, result }];
    });
    const results = realized.map(({ result }) => result);
    const wins = results.filter((result) => result > 0);
    const losses = results.filter((result) => result < 0);

    const campaigns = await ctx.db.query("campaigns").collect();
    const plans = await ctx.db.query("tradePlans").collect();
    const closed = campaigns.filter(({ status }) => status === "closed");
    const winning = closed.filter((campaign) => {
      const planIds = new Set(plans.filter(({ campaignId }) => campaignId === campaign._id).map(({ _id }) => _id));
      const trades = journal.counted.filter((trade) => belongsToCampaign(trade, campaign._id, planIds));
      return summarise(journal, trades).realizedPL > 0;
    });

    return {
      avgLoss: average(losses),
      avgWin: average(wins),
      closedCampaignCount: closed.length,
      openCampaignCount: campaigns.length - closed.length,
      profitFactor: losses.length === 0 ? null : sum(wins) / Math.abs(sum(losses)),
      totalRealizedPL: sum(results),
      totalRealizedPLYTD: sum(realized.filter(({ date }) => date >= yearStart).map(({ result }) => result)),
      totalTradeCount: journal.counted.length,
      winningCampaignCount: winning.length,
      winRate: results.length === 0 ? null : wins.length / results.length,
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
