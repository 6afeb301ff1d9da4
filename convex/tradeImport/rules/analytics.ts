/**
 * A row that waits for review is a proposal: it counts in no profit, position or campaign figure. A missing
 * `inboxStatus` is a trade that somebody typed.
 */
export function countsForAnalytics(trade: { inboxStatus?: "pending_review" | "reviewed" }): boolean {
  return trade.inboxStatus !== "pending_review";
}
