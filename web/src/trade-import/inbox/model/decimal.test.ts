import { describe, expect, test } from "vitest";
import { averagePrice, grouped, short, sum } from "./decimal";

describe("sums are exact", () => {
  test.each([
    [["0.1", "0.2"], "0.3"],
    [["0.26", "-0.26"], "0"],
    [["0.00000001", "21000000"], "21000000.00000001"],
    [["-0.05", "0.02"], "-0.03"],
    [["123456789012345678901234567890", "0.1"], "123456789012345678901234567890.1"],
    [[], "0"],
  ])("%j = %s", (texts, total) => {
    expect(sum(texts)).toBe(total);
  });

  test("what is no figure has no sum", () => {
    expect(sum(["1", "=1+1"])).toBeNull();
    expect(sum(["1e3"])).toBeNull();
    expect(sum(["9".repeat(61)])).toBeNull();
  });
});

describe("the price of an order", () => {
  test("is weighted by quantity", () => {
    // (1 x 100 + 3 x 104) / 4
    expect(averagePrice([{ price: "100", quantity: "1" }, { price: "104", quantity: "3" }])).toEqual({ isRounded: false, text: "103" });
  });

  test("says when it is rounded", () => {
    // (1 x 1 + 2 x 2) / 3 = 1.666…
    expect(averagePrice([{ price: "1", quantity: "1" }, { price: "2", quantity: "2" }])).toEqual({ isRounded: true, text: "1.67" });
    // (0.1 x 1 + 0.2 x 1) / 2
    expect(averagePrice([{ price: "0.1", quantity: "1" }, { price: "0.2", quantity: "1" }])).toEqual({ isRounded: false, text: "0.15" });
  });

  test("keeps what a float would lose", () => {
    expect(averagePrice([{ price: "0.1", quantity: "0.3" }])).toEqual({ isRounded: false, text: "0.1" });
  });

  test("of nothing is none", () => {
    expect(averagePrice([])).toBeNull();
    expect(averagePrice([{ price: "1", quantity: "0" }])).toBeNull();
    expect(averagePrice([{ price: "?", quantity: "1" }])).toBeNull();
  });
});

test.each([
  ["1234567.10", "1,234,567.10"],
  ["-1234.5", "-1,234.5"],
  ["999", "999"],
  ["0.00012345", "0.00012345"],
  ["=HYPERLINK(1)", "=HYPERLINK(1)"],
])("%s reads %s", (text, shown) => {
  expect(grouped(text)).toBe(shown);
});

test.each([
  ["1500.00000000", "1,500.00"],
  ["0.37150000", "0.3715"],
  ["0.00012000", "0.00012"],
  ["12.5", "12.5"],
  ["12.50", "12.50"],
  ["100000", "100,000"],
  ["0.1x000", "0.1x000"],
])("%s fits as %s", (text, shown) => {
  expect(short(text)).toBe(shown);
});
