import { describe, expect, test } from "vitest";
import { campaignChoices, planChoices } from "./choices";
import { campaignId, planId, sampleRow, suggesting } from "./sample-rows";

const plan = (id: string, name: string, instrumentSymbol: string, more: { campaignId?: string; status?: "active" | "closed" } = {}, made = 1) => ({
  _creationTime: made,
  _id: planId(id),
  campaignId: more.campaignId === undefined ? undefined : campaignId(more.campaignId),
  instrumentSymbol,
  name,
  status: more.status ?? ("active" as const),
});

const campaigns = [{ _id: campaignId("C"), name: "Majors", status: "active" as const }, { _id: campaignId("D"), name: "Old majors", status: "closed" as const }];
const plans = [
  plan("apple", "Apple before earnings", "AAPL"),
  plan("range", "Bitcoin above the range", "XBTUSD", { campaignId: "C" }),
  plan("dip", "Dip in bitcoin", "BTC", {}, 2),
  plan("ether", "Éther", "ETH/EUR"),
  plan("done", "Bitcoin, spring", "BTC-USD", { status: "closed" }),
];
const offer = (typed: string, rows = [sampleRow("a")]) => planChoices({ campaigns, plans, rows, typed }).map(({ id }) => id);

describe("plans on offer", () => {
  test("without a word: open ones, of the instrument first, then the newest", () => {
    expect(offer("")).toEqual(["dip", "range", "apple", "ether"]);
    expect(offer("", [suggesting("a", "ether")])).toEqual(["ether", "dip", "range", "apple"]);
  });

  test.each([
    ["bit", ["range", "dip", "done"]],
    ["bitcoin spring", ["done"]],
    ["aapl", ["apple"]],
    ["majors", ["range"]],
    ["ether", ["ether"]],
    ["RANGE", ["range"]],
    ["no such", []],
  ])("«%s»", (typed, ids) => {
    expect(offer(typed)).toEqual(ids);
  });

  test("say why they come first", () => {
    const choices = planChoices({ campaigns, plans, rows: [suggesting("a", "range")], typed: "" });
    expect(choices.map(({ why }) => why)).toEqual(["suggested", "instrument", null, null]);
    expect(choices[0]).toMatchObject({ campaign: "Majors", symbol: "XBTUSD" });
  });
});

test("closed campaigns are offered by name only", () => {
  expect(campaignChoices(campaigns, "").map(({ id }) => id)).toEqual(["C"]);
  expect(campaignChoices(campaigns, "major").map(({ id }) => id)).toEqual(["C", "D"]);
});
