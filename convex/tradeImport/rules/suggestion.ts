// Which plan a pending trade may belong to (reference existing-app 9). A plan states no direction; what is
// linked or suggested to it implies one.

type Direction = "long" | "short";

export type Evidence = { direction: Direction; quantity: number; side: "buy" | "sell" };

/** Float sums of decimal quantities miss zero by less than this. */
const DUST = 1e-9;

/** Open quantity of a plan by direction, and which directions it has seen. */
export class PlanPosition {
  private readonly open: Record<Direction, number> = { long: 0, short: 0 };
  private readonly seen = new Set<Direction>();

  add(trade: Evidence): void {
    this.seen.add(trade.direction);
    const change = opens(trade) ? trade.quantity : -trade.quantity;
    this.open[trade.direction] = Math.max(0, this.open[trade.direction] + change);
  }

  /** An opening fits unless the plan runs the other way; a close fits what is open. */
  admits(trade: Evidence): boolean {
    if (!opens(trade)) return this.open[trade.direction] > DUST;
    const implied = this.implied();
    return implied === null || implied === trade.direction;
  }

  private implied(): Direction | null {
    if (this.seen.size === 1) return this.seen.has("long") ? "long" : "short";
    const long = this.open.long > DUST;
    const short = this.open.short > DUST;
    if (long === short) return null;
    return long ? "long" : "short";
  }
}

function opens(trade: Evidence): boolean {
  return (trade.direction === "long") === (trade.side === "buy");
}

/**
 * The rows among `pending`, in time order, that suggest the one plan whose linked trades are `linked`.
 * Depends on the set of rows alone, not on the order in which they arrived.
 */
export function suggested<Row extends Evidence & { date: number }>(
  linked: ReadonlyArray<Evidence & { date: number }>,
  pending: ReadonlyArray<Row>,
): Set<Row> {
  const position = new PlanPosition();
  const result = new Set<Row>();
  const steps = [
    ...linked.map((trade) => ({ proposal: null, trade })),
    ...pending.map((trade) => ({ proposal: trade, trade })),
  ].sort((a, b) => a.trade.date - b.trade.date);
  for (const { proposal, trade } of steps) {
    if (proposal === null) {
      position.add(trade);
    } else if (position.admits(proposal)) {
      position.add(proposal);
      result.add(proposal);
    }
  }
  return result;
}
