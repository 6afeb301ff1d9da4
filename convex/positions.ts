import { v } from "convex/values";
import { query } from "./_generated/server";
import { isOpening } from "./lib/plCalculation";
import { countedTrades } from "./tradeImport/journal";

type Tally = {
  direction: "long" | "short";
  openedCost: number;
  openedQuantity: number;
  quantity: number;
  ticker: string;
};

/** Open positions at the average of all opening trades; closes do not change it. */
export const getPositions = query({
  args: {},
  handler: async (ctx) => {
    const trades = await countedTrades(ctx, await ctx.db.query("trades").collect());
    const tallies = new Map<string, Tally>();
    for (const trade of trades) {
      const { direction, price, quantity, ticker } = trade;
      const key = `${ticker}:${direction}`;
      const tally = tallies.get(key) ?? { direction, openedCost: 0, openedQuantity: 0, quantity: 0, ticker };
      tallies.set(key, tally);
      if (isOpening(trade)) {
        tally.openedCost += price * quantity;
        tally.openedQuantity += quantity;
        tally.quantity += quantity;
      } else {
        tally.quantity -= quantity;
      }
    }
    return [...tallies.values()]
      .filter(({ quantity }) => quantity > 0)
      .map(({ direction, openedCost, openedQuantity, quantity, ticker }) => ({
        averageCost: openedCost / openedQuantity,
        direction,
        quantity,
        ticker,
      }));
  },
  returns: v.array(
    v.object({
      averageCost: v.number(),
      direction: v.union(v.literal("long"), v.literal("short")),
      quantity: v.number(),
      ticker: v.string(),
    }),
  ),
});
