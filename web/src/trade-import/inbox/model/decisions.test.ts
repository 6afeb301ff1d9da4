import { describe, expect, test } from "vitest";
import { acceptable, inParts, reopenRows, reviewCalls, type Draft } from "./decisions";
import { campaignId, planId, sampleRow, suggesting } from "./sample-rows";

const NONE = new Map<string, Draft>();
const args = (...given: Parameters<typeof reviewCalls>) => reviewCalls(...given).calls.map((call) => call.args);

describe("a decision", () => {
  test("accepts what each row shows; one call a plan", () => {
    const rows = [suggesting("a", "P1"), suggesting("b", "P2"), suggesting("c", "P1"), sampleRow("d")];
    expect(args(rows, { kind: "accept" }, NONE)).toEqual([
      { tradeIds: ["trade-a", "trade-c"], tradePlanId: "P1" },
      { tradeIds: ["trade-b"], tradePlanId: "P2" },
    ]);
    expect(reviewCalls(rows, { kind: "accept" }, NONE).skipped.map(({ executionId }) => executionId)).toEqual(["d"]);
    expect(acceptable(rows).map(({ tradePlanId }) => tradePlanId)).toEqual(["P1", "P2"]);
  });

  test("prefers the plan that a row has to the suggested one", () => {
    const row = suggesting("a", "P1", { plan: { name: "Own", tradePlanId: planId("P9") } });
    expect(args([row], { kind: "accept" }, NONE)).toEqual([{ tradeIds: ["trade-a"], tradePlanId: "P9" }]);
  });

  test("clears both links, or sets a campaign instead of a plan", () => {
    const rows = [suggesting("a", "P1")];
    expect(args(rows, { kind: "blank" }, NONE)).toEqual([{ campaignId: null, tradeIds: ["trade-a"], tradePlanId: null }]);
    expect(args(rows, { campaignId: campaignId("C"), kind: "campaign", name: "C" }, NONE)).toEqual([
      { campaignId: "C", tradeIds: ["trade-a"], tradePlanId: null },
    ]);
  });

  test("takes along what was put right, and nothing that is as it was", () => {
    const rows = ["a", "b", "c"].map((name) => sampleRow(name, { notes: "old" }));
    const drafts = new Map<string, Draft>([
      ["a:1", { direction: "short", notes: "" }],
      ["b:1", { direction: "long", notes: "old" }],
    ]);
    expect(args(rows, { kind: "plan", name: "P", tradePlanId: planId("P") }, drafts)).toEqual([
      { direction: "short", notes: null, tradeIds: ["trade-a"], tradePlanId: "P" },
      { tradeIds: ["trade-b", "trade-c"], tradePlanId: "P" },
    ]);
  });

  test("asks for at most 200 rows at once", () => {
    const rows = Array.from({ length: 450 }, (_, index) => sampleRow(String(index)));
    expect(args(rows, { kind: "blank" }, NONE).map(({ tradeIds }) => tradeIds.length)).toEqual([200, 200, 50]);
  });
});

describe("before a decision", () => {
  test("a row had its links, notes, direction and flags; a derived campaign is not its own", () => {
    const plan = { name: "P", tradePlanId: planId("P") };
    const rows = [
      sampleRow("a", { campaign: { campaignId: campaignId("C"), derived: true, name: "C" }, flags: ["direction_guessed"], plan }),
      sampleRow("b", { campaign: { campaignId: campaignId("C"), derived: false, name: "C" }, notes: "n", status: "reviewed" }),
    ];
    expect(reopenRows(rows)).toEqual([
      { campaignId: null, direction: "long", flags: ["direction_guessed"], notes: null, status: "pending_review", tradeId: "trade-a", tradePlanId: "P" },
      { campaignId: "C", direction: "long", flags: [], notes: "n", status: "reviewed", tradeId: "trade-b", tradePlanId: null },
    ]);
  });

  test("a row that came back has another trade; one that did not is left out", () => {
    const rows = [sampleRow("a"), sampleRow("b")];
    expect(reopenRows(rows, new Map([["b:1", "trade-new" as never]])).map(({ tradeId }) => tradeId)).toEqual(["trade-new"]);
  });
});

test("parts", () => {
  expect(inParts([1, 2, 3, 4, 5], 2)).toEqual([[1, 2], [3, 4], [5]]);
  expect(inParts([])).toEqual([]);
});
