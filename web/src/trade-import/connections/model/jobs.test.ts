import { expect, test } from "vitest";
import { canUndo, countsOf, undoSentence } from "./jobs";

const NONE = { errors: 0, fetched: 0, held: 0, inserted: 0, known: 0, pendingReview: 0, rejected: 0, skipped: 0, updated: 0 };

test("only fates that occurred are shown, and those with rows of their own open them", () => {
  expect(countsOf({ stats: NONE })).toEqual([{ count: 0, name: "fetched", opens: null }]);
  expect(countsOf({ stats: { ...NONE, fetched: 9, inserted: 4, known: 3, rejected: 2 } })).toEqual([
    { count: 9, name: "fetched", opens: null },
    { count: 4, name: "new", opens: "executions" },
    { count: 2, name: "unreadable", opens: "rejects" },
    { count: 3, name: "known before", opens: null },
  ]);
});

test("what added nothing, still runs or is taken back already is not offered to be taken back", () => {
  const stats = { ...NONE, inserted: 4 };
  expect(canUndo({ stats, status: "succeeded", undo: null })).toBe(true);
  expect(canUndo({ stats: NONE, status: "succeeded", undo: null })).toBe(false);
  expect(canUndo({ stats, status: "running", undo: null })).toBe(false);
  expect(canUndo({ stats, status: "succeeded", undo: { at: 1, kept: 0, removed: 4, running: false } })).toBe(false);
  expect(canUndo({ stats, status: "succeeded", undo: { at: 1, kept: 2, removed: 2, running: false } })).toBe(true);
  expect(canUndo({ stats, status: "succeeded", undo: { at: 1, kept: 2, removed: 2, running: true } })).toBe(false);
});

test("what was taken back", () => {
  expect(undoSentence({ kept: 0, removed: 1 })).toBe("Taken back: 1 row.");
  expect(undoSentence({ kept: 3, removed: 40 })).toBe("Taken back: 40 rows; 3 rows kept.");
});
