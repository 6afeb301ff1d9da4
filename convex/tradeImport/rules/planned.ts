// Trades made by a plan against trades made without one.

type Result = { losingTrades: number; realizedPL: number; tradeCount: number; winningTrades: number };

export type Planned = { planned: Result; unplanned: Result };

/**
 * Over trades that count in the figures: all of them decided, so a missing plan is an answer. A campaign alone is no
 * plan. `results` is the app's own realized profit by trade; null for one that opens.
 */
export function plannedAgainstUnplanned(
  trades: ReadonlyArray<{ _id: string; tradePlanId?: unknown }>,
  results: ReadonlyMap<string, number | null>,
): Planned {
  return {
    planned: sum(trades.filter(({ tradePlanId }) => tradePlanId !== undefined), results),
    unplanned: sum(trades.filter(({ tradePlanId }) => tradePlanId === undefined), results),
  };
}

function sum(trades: ReadonlyArray<{ _id: string }>, results: ReadonlyMap<string, number | null>): Result {
  const realized = trades.flatMap(({ _id }) => results.get(_id) ?? []);
  return {
    losingTrades: realized.filter((result) => result < 0).length,
    realizedPL: realized.reduce((total, result) => total + result, 0),
    tradeCount: trades.length,
    winningTrades: realized.filter((result) => result > 0).length,
  };
}
