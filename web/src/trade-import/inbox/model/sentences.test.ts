import { describe, expect, test } from "vitest";
import { linesOf } from "./lines";
import { campaignId, planId, sampleRow, suggesting } from "./sample-rows";
import { nameOf, quoted, readOut, reviewedWith } from "./sentences";

/** Without the marks that keep a stranger's direction to itself. */
const bare = (text: string) => text.replace(/[\u2068\u2069]/g, "");
const first = (...rows: Parameters<typeof linesOf>[0]) => {
  const [line] = linesOf(rows, new Set());
  if (line === undefined) throw new Error("no line");
  return bare(readOut(line));
};

describe("a message names", () => {
  test.each([
    ["one row", [sampleRow("a", { quantity: "1500.5" })], "BTC/USD, buy 1,500.5"],
    ["fills", [sampleRow("a"), sampleRow("b")], "BTC/USD, 2 fills"],
    ["several instruments", [sampleRow("a"), sampleRow("b", { symbol: "X" })], "2 rows"],
  ])("%s", (_what, rows, name) => {
    expect(bare(nameOf(rows))).toBe(name);
  });

  test("what was saved", () => {
    const rows = [sampleRow("a"), sampleRow("b")];
    expect(bare(reviewedWith(rows, { kind: "accept" }, [{ name: "P" }]))).toBe("BTC/USD, 2 fills: saved with “P”.");
    expect(bare(reviewedWith(rows, { kind: "accept" }, [{ name: "P" }, { name: "Q" }]))).toBe("BTC/USD, 2 fills: saved with 2 plans.");
    expect(bare(reviewedWith(rows, { kind: "blank" }, []))).toBe("BTC/USD, 2 fills: saved without a plan.");
    expect(bare(reviewedWith(rows, { campaignId: campaignId("C"), kind: "campaign", name: "C" }, []))).toBe("BTC/USD, 2 fills: saved with “C”.");
  });

  test("a stranger's text within its own direction, visible and short", () => {
    expect(quoted("AB\u202ECD")).toBe("\u2068AB\\u202eCD\u2069");
    expect(quoted("x".repeat(100), 10)).toBe(`\u2068${"x".repeat(9)}…\u2069`);
  });
});

describe("a line reads", () => {
  test("its figures, its direction and its plan", () => {
    expect(first(suggesting("a", "P"))).toBe("BTC/USD, buy 0.5, at 30,010, opens long, suggested plan Plan P");
    expect(first(sampleRow("a", { side: "sell" }))).toBe("BTC/USD, sell 0.5, at 30,010, closes long, no plan");
    const order = { externalOrderId: "O" };
    expect(first(suggesting("a", "P", order), suggesting("b", "Q", order))).toBe("BTC/USD, buy 1, order of 2 fills, opens long, several plans suggested");
  });

  test("a decision, not what was suggested before it", () => {
    expect(first(suggesting("a", "P", { status: "reviewed" }))).toBe("BTC/USD, buy 0.5, at 30,010, opens long, no plan");
    expect(first(suggesting("a", "P", { plan: { name: "Own", tradePlanId: planId("O") }, status: "reviewed" }))).toContain("plan Own");
  });
});
