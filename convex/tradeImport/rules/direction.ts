// Which way a fill goes: does it open or close a position, or turn one round (reference existing-app 10)? By the
// broker's mark, else by what is known to be open just before the fill, else by a guess that says it is one.
import type { Doc } from "../../_generated/dataModel";
import type { Execution, ImportFlag, Side } from "../validators";
import { compare, isPositive, least, minus, plus } from "./decimal";

export type Direction = "long" | "short";

/** Open quantities of an instrument, never negative. */
export type Position = Record<Direction, string>;

export const FLAT: Position = { long: "0", short: "0" };

/** One trade that a fill becomes. */
export type Leg = NonNullable<Doc<"externalExecutions">["derived"]>["legs"][number];

export type Fill = Pick<Execution, "assetClass" | "flags" | "openClose" | "quantity"> & { side: Side };

type Trade = { direction: Direction; quantity: string; side: Side };

export function opens(trade: Pick<Trade, "direction" | "side">): boolean {
  return (trade.direction === "long") === (trade.side === "buy");
}

/** A close takes what is there: more than that was opened where nobody saw it. */
export function positionAfter(position: Position, trade: Trade): Position {
  const open = position[trade.direction];
  const change = opens(trade) ? plus(open, trade.quantity) : minus(open, least(open, trade.quantity));
  return { ...position, [trade.direction]: change };
}

export function positionAfterAll(position: Position, trades: ReadonlyArray<Trade>): Position {
  return trades.reduce(positionAfter, position);
}

/** One leg, or two where the fill does more than close what is known to be open. */
export function legsOf(fill: Fill, before: Position): Leg[] {
  const { quantity, side } = fill;
  const opened: Direction = side === "buy" ? "long" : "short";
  const closed: Direction = side === "buy" ? "short" : "long";
  const known = before[closed];
  const leg = (direction: Direction, amount: string, ...flags: ImportFlag[]): Leg => ({
    direction,
    flags,
    quantity: amount,
    side,
  });
  /** Closes what is known; `rest` says what the remainder is, or the whole where nothing is known. */
  const split = (rest: (amount: string) => Leg, ...flags: ImportFlag[]): Leg[] => {
    if (compare(known, quantity) >= 0) return [leg(closed, quantity, ...flags)];
    if (!isPositive(known)) return [rest(quantity)];
    return [leg(closed, known, ...flags), rest(minus(quantity, known))];
  };
  const closesUnknown = (amount: string) => leg(closed, amount, "opening_lot_unknown");

  switch (markOf(fill)) {
    case "open":
      return [leg(opened, quantity)];
    case "close":
      return split(closesUnknown);
    case "close_open":
      // How much of it closes is told by what was open alone.
      if (!isPositive(known)) return [leg(opened, quantity, "opening_lot_unknown", "direction_guessed")];
      if (compare(known, quantity) >= 0) return [leg(closed, quantity, "direction_guessed")];
      return split((amount) => leg(opened, amount));
    case undefined:
      break;
  }
  if (!canBeShort(fill)) return side === "buy" ? [leg("long", quantity)] : split(closesUnknown);
  const isBoth = isPositive(before.long) && isPositive(before.short);
  const doubt: ImportFlag[] = isBoth ? ["direction_guessed"] : [];
  // A purchase that closes nothing known opens a position in all likelihood; a sale may well close an older one.
  const guess: ImportFlag[] = isBoth || side === "sell" ? ["direction_guessed"] : [];
  return split((amount) => leg(opened, amount, ...guess), ...doubt);
}

function markOf({ flags, openClose }: Fill): Execution["openClose"] {
  if (openClose !== undefined) return openClose;
  const [isOpen, isClose] = [flags.includes("position_open"), flags.includes("position_close")];
  if (isOpen && isClose) return "close_open";
  return isOpen ? "open" : isClose ? "close" : undefined;
}

/** Coins and tokens are sold from what one has, unless they are traded on margin. */
function canBeShort({ assetClass, flags }: Fill): boolean {
  if (assetClass === "tokenized") return false;
  return assetClass !== "crypto" || flags.includes("margin");
}

export function sameLegs(a: ReadonlyArray<Leg>, b: ReadonlyArray<Leg>): boolean {
  return (
    a.length === b.length &&
    a.every((leg, index) => {
      const other = b[index];
      return other !== undefined && sameTrade(leg, other) && leg.flags.join() === other.flags.join();
    })
  );
}

/** Do they say the same but for how sure they are? */
export function sameTrades(a: ReadonlyArray<Leg>, b: ReadonlyArray<Leg>): boolean {
  return a.length === b.length && a.every((leg, index) => b[index] !== undefined && sameTrade(leg, b[index]));
}

function sameTrade(a: Trade, b: Trade): boolean {
  return a.direction === b.direction && a.side === b.side && compare(a.quantity, b.quantity) === 0;
}
