// The trades that a reader sees, and those of them that count.
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { callerId, mayRead } from "../tradeImport/access";
import { countsForAnalytics } from "../tradeImport/rules/analytics";
import { calculateTradesPL } from "./plCalculation";

export type Journal = {
  /** The visible trades that figures are made of. */
  counted: Doc<"trades">[];
  /** Realized P&L of a counted trade; null for one that opens or does not count. */
  realizedPL: (trade: Doc<"trades">) => number | null;
  visible: Doc<"trades">[];
};

export async function readJournal(ctx: QueryCtx): Promise<Journal> {
  const caller = await callerId(ctx);
  const visible = (await ctx.db.query("trades").collect()).filter((trade) => mayRead(caller, trade));
  const counted = visible.filter(countsForAnalytics);
  const results = calculateTradesPL(counted);
  return { counted, realizedPL: (trade) => results.get(trade._id) ?? null, visible };
}

/** Wins, losses and their sum over trades of the journal. */
export function summarise(journal: Journal, trades: ReadonlyArray<Doc<"trades">>) {
  const realized = trades.flatMap((trade) => journal.realizedPL(trade) ?? []);
  return {
    losingTrades: realized.filter((result) => result < 0).length,
    realizedPL: realized.reduce((sum, result) => sum + result, 0),
    tradeCount: trades.length,
    winningTrades: realized.filter((result) => result > 0).length,
  };
}
