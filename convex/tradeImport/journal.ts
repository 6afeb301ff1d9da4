// What the app's own functions need to know of imported trades: whose they are, which of them count, and to
// which campaign they belong. All that the app imports in its trades, plans, campaigns, positions and figures.
import type { Auth } from "convex/server";
import { callerId, mayRead } from "./access";
import { countsForAnalytics } from "./rules/analytics";

export { countsForAnalytics } from "./rules/analytics";
export { belongsToCampaign, editLink } from "./rules/linkage";

type Countable = Parameters<typeof countsForAnalytics>[0];

/** Trades that somebody typed, and the caller's own imported ones. */
export async function visibleTrades<Trade extends { ownerId?: string }>(
  ctx: { auth: Auth },
  trades: Trade[],
): Promise<Trade[]> {
  const caller = await callerId(ctx);
  return trades.filter((trade) => mayRead(caller, trade));
}

/** Those of them that figures are made of. */
export async function countedTrades<Trade extends Countable & { ownerId?: string }>(
  ctx: { auth: Auth },
  trades: Trade[],
): Promise<Trade[]> {
  return (await visibleTrades(ctx, trades)).filter(countsForAnalytics);
}

/** May the caller see, change and delete this trade? */
export async function isVisible(ctx: { auth: Auth }, trade: { ownerId?: string }): Promise<boolean> {
  return mayRead(await callerId(ctx), trade);
}
