// What a user may put right about an imported row while reviewing it.
import type { ImportFlag } from "../validators";

type Direction = "long" | "short";
type Row = { direction: Direction; importFlags?: ImportFlag[]; side: "buy" | "sell" };

/** The row with the user's direction: no guess any more, and an opening closes no unknown lot. */
export function withDirection(row: Row, direction: Direction | undefined): Partial<Pick<Row, "direction" | "importFlags">> {
  if (direction === undefined) return {};
  const opens = (direction === "long") === (row.side === "buy");
  const flags = row.importFlags ?? [];
  return {
    direction,
    importFlags: flags.filter((flag) => flag !== "direction_guessed" && !(opens && flag === "opening_lot_unknown")),
  };
}

/** Flags that a direction brings with it. */
const OF_DIRECTION: ReadonlySet<ImportFlag> = new Set(["direction_guessed", "opening_lot_unknown"]);

/** The row with the direction it had, and what was said of that; other flags are as they are now. */
export function asBefore(
  row: Row,
  before: { direction: Direction; flags: ReadonlyArray<ImportFlag> },
): Pick<Row, "direction" | "importFlags"> {
  if (row.direction === before.direction && !before.flags.includes("direction_guessed")) {
    return { direction: row.direction, importFlags: row.importFlags };
  }
  const kept = (row.importFlags ?? []).filter((flag) => !OF_DIRECTION.has(flag));
  return { direction: before.direction, importFlags: [...kept, ...before.flags.filter((flag) => OF_DIRECTION.has(flag))] };
}
