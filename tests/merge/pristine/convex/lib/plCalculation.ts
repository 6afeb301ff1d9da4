// Realized profit by moving average cost. One running position per `ticker:direction`, over all trades.

export type TradeForPL = {
  _id: string;
  date: number;
  direction: "long" | "short";
  price: number;
  quantity: number;
  side: "buy" | "sell";
  ticker: string;
};

export type PositionTracker = { cost: number; quantity: number };

/** Realized P&L by trade; null for a trade that opens. Equal dates keep the order of the input. */
export function calculateTradesPL(trades: ReadonlyArray<TradeForPL>): Map<string, number | null> {
  const positions = new Map<string, PositionTracker>();
  const results = new Map<string, number | null>();
  for (const trade of [...trades].sort((a, b) => a.date - b.date)) {
    const key = `${trade.ticker}:${trade.direction}`;
    const position = positions.get(key) ?? { cost: 0, quantity: 0 };
    positions.set(key, position);
    if (isOpening(trade)) {
      position.cost += trade.price * trade.quantity;
      position.quantity += trade.quantity;
      results.set(trade._id, null);
    } else {
      const average = position.quantity > 0 ? position.cost / position.quantity : 0;
      const gain = trade.direction === "long" ? trade.price - average : average - trade.price;
      results.set(trade._id, gain * trade.quantity);
      position.cost = Math.max(0, position.cost - average * trade.quantity);
      position.quantity = Math.max(0, position.quantity - trade.quantity);
    }
  }
  return results;
}

export function calculateTradesWithPL<Trade extends TradeForPL>(
  trades: ReadonlyArray<Trade>,
): (Trade & { realizedPL: number | null })[] {
  const results = calculateTradesPL(trades);
  return trades.map((trade) => ({ ...trade, realizedPL: results.get(trade._id) ?? null }));
}

export function isOpening(trade: Pick<TradeForPL, "direction" | "side">): boolean {
  return (trade.direction === "long") === (trade.side === "buy");
}

/** Wins, losses and their sum over some of the trades that `results` was made of. */
export function summarise(trades: ReadonlyArray<TradeForPL>, results: ReadonlyMap<string, number | null>) {
  const realized = trades.flatMap(({ _id }) => results.get(_id) ?? []);
  return {
    losingTrades: realized.filter((result) => result < 0).length,
    realizedPL: realized.reduce((sum, result) => sum + result, 0),
    tradeCount: trades.length,
    winningTrades: realized.filter((result) => result > 0).length,
  };
}
