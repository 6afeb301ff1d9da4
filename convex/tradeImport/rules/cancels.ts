// Which executions the broker has cancelled (reference ibkr 4.6). Depends on the rows known, not on their order.
import type { Execution } from "../validators";

type Booking = Pick<Execution, "revision" | "tradeId" | "transactionId">;

/** `cancels` is `tx:<transaction id>`, or `trade:<trade id>` where the statement has no transaction ids. */
type Cancel = Pick<Execution, "cancels" | "source" | "tradeId">;

export function bookingName(transactionId: string): string {
  return `tx:${transactionId}`;
}

/** The transaction that a cancel names, if it names one. */
export function cancelledTransaction(cancel: Cancel): string | undefined {
  return cancel.cancels?.startsWith("tx:") === true ? cancel.cancels.slice("tx:".length) : undefined;
}

/** The trade that a cancel belongs to: its original and all its rebookings. */
export function cancelledTrade(cancel: Cancel): string | undefined {
  if (cancel.tradeId !== undefined) return cancel.tradeId;
  return cancel.cancels?.startsWith("trade:") === true ? cancel.cancels.slice("trade:".length) : undefined;
}

/**
 * Is the execution gone? Only if its last revision is cancelled: a rebooking is a higher revision of the same trade.
 * A cancel that names the last revision's transaction says so. One that names the trade alone may mean any of its
 * bookings, so there must be as many of them as there were bookings, and the revision's number says how many.
 */
export function isVoided(views: ReadonlyArray<Booking>, cancels: ReadonlyArray<Cancel>): boolean {
  const last = Math.max(...views.map(({ revision }) => revision));
  const transactions = new Set(
    views.flatMap(({ revision, transactionId }) => (revision === last ? (transactionId ?? []) : [])),
  );
  if (cancels.some((cancel) => transactions.has(cancelledTransaction(cancel) ?? ""))) return true;

  const trades = new Set(views.flatMap(({ tradeId }) => tradeId ?? []));
  const bySource = new Map<string, number>();
  for (const cancel of cancels) {
    // Where the last transaction is known, one that names a transaction names another one.
    const isOther = transactions.size > 0 && cancelledTransaction(cancel) !== undefined;
    if (isOther || !trades.has(cancelledTrade(cancel) ?? "")) continue;
    bySource.set(cancel.source, (bySource.get(cancel.source) ?? 0) + 1);
  }
  // A cancel comes in confirmations and again in activity statements, with no id in common: not a second one.
  return Math.max(0, ...bySource.values()) >= Math.max(1, last);
}
