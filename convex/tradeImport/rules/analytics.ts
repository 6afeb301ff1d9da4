import type { ImportFlag } from "../validators";

/**
 * A row that waits for review is a proposal, and one that the broker cancelled never happened: neither counts in
 * any profit, position or campaign figure. A missing `inboxStatus` is a trade that somebody typed.
 */
export function countsForAnalytics(trade: {
  importFlags?: ImportFlag[];
  inboxStatus?: "pending_review" | "reviewed";
}): boolean {
  return trade.inboxStatus !== "pending_review" && trade.importFlags?.includes("voided_by_broker") !== true;
}
