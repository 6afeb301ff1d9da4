import { describe, expect, test } from "vitest";
import { changed, inserted, reviewed, without } from "./optimistic";
import { campaignId, planId, sampleRow, suggesting } from "./sample-rows";

const NAMES = {
  campaigns: [{ _id: campaignId("C"), name: "Majors" }],
  plans: [
    { _id: planId("P"), campaignId: campaignId("C"), name: "Breakout" },
    { _id: planId("Q"), name: "Alone" },
  ],
};

describe("a reviewed row", () => {
  const row = suggesting("a", "P", { flags: ["direction_guessed", "margin"] });

  test("has the plan, and its campaign, which is derived", () => {
    expect(reviewed(row, { tradeIds: [], tradePlanId: planId("P") }, NAMES)).toMatchObject({
      campaign: { campaignId: "C", derived: true, name: "Majors" },
      plan: { name: "Breakout" },
      status: "reviewed",
      suggestion: null,
    });
    expect(reviewed(row, { tradeIds: [], tradePlanId: planId("Q") }, NAMES).campaign).toBeNull();
  });

  test("has a campaign of its own, or nothing", () => {
    const own = reviewed(row, { campaignId: campaignId("C"), tradeIds: [], tradePlanId: null }, NAMES);
    expect(own).toMatchObject({ campaign: { derived: false, name: "Majors" }, plan: null });
    expect(reviewed(own, { campaignId: null, tradeIds: [], tradePlanId: null }, NAMES)).toMatchObject({ campaign: null, plan: null });
    // A plan drops it.
    expect(reviewed(own, { tradeIds: [], tradePlanId: planId("Q") }, NAMES).campaign).toBeNull();
  });

  test("is no guess any more where the direction was put right", () => {
    expect(reviewed(row, { direction: "short", tradeIds: [], tradePlanId: null }, NAMES)).toMatchObject({ direction: "short", flags: ["margin"] });
    expect(reviewed(row, { tradeIds: [], tradePlanId: null }, NAMES).flags).toEqual(["direction_guessed", "margin"]);
  });
});

describe("pages", () => {
  const at = (name: string, minute: number) => sampleRow(name, { occurredAt: minute * 60_000 });
  const pages = [[at("a", 90), at("b", 80)], [at("c", 70), at("d", 60)]];
  const names = (page: readonly { executionId: string }[] | null | undefined) => page?.map(({ executionId }) => executionId).join("");

  test("lose rows, and say when they do not", () => {
    expect(names(without(pages[0] ?? [], new Set(["a:1", "c:1"])))).toBe("b");
    expect(without(pages[1] ?? [], new Set(["a:1"]))).toBeNull();
    expect(changed(pages[1] ?? [], new Set(["a:1"]), (row) => row)).toBeNull();
  });

  test.each([
    ["newest of all", 95, 0, "Xab"],
    ["in between", 85, 0, "aXb"],
    ["between the pages", 75, 0, "abX"],
    ["in the second", 65, 1, "cXd"],
    ["oldest of all", 10, 1, "cdX"],
  ])("take a row back: %s", (_what, minute, page, now) => {
    const result = inserted(pages, [at("X", minute)]);
    expect([...result.keys()]).toEqual([page]);
    expect(names(result.get(page))).toBe(now);
  });

  test("take it in any order of pages, into an empty one, and never twice", () => {
    expect(names(inserted([...pages].reverse(), [at("X", 65)]).get(0))).toBe("cXd");
    expect(names(inserted([[]], [at("X", 65)]).get(0))).toBe("X");
    expect(inserted(pages, [at("c", 70)]).size).toBe(0);
    expect(inserted([], [at("X", 1)]).size).toBe(0);
  });
});
