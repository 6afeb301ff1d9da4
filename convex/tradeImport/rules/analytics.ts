import type { ImportFlag } from "../validators";

/** Rows that are wrong in a figure: they never happened, or close what is not known to have been opened. */
const UNCOUNTED: ReadonlyArray<ImportFlag> = ["opening_lot_unknown", "voided_by_broker"];

/**
 * A row that waits for review is a proposal: it counts in no profit, position or campaign figure. Nor does one that
 * the broker cancelled, or one whose proceeds would all be profit because the purchase is not known. A missing
 * `inboxStatus` is a trade that somebody typed.
 */
export function countsForAnalytics(trade: {
  importFlags?: ImportFlag[];
  inboxStatus?: "pending_review" | "reviewed";
}): boolean {
  return trade.inboxStatus !== "pending_review" && trade.importFlags?.some((flag) => UNCOUNTED.includes(flag)) !== true;
}
