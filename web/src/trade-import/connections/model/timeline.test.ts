import { expect, test } from "vitest";
import { fromBeginning, shownFrom, timeline } from "./timeline";

const DAY = 86_400_000;

const drawn = (facts: Parameters<typeof timeline>[0], now: number) =>
  timeline(facts, now).map(({ end, kind, start, width }) => [kind, start / DAY, end / DAY, Math.round(width * 100) / 100]);

test("what is read, what is missing in it, what has not been read yet", () => {
  const facts = { completeFrom: 0, completeUpTo: 90 * DAY, gaps: [{ end: 50 * DAY, start: 40 * DAY }] };
  expect(drawn(facts, 100 * DAY)).toEqual([
    ["complete", 0, 40, 40],
    ["gap", 40, 50, 10],
    ["complete", 50, 90, 40],
    ["unread", 90, 100, 10],
  ]);
});

test("nothing read, nothing drawn", () => {
  expect(timeline({ completeFrom: null, completeUpTo: null, gaps: [] }, DAY)).toEqual([]);
});

test("an hour's gap in ten years can still be seen, and the line is not longer for it", () => {
  const parts = timeline(
    { completeFrom: 0, completeUpTo: 3650 * DAY, gaps: [{ end: 100 * DAY + DAY / 24, start: 100 * DAY }] },
    3650 * DAY,
  );
  expect(parts[0]?.start).toBeCloseTo((100 - 365 / 12) * DAY, -3);
  expect(parts.map(({ kind }) => kind)).toEqual(["complete", "gap", "complete"]);
  expect(parts[1]?.width).toBeCloseTo(0.8, 6);
  expect(parts.reduce((sum, { width }) => sum + width, 0)).toBeCloseTo(100, 6);
});

test("more gaps than there is room for still make one line", () => {
  const gaps = Array.from({ length: 20 }, (_, index) => ({ end: index * 100 + 11, start: index * 100 + 10 }));
  const parts = timeline({ completeFrom: 0, completeUpTo: 2_000, gaps }, 2_000);
  expect(parts).toHaveLength(41);
  expect(parts.reduce((sum, { width }) => sum + width, 0)).toBeCloseTo(100, 6);
});

test("a clock behind the server's draws no negative time", () => {
  expect(drawn({ completeFrom: 0, completeUpTo: 10 * DAY, gaps: [] }, 9 * DAY)).toEqual([["complete", 0, 10, 100]]);
});

test("of a history from the beginning the last year is drawn, and back to the first hole", () => {
  const now = Date.UTC(2026, 10, 23);
  expect(fromBeginning(0)).toBe(true);
  expect(fromBeginning(now)).toBe(false);
  expect(shownFrom({ completeFrom: 0, gaps: [] }, now)).toBe(now - 365 * DAY);
  expect(shownFrom({ completeFrom: now - 30 * DAY, gaps: [] }, now)).toBe(now - 30 * DAY);
  const gap = { end: now - 799 * DAY, start: now - 800 * DAY };
  expect(shownFrom({ completeFrom: 0, gaps: [gap] }, now)).toBe(now - 800 * DAY - (365 * DAY) / 12);
  expect(shownFrom({ completeFrom: null, gaps: [] }, now)).toBeNull();
});
