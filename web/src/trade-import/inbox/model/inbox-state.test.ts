import { describe, expect, test } from "vitest";
import type { InboxRow } from "../../api";
import { inboxState, isLineSelected, lineAt, START, targetsOf, type InboxEvent, type InboxState } from "./inbox-state";
import { rowsOf } from "./lines";
import { sampleRow } from "./sample-rows";

const rows = (names: string) => Array.from(names, (name) => sampleRow(name));
const after = (state: InboxState, ...events: InboxEvent[]) => events.reduce(inboxState, state);
const shown = (state: InboxState, list: readonly InboxRow[]) => inboxState(state, { rows: list, type: "rows" });
const at = (state: InboxState) => {
  const line = lineAt(state);
  return line === null ? null : rowsOf(line).map(({ executionId }) => executionId).join("");
};
const names = (list: readonly InboxRow[]) => list.map(({ executionId }) => executionId).join("");
const down: InboxEvent = { by: 1, type: "move" };
const up: InboxEvent = { by: -1, type: "move" };
const key = (name: string) => `${name}:1`;

const LIST = shown(START, rows("abcde"));

describe("the cursor", () => {
  test("begins at the first line, and is nowhere in an empty list", () => {
    expect(at(LIST)).toBe("a");
    expect(at(shown(START, []))).toBeNull();
  });

  test("moves and stops at the ends", () => {
    expect(at(after(LIST, down, down))).toBe("c");
    expect(at(after(LIST, up))).toBe("a");
    expect(at(after(LIST, { by: 99, type: "move" }))).toBe("e");
    expect(at(after(LIST, { to: "last", type: "jump" }, down))).toBe("e");
    expect(at(after(LIST, { to: "last", type: "jump" }, { to: "first", type: "jump" }))).toBe("a");
  });

  test.each([
    ["its line goes: the next one", "abde", "d"],
    ["it and the next go: the one behind", "abe", "e"],
    ["all behind it go as well: the one before", "ab", "b"],
    ["newer rows arrive: it stays", "xyzabcde", "c"],
    ["it goes while newer arrive", "xabde", "d"],
    ["everything is replaced: the first", "xyz", "x"],
    ["nothing is left", "", null],
  ])("%s", (_what, now, cursor) => {
    expect(at(shown(after(LIST, down, down), rows(now)))).toBe(cursor);
  });

  test("stays with a row that becomes part of an order, and with what is left of one", () => {
    const one = sampleRow("a", { externalOrderId: "O" });
    const two = sampleRow("b", { externalOrderId: "O" });
    const alone = after(shown(START, [sampleRow("x"), one]), down);
    expect(at(shown(alone, [sampleRow("x"), two, one]))).toBe("ba");
    const both = after(shown(START, [sampleRow("x"), two, one]), down);
    expect(at(shown(both, [sampleRow("x"), one]))).toBe("a");
  });
});

describe("an order", () => {
  const order = (name: string) => sampleRow(name, { externalOrderId: "O" });
  const list = shown(START, [order("a"), order("b"), sampleRow("c")]);

  test("opens; its fills are walked; closing goes back to it", () => {
    const open = after(list, { type: "open" });
    expect(open.lines).toHaveLength(4);
    expect(at(after(open, down))).toBe("a");
    const back = after(open, down, down, { type: "close" });
    expect(at(back)).toBe("ab");
    expect(after(back, { type: "close" }).lines).toHaveLength(2);
  });

  test("is what a command is about, or one fill of it", () => {
    expect(names(targetsOf(list))).toBe("ab");
    expect(names(targetsOf(after(list, { type: "open" }, down, down)))).toBe("b");
  });

  test("is selected with all its fills, and only then", () => {
    const selected = after(list, { key: list.cursor ?? "", type: "toggle-selected" });
    expect(names(targetsOf(selected))).toBe("ab");
    const open = after(selected, { type: "open" }, { key: key("b"), type: "toggle-selected" });
    const [line] = open.lines;
    expect(line && isLineSelected(open, line)).toBe(false);
    expect(names(targetsOf(open))).toBe("a");
  });
});

describe("the selection", () => {
  test("grows and shrinks with shift and the arrows", () => {
    const more: InboxEvent = { by: 1, selecting: true, type: "move" };
    const less: InboxEvent = { by: -1, selecting: true, type: "move" };
    const three = after(LIST, down, more, more);
    expect(names(targetsOf(three))).toBe("bcd");
    expect(names(targetsOf(after(three, less)))).toBe("bc");
    expect(names(targetsOf(after(three, less, less, less)))).toBe("ab");
  });

  test("reaches to a line that is clicked with shift", () => {
    const list = after(LIST, { key: key("b"), type: "toggle-selected" }, { key: key("d"), type: "select-to" });
    expect(names(targetsOf(list))).toBe("bcd");
    expect(at(list)).toBe("d");
  });

  test("is let go at once, and taken whole", () => {
    const all = after(LIST, { type: "select-all" });
    expect(names(targetsOf(all))).toBe("abcde");
    expect(names(targetsOf(after(all, { type: "clear" })))).toBe("a");
  });

  test("loses rows that are gone, and no others", () => {
    const some = after(LIST, { key: key("b"), type: "toggle-selected" }, { key: key("d"), type: "toggle-selected" });
    expect(names(targetsOf(shown(some, rows("xacde"))))).toBe("d");
  });
});
