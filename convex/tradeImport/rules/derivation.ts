// What the rows of one execution are once the positions before it are known. Rows that nobody decided about follow
// the derivation; those of a user keep their facts and move the position as they say.
import type { Doc } from "../../_generated/dataModel";
import type { ImportFlag } from "../validators";
import { countsForAnalytics } from "./analytics";
import { compare, decimalOf, isPositive } from "./decimal";
import { legsOf, opens, positionAfter, positionAfterAll, sameTrades, type Fill, type Leg, type Position } from "./direction";

/** `after` every trade, and `counted` with those alone that are in the figures. */
export type Positions = { after: Position; counted: Position };

export type Row = Pick<Doc<"trades">, "direction" | "importFlags" | "inboxStatus" | "quantity" | "side">;

export type Derivation = {
  /** The flags of the row at the same place; null where the row is gone. */
  flags: (ImportFlag[] | null)[];
  /** What the rows are to become; for decided ones what they were made from. */
  legs: Leg[];
  positions: Positions;
};

/** The flags that say how well a row's direction is known; all others are not derived from positions. */
const DERIVED_FLAGS: ReadonlyArray<ImportFlag> = ["opening_lot_unknown", "direction_guessed"];

/** A row waits for review and says what was derived; null is a row that somebody deleted. */
export function isUndecided(rows: ReadonlyArray<Row | null>, legs: ReadonlyArray<Leg>): boolean {
  return (
    rows.length === legs.length &&
    rows.every((row, index) => row?.inboxStatus === "pending_review" && isAsDerived(row, legs[index]))
  );
}

/** `rows` were made from `legs`, one each. A row that is no part of the instrument (any more) moves nothing. */
export function derive(
  fill: Fill,
  before: Positions,
  { legs, rows }: { legs: Leg[]; rows: ReadonlyArray<(Row & { isOut: boolean }) | null> },
): Derivation {
  const fresh = legsOf(fill, before.after);
  if (isUndecided(rows, legs) && rows.every((row) => row?.isOut === false)) {
    return {
      flags: fresh.map(({ flags }) => flags),
      legs: fresh,
      positions: { after: positionAfterAll(before.after, fresh), counted: before.counted },
    };
  }
  const isEdited = !rows.every((row, index) => row !== null && isAsDerived(row, legs[index]));
  const isDoubted = !isEdited && !sameTrades(fresh, legs);
  let positions = before;
  const flags = rows.map((row, index) => {
    if (row === null) return null;
    if (row.isOut) return derivedFlags(row);
    const leg = legs[index];
    const trade = tradeOf(row, leg);
    const known = row.inboxStatus === "pending_review" ? positions.after : positions.counted;
    // A user who confirmed the guess took the flag away.
    const wasGuess = row.importFlags?.includes("direction_guessed") === true;
    const isGuess = isDoubted || (wasGuess && (isEdited || leg?.flags.includes("direction_guessed") === true));
    const isUnknown = opens(trade)
      ? leg?.flags.includes("opening_lot_unknown") === true
      : !covers(known, trade, isEdited);
    const result: ImportFlag[] = [
      ...(isUnknown ? (["opening_lot_unknown"] as const) : []),
      ...(isGuess ? (["direction_guessed"] as const) : []),
    ];
    positions = {
      after: positionAfter(positions.after, trade),
      counted: countsForAnalytics({ ...row, importFlags: withDerivedFlags(row.importFlags, result) })
        ? positionAfter(positions.counted, trade)
        : positions.counted,
    };
    return result;
  });
  return { flags, legs, positions };
}

/** The legs of a corrected execution whose rows somebody decided about: they keep their directions where they can. */
export function correctedLegs(legs: Leg[], fresh: Leg[], fill: Fill): Leg[] {
  if (legs.length === fresh.length && legs.every((leg, index) => leg.direction === fresh[index]?.direction)) return fresh;
  const [first] = legs;
  const [likely] = fresh;
  if (first === undefined || likely === undefined) return fresh;
  const direction = first.side === fill.side ? first.direction : likely.direction;
  return [{ ...first, direction, quantity: fill.quantity, side: fill.side }];
}

export function derivedFlags({ importFlags }: Pick<Row, "importFlags">): ImportFlag[] {
  return (importFlags ?? []).filter((flag) => DERIVED_FLAGS.includes(flag));
}

export function withDerivedFlags(flags: ReadonlyArray<ImportFlag> | undefined, derived: ReadonlyArray<ImportFlag>): ImportFlag[] {
  return [...derived, ...(flags ?? []).filter((flag) => !DERIVED_FLAGS.includes(flag))];
}

export function samePositions(a: Positions, b: Positions): boolean {
  return (
    a.after.long === b.after.long &&
    a.after.short === b.after.short &&
    a.counted.long === b.counted.long &&
    a.counted.short === b.counted.short
  );
}

function isAsDerived(row: Row, leg: Leg | undefined): boolean {
  return (
    leg !== undefined &&
    row.direction === leg.direction &&
    row.side === leg.side &&
    row.quantity === Number(leg.quantity)
  );
}

/** Exact where the row says what was derived. */
function tradeOf(row: Row, leg: Leg | undefined) {
  const { direction, quantity, side } = row;
  const exact = leg !== undefined && Number(leg.quantity) === quantity ? leg.quantity : decimalOf(quantity);
  return { direction, quantity: isPositive(exact) ? exact : "0", side };
}

/** Is what the trade closes known to be open? A quantity that a user put right needs no other proof than that. */
function covers(known: Position, trade: { direction: "long" | "short"; quantity: string }, isEdited: boolean): boolean {
  const open = known[trade.direction];
  return isEdited ? isPositive(open) : compare(open, trade.quantity) >= 0;
}
