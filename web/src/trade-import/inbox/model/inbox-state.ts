// Where the user is in the list and what is selected. Rows come and go under it, by other hands too: the cursor stays
// on its line, and where that has gone, on the next one that is left.
import type { InboxRow } from "../../api";
import { linesOf, rowKey, rowsOf, type Line } from "./lines";

export type InboxState = {
  /** Where a range of selected lines begins. */
  anchor: string | null;
  cursor: string | null;
  lines: readonly Line[];
  open: ReadonlySet<string>;
  rows: readonly InboxRow[];
  /** Keys of rows, not of lines: an order is selected when all its rows are. */
  selected: ReadonlySet<string>;
};

export type InboxEvent =
  | { type: "clear" }
  | { by: number; selecting?: boolean; type: "move" }
  | { key: string; type: "go" }
  | { to: "first" | "last"; type: "jump" }
  | { key: string; type: "toggle-open" }
  | { type: "open" }
  | { type: "close" }
  | { rows: readonly InboxRow[]; type: "rows" }
  | { key: string; type: "toggle-selected" }
  | { key: string; type: "select-to" }
  | { type: "select-all" };

export const START: InboxState = { anchor: null, cursor: null, lines: [], open: new Set(), rows: [], selected: new Set() };

export function inboxState(state: InboxState, event: InboxEvent): InboxState {
  switch (event.type) {
    case "rows":
      return withLines(state, event.rows, state.open);
    case "move": {
      const at = indexOf(state.lines, state.cursor);
      const to = at < 0 ? 0 : clamp(at + event.by, state.lines.length);
      const cursor = state.lines[to]?.key ?? null;
      if (event.selecting !== true) return { ...state, anchor: null, cursor };
      const anchor = state.anchor ?? state.cursor ?? cursor;
      return { ...selectRange(state, anchor, cursor, state.anchor === null ? null : state.cursor), anchor, cursor };
    }
    case "jump": {
      const line = event.to === "first" ? state.lines[0] : state.lines[state.lines.length - 1];
      return { ...state, anchor: null, cursor: line?.key ?? null };
    }
    case "go":
      return indexOf(state.lines, event.key) < 0 ? state : { ...state, anchor: null, cursor: event.key };
    case "toggle-open": {
      const open = new Set(state.open);
      if (!open.delete(event.key)) open.add(event.key);
      return withLines(state, state.rows, open);
    }
    case "open": {
      const line = lineAt(state);
      if (line === null || line.isOpen) return state;
      return withLines(state, state.rows, new Set([...state.open, line.key]));
    }
    case "close": {
      const line = lineAt(state);
      if (line === null) return state;
      if (line.isOpen) {
        const open = new Set(state.open);
        open.delete(line.key);
        return withLines(state, state.rows, open);
      }
      return line.kind === "fill" && line.parent !== null ? { ...state, cursor: line.parent } : state;
    }
    case "toggle-selected": {
      const line = state.lines.find(({ key }) => key === event.key);
      if (line === undefined) return state;
      const selected = new Set(state.selected);
      const isSelected = isLineSelected(state, line);
      for (const row of rowsOf(line)) {
        if (isSelected) selected.delete(rowKey(row));
        else selected.add(rowKey(row));
      }
      return { ...state, anchor: event.key, selected };
    }
    case "select-to":
      return { ...selectRange(state, state.anchor ?? state.cursor ?? event.key, event.key, null), cursor: event.key };
    case "select-all":
      return { ...state, selected: new Set(state.rows.map(rowKey)) };
    case "clear":
      return { ...state, anchor: null, selected: new Set() };
  }
}

export function lineAt({ cursor, lines }: InboxState): Line | null {
  return lines.find(({ key }) => key === cursor) ?? null;
}

export function isLineSelected({ selected }: Pick<InboxState, "selected">, line: Line): boolean {
  return rowsOf(line).every((row) => selected.has(rowKey(row)));
}

/** What a command is about: the selected rows, else those of the line at the cursor. */
export function targetsOf(state: InboxState): readonly InboxRow[] {
  if (state.selected.size > 0) return state.rows.filter((row) => state.selected.has(rowKey(row)));
  const line = lineAt(state);
  return line === null ? [] : rowsOf(line);
}

function withLines(state: InboxState, rows: readonly InboxRow[], open: ReadonlySet<string>): InboxState {
  const lines = linesOf(rows, open);
  const present = new Set(rows.map(rowKey));
  const selected = new Set([...state.selected].filter((key) => present.has(key)));
  return {
    anchor: indexOf(lines, state.anchor) < 0 ? null : state.anchor,
    cursor: survivor(state.lines, lines, state.cursor),
    lines,
    open,
    rows,
    selected: selected.size === state.selected.size ? state.selected : selected,
  };
}

/** The line at the cursor, else the one its rows are in now, else the nearest below that is left, else above. */
function survivor(before: readonly Line[], after: readonly Line[], cursor: string | null): string | null {
  const at = indexOf(before, cursor);
  const first = after[0]?.key ?? null;
  if (at < 0) return first;
  const lineOfRow = new Map<string, string>();
  for (const line of after) {
    for (const row of rowsOf(line)) {
      // The fill itself before its order.
      if (line.kind === "fill" || !lineOfRow.has(rowKey(row))) lineOfRow.set(rowKey(row), line.key);
    }
  }
  const keys = new Set(after.map(({ key }) => key));
  const now = (line: Line): string | null => {
    if (keys.has(line.key)) return line.key;
    for (const row of rowsOf(line)) {
      const key = lineOfRow.get(rowKey(row));
      if (key !== undefined) return key;
    }
    return null;
  };
  const below = before.slice(at).map(now);
  const above = before.slice(0, at).reverse().map(now);
  return [...below, ...above].find((key) => key !== null) ?? first;
}

/** Selects from `from` to `to`; what reached only to `previous` before is let go. */
function selectRange(state: InboxState, from: string | null, to: string | null, previous: string | null): InboxState {
  const selected = new Set(state.selected);
  const rowsBetween = (end: string | null) => {
    const [a, b] = [indexOf(state.lines, from), indexOf(state.lines, end)];
    return a < 0 || b < 0 ? [] : state.lines.slice(Math.min(a, b), Math.max(a, b) + 1).flatMap(rowsOf);
  };
  if (previous !== null) for (const row of rowsBetween(previous)) selected.delete(rowKey(row));
  for (const row of rowsBetween(to)) selected.add(rowKey(row));
  return { ...state, selected };
}

function indexOf(lines: readonly Line[], key: string | null): number {
  return key === null ? -1 : lines.findIndex((line) => line.key === key);
}

function clamp(index: number, length: number): number {
  return Math.max(0, Math.min(length - 1, index));
}
