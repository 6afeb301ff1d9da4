// Which bookings the broker has cancelled (reference ibkr 4.6). Depends on the rows known, not on their order.
import type { Execution } from "../validators";

/** What a cancel names: `tx:<transaction id>`, or `trade:<trade id>` where the statement has no transaction ids. */
export type Cancel = Pick<Execution, "cancels" | "source" | "tradeId">;

/**
 * Is the execution gone? Only if its last revision is cancelled: a cancel and a rebooking share a trade id, and the
 * rebooking is the higher revision, so one cancel leaves the second booking standing.
 */
export function isVoided(views: ReadonlyArray<Execution>, cancels: ReadonlyArray<Cancel>): boolean {
  const last = Math.max(...views.map((view) => view.revision));
  const named = new Set(cancels.flatMap(({ cancels: reference }) => reference ?? []));
  const bookings = views.flatMap(({ revision, transactionId }) =>
    revision === last && transactionId !== undefined ? [`tx:${transactionId}`] : [],
  );
  if (bookings.some((booking) => named.has(booking))) return true;
  const precise = bookings.length > 0 && [...named].some((reference) => reference.startsWith("tx:"));
  return !precise && countOf(cancels, new Set(views.flatMap(({ tradeId }) => tradeId ?? []))) >= last;
}

/**
 * How many cancels name one of the trade ids. The same cancel comes in confirmations and in activity statements,
 * with no id in common, so the larger number counts, not the sum.
 */
function countOf(cancels: ReadonlyArray<Cancel>, tradeIds: ReadonlySet<string>): number {
  const bySource = new Map<string, number>();
  for (const { cancels: reference, source, tradeId } of cancels) {
    const trade = tradeId ?? reference?.replace(/^trade:/, "");
    if (trade === undefined || !tradeIds.has(trade)) continue;
    bySource.set(source, (bySource.get(source) ?? 0) + 1);
  }
  return Math.max(0, ...bySource.values());
}
