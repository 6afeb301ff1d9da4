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
