// Short words for trades that somebody types, and for what the app makes of its journal.
import type { FunctionArgs } from "convex/server";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import type { User, World } from "./world";

export type NewTrade = FunctionArgs<typeof api.trades.createTrade>;

/** `"sell long 10 110"`: side, direction, quantity, price. */
export function trade(words: string, changes: Partial<NewTrade> = {}): Partial<NewTrade> {
  const [side, direction, quantity, price] = words.split(" ");
  return {
    direction: direction as NewTrade["direction"],
    price: Number(price),
    quantity: Number(quantity),
    side: side as NewTrade["side"],
    ...changes,
  };
}

/** Types them in, a millisecond apart unless they say when. */
export async function enter(w: World, trades: Partial<NewTrade>[]): Promise<Id<"trades">[]> {
  const ids: Id<"trades">[] = [];
  for (const [index, each] of trades.entries()) {
    ids.push(
      await w.alice.mutation(api.trades.createTrade, {
        assetType: "stock",
        date: 1_000 + index,
        direction: "long",
        price: 0,
        quantity: 0,
        side: "buy",
        ticker: "AAPL",
        ...each,
      }),
    );
  }
  return ids;
}

/** The dashboard's profit and the open positions, as this user sees them. */
export async function figures(user: User) {
  const positions = await user.query(api.positions.getPositions, {});
  return {
    positions: positions.map(
      ({ averageCost, direction, quantity, ticker }) => `${quantity} ${ticker} ${direction} @ ${averageCost}`,
    ),
    realized: (await user.query(api.analytics.getDashboardStats, {})).totalRealizedPL,
  };
}
