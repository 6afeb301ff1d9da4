// Which plan a pending trade may belong to (reference existing-app 9). A plan states no direction; what is
// linked or suggested to it implies one.

type Direction = "long" | "short";

export type Evidence = { direction: Direction; quantity: number; side: "buy" | "sell" };

/** Float sums of decimal quantities miss zero by less than this. */
const DUST = 1e-9;

/** Open quantity of a plan by direction, and which directions it has seen. */
class PlanPosition {
  private readonly open: Record<Direction, number> = { long: 0, short: 0 };
  private readonly seen = new Set<Direction>();
  /** Of all that is linked, whenever it was: one direction is the plan's. */
  private readonly linked: ReadonlySet<Direction>;

  constructor(linked: ReadonlyArray<Evidence>) {
    this.linked = new Set(linked.map(({ direction }) => direction));
  }

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
    if (this.linked.size === 1) return this.linked.has("long") ? "long" : "short";
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
 * The plan that each of the rows in `pending` suggests: the only one that admits it. `linked` are the trades of each
 * plan that may be meant; those of one instant come in the order given. A row that several plans admit suggests none,
 * and is no evidence for any. Depends on the set of rows alone, not on the order in which they arrived.
 */
export function suggested<Plan, Row extends Evidence & { date: number }>(
  linked: ReadonlyMap<Plan, ReadonlyArray<Evidence & { date: number }>>,
  pending: ReadonlyArray<Row>,
): Map<Row, Plan> {
  const positions = new Map([...linked].map(([plan, trades]) => [plan, new PlanPosition(trades)]));
  const result = new Map<Row, Plan>();
  const propose = (row: Row) => {
    const [fit, ...others] = [...positions].filter(([, position]) => position.admits(row));
    if (fit === undefined || others.length > 0) return;
    const [plan, position] = fit;
    position.add(row);
    result.set(row, plan);
  };
  const steps = [
    ...[...linked].flatMap(([plan, trades]) =>
      trades.map((trade) => ({ date: trade.date, take: () => positions.get(plan)?.add(trade) })),
    ),
    ...pending.map((row) => ({ date: row.date, take: () => propose(row) })),
  ].sort((a, b) => a.date - b.date);
  for (const { take } of steps) take();
  return result;
}
