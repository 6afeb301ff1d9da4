// Figures that only the import can give: was there a plan?
import { v } from "convex/values";
import { calculateTradesPL } from "../lib/plCalculation";
import { userQuery } from "./access";
import { refusal } from "./errors";
import { countsForAnalytics } from "./rules/analytics";
import { plannedAgainstUnplanned } from "./rules/planned";

/** Below what one query may read. The app's own figures read the whole journal too. */
const MAX_TRADES = 30_000;

const vResult = v.object({
  losingTrades: v.number(),
  realizedPL: v.number(),
  tradeCount: v.number(),
  winningTrades: v.number(),
});

/**
 * Trades with a plan against trades without one, by count and by realized result. `from` is inclusive, `to`
 * exclusive; what is realized in the range counts from all trades before it. Rows in review count in neither.
 */
export const planned = userQuery({
  args: { from: v.optional(v.number()), to: v.optional(v.number()) },
  handler: async (ctx, { from = -Infinity, to = Infinity }) => {
    const typed = await ctx.db
      .query("trades")
      .withIndex("by_ownerId_and_inboxStatus_and_date", (q) => q.eq("ownerId", undefined).eq("inboxStatus", undefined))
      .take(MAX_TRADES);
    const imported = await ctx.db
      .query("trades")
      .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
        q.eq("ownerId", ctx.ownerId).eq("inboxStatus", "reviewed"),
      )
      .take(MAX_TRADES + 1 - typed.length);
    if (typed.length + imported.length > MAX_TRADES) {
      throw refusal("conflict", `The journal has more than ${MAX_TRADES} trades, too many for one answer.`);
    }
    // The app takes trades of one moment in the order in which they were stored.
    const counted = [...typed, ...imported]
      .filter(countsForAnalytics)
      .sort((a, b) => a._creationTime - b._creationTime);
    const results = calculateTradesPL(counted);
    return plannedAgainstUnplanned(
      counted.filter(({ date }) => date >= from && date < to),
      results,
    );
  },
  returns: v.object({ planned: vResult, unplanned: vResult }),
});
