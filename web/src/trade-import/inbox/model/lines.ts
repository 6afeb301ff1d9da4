// The lines of the list: the fills of one order are one line that opens.
import type { InboxRow } from "../../api";

export type OrderLine = { isOpen: boolean; key: string; kind: "order"; rows: readonly InboxRow[] };
export type FillLine = {
  isOpen: boolean;
  key: string;
  kind: "fill";
  /** The line of its order, where it is shown under one. */
  parent: string | null;
  row: InboxRow;
};
export type Line = FillLine | OrderLine;

/** Stays the same while a row is dismissed, restored or corrected; its trade's id does not. */
export function rowKey({ executionId, leg }: Pick<InboxRow, "executionId" | "leg">): string {
  return `${executionId}:${leg ?? 1}`;
}

export function rowsOf(line: Line): readonly InboxRow[] {
  return line.kind === "order" ? line.rows : [line.row];
}

/** An order of several instruments, or one that turns a position, is several lines: a plan is for one of them. */
function orderKey(row: InboxRow): string | null {
  if (row.externalOrderId === null) return null;
  return JSON.stringify([row.provider, row.accountRef, row.externalOrderId, row.symbol, row.side, row.direction]);
}

/** In the order of the rows; an order stands where its first row stands. */
export function linesOf(rows: readonly InboxRow[], open: ReadonlySet<string>): Line[] {
  const orders = new Map<string, InboxRow[]>();
  const places: InboxRow[][] = [];
  for (const row of rows) {
    const key = orderKey(row);
    const order = key === null ? undefined : orders.get(key);
    if (order !== undefined) {
      order.push(row);
      continue;
    }
    const place = [row];
    if (key !== null) orders.set(key, place);
    places.push(place);
  }
  return places.flatMap((place) => linesOfPlace(place, open));
}

function linesOfPlace(rows: readonly InboxRow[], open: ReadonlySet<string>): Line[] {
  const [first] = rows;
  if (first === undefined) return [];
  const fill = (row: InboxRow, parent: string | null): FillLine => {
    const key = rowKey(row);
    return { isOpen: open.has(key), key, kind: "fill", parent, row };
  };
  if (rows.length === 1) return [fill(first, null)];
  const key = orderKey(first) ?? rowKey(first);
  const isOpen = open.has(key);
  const order: OrderLine = { isOpen, key, kind: "order", rows };
  return isOpen ? [order, ...rows.map((row) => fill(row, key))] : [order];
}

/** The one value that all rows share; undefined where they differ. */
export function shared<T>(rows: readonly InboxRow[], value: (row: InboxRow) => T): T | undefined {
  const [first, ...rest] = rows.map(value);
  return rest.every((each) => each === first) ? first : undefined;
}
