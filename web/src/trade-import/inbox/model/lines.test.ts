import { describe, expect, test } from "vitest";
import { linesOf, rowKey, rowsOf, shared } from "./lines";
import { sampleRow } from "./sample-rows";

const NONE = new Set<string>();
const shape = (lines: ReturnType<typeof linesOf>) =>
  lines.map((line) => `${line.kind === "fill" && line.parent !== null ? "  " : ""}${rowsOf(line).map(({ executionId }) => executionId).join("+")}`);

describe("fills of one order", () => {
  const rows = [
    sampleRow("a", { externalOrderId: "O1" }),
    sampleRow("b", { externalOrderId: "O2" }),
    sampleRow("c", { externalOrderId: "O1" }),
    sampleRow("d"),
    sampleRow("e"),
  ];

  test("are one line, where the newest of them stands; without an order id each is its own", () => {
    expect(shape(linesOf(rows, NONE))).toEqual(["a+c", "b", "d", "e"]);
  });

  test("open under it", () => {
    const [order] = linesOf(rows, NONE);
    expect(shape(linesOf(rows, new Set([order?.key ?? ""])))).toEqual(["a+c", "  a", "  c", "b", "d", "e"]);
  });

  test.each<[string, Parameters<typeof sampleRow>[1]]>([
    ["another account", { accountRef: "OTHER" }],
    ["another broker", { provider: "ibkr" }],
    ["another instrument", { symbol: "ETH/USD" }],
    ["the other side", { side: "sell" }],
    ["the other leg of a reversal", { direction: "short" }],
  ])("%s is another line", (_what, changes) => {
    const lines = linesOf([sampleRow("a", { externalOrderId: "O1" }), sampleRow("b", { externalOrderId: "O1", ...changes })], NONE);
    expect(lines).toHaveLength(2);
  });

  test("keys cannot be forged by what a broker writes into its ids", () => {
    const lines = linesOf(
      [sampleRow("a", { accountRef: 'X","Y', externalOrderId: "Z" }), sampleRow("b", { accountRef: "X", externalOrderId: 'Y","Z' })],
      NONE,
    );
    expect(lines).toHaveLength(2);
  });
});

test("a row keeps its key without its trade; the legs of a reversal have their own", () => {
  expect(rowKey(sampleRow("a", { tradeId: null }))).toBe(rowKey(sampleRow("a")));
  expect(rowKey(sampleRow("a", { leg: 2 }))).not.toBe(rowKey(sampleRow("a", { leg: 1 })));
});

test("what rows share", () => {
  expect(shared([sampleRow("a"), sampleRow("b")], ({ symbol }) => symbol)).toBe("BTC/USD");
  expect(shared([sampleRow("a"), sampleRow("b", { symbol: "X" })], ({ symbol }) => symbol)).toBeUndefined();
});
