// Which way a fill goes: the table of the existing app's facts (reference existing-app 10), row by row.
import { describe, expect, test } from "vitest";
import { countsForAnalytics } from "../../convex/tradeImport/rules/analytics";
import { compare, decimalOf, minus, plus, shares } from "../../convex/tradeImport/rules/decimal";
import { correctedLegs, derive, type Positions, type Row } from "../../convex/tradeImport/rules/derivation";
import {
  FLAT,
  legsOf,
  positionAfterAll,
  type Fill,
  type Leg,
  type Position,
} from "../../convex/tradeImport/rules/direction";
import { materialise, tradesOf } from "../../convex/tradeImport/rules/materialise";
import type { ImportFlag } from "../../convex/tradeImport/validators";
import { ibkrFill } from "./world";

const stock: Omit<Fill, "quantity" | "side"> = { assetClass: "stock", flags: [] };
const coin: Omit<Fill, "quantity" | "side"> = { assetClass: "crypto", flags: [] };
const margin: Omit<Fill, "quantity" | "side"> = { assetClass: "crypto", flags: ["margin"] };
const token: Omit<Fill, "quantity" | "side"> = { assetClass: "tokenized", flags: [] };

/** `5` or `-5` or `5/-3`: what is open before. */
function open(text: string): Position {
  const amounts = text.split("/");
  const of = (isShort: boolean) => amounts.find((amount) => amount.startsWith("-") === isShort)?.replace("-", "") ?? "0";
  return { long: of(false), short: of(true) };
}

/** `sell 10` of something. */
function fill(text: string, kind: Omit<Fill, "quantity" | "side">, changes: Partial<Fill> = {}): Fill {
  const [side, quantity = ""] = text.split(" ");
  return { ...kind, quantity, side: side === "buy" ? "buy" : "sell", ...changes };
}

const SHORT_FLAGS: Readonly<Partial<Record<ImportFlag, string>>> = { direction_guessed: "?", opening_lot_unknown: "!" };

/** `long 10` with `?` where the direction is a guess and `!` where the opening is not known. */
const told = (legs: ReadonlyArray<Leg>) =>
  legs.map(({ direction, flags, quantity }) => `${direction} ${quantity}${flags.map((flag) => SHORT_FLAGS[flag]).join("")}`);

const O = { openClose: "open" } as const;
const C = { openClose: "close" } as const;
const CO = { openClose: "close_open" } as const;

describe("direction", () => {
  test.each<[string, Fill, string, string[], Position]>([
    ["mark O, a purchase", fill("buy 10", stock, O), "0", ["long 10"], open("10")],
    ["mark O, a sale", fill("sell 10", stock, O), "0", ["short 10"], open("-10")],
    ["mark O against what is open", fill("sell 10", stock, O), "10", ["short 10"], open("10/-10")],
    ["mark C, a sale", fill("sell 10", stock, C), "10", ["long 10"], open("0")],
    ["mark C, a purchase", fill("buy 10", stock, C), "-10", ["short 10"], open("0")],
    ["mark C, its opening not known", fill("sell 10", stock, C), "0", ["long 10!"], open("0")],
    ["mark C, its opening known in part", fill("sell 10", stock, C), "4", ["long 4", "long 6!"], open("0")],
    ["mark C, a cover of more than is known", fill("buy 10", stock, C), "-4", ["short 4", "short 6!"], open("0")],
    ["mark C leaves what runs the other way", fill("sell 10", stock, C), "10/-3", ["long 10"], open("-3")],
    ["mark C;O, a sale", fill("sell 10", stock, CO), "4", ["long 4", "short 6"], open("-6")],
    ["mark C;O, a purchase", fill("buy 10", stock, CO), "-4", ["short 4", "long 6"], open("6")],
    ["mark C;O, nothing known to close", fill("sell 10", stock, CO), "0", ["short 10!?"], open("-10")],
    ["mark C;O, more known than it could turn round", fill("sell 10", stock, CO), "12", ["long 10?"], open("2")],
    ["nothing open, a purchase", fill("buy 10", stock), "0", ["long 10"], open("10")],
    ["nothing open, a sale of stock", fill("sell 10", stock), "0", ["short 10?"], open("-10")],
    ["nothing open, a sale of coins", fill("sell 10", coin), "0", ["long 10!"], open("0")],
    ["nothing open, a sale of tokens", fill("sell 10", token), "0", ["long 10!"], open("0")],
    ["nothing open, a sale of coins on margin", fill("sell 10", margin), "0", ["short 10?"], open("-10")],
    ["L = q, sell q", fill("sell 10", stock), "10", ["long 10"], open("0")],
    ["L > q, sell q", fill("sell 10", stock), "15", ["long 10"], open("5")],
    ["0 < L < q, sell q of stock", fill("sell 10", stock), "4", ["long 4", "short 6?"], open("-6")],
    ["0 < L < q, sell q of coins", fill("sell 10", coin), "4", ["long 4", "long 6!"], open("0")],
    ["L > 0, buy", fill("buy 10", stock), "4", ["long 10"], open("14")],
    ["S = q, buy q", fill("buy 10", stock), "-10", ["short 10"], open("0")],
    ["S > q, buy q", fill("buy 10", stock), "-15", ["short 10"], open("-5")],
    ["0 < S < q, buy q", fill("buy 10", stock), "-4", ["short 4", "long 6"], open("6")],
    ["S > 0, sell", fill("sell 10", stock), "-4", ["short 10?"], open("-14")],
    ["both open, a sale", fill("sell 10", stock), "15/-3", ["long 10?"], open("5/-3")],
    ["both open, a purchase", fill("buy 3", stock), "15/-3", ["short 3?"], open("15")],
    ["both open, a sale of more than is long", fill("sell 10", stock), "4/-3", ["long 4?", "short 6?"], open("-9")],
    ["coins are bought whatever is short on margin", fill("buy 10", coin), "5/-3", ["long 10"], open("15/-3")],
    ["coins are sold from what is long", fill("sell 5", coin), "5/-3", ["long 5"], open("-3")],
    ["a margin flag that marks an opening", fill("sell 10", margin, { flags: ["margin", "position_open"] }), "10", ["short 10"], open("10/-10")],
    ["a margin flag that marks a close", fill("buy 10", margin, { flags: ["margin", "position_close"] }), "10/-10", ["short 10"], open("10")],
    ["both margin flags", fill("buy 10", margin, { flags: ["position_close", "position_open"] }), "-4", ["short 4", "long 6"], open("6")],
    ["a fraction to the last digit", fill("sell 0.3", coin), "0.1", ["long 0.1", "long 0.2!"], open("0")],
  ])("%s", (_, sent, before, legs, after) => {
    expect(told(legsOf(sent, open(before)))).toEqual(legs);
    expect(positionAfterAll(open(before), legsOf(sent, open(before)))).toEqual(after);
  });

  test("quantities that float64 cannot add end at nothing", () => {
    const bought = ["0.1", "0.2"].flatMap((quantity) => legsOf(fill(`buy ${quantity}`, coin), FLAT));
    const held = positionAfterAll(FLAT, bought);
    expect(held).toEqual({ long: "0.3", short: "0" });
    expect(told(legsOf(fill("sell 0.3", coin), held))).toEqual(["long 0.3"]);
  });
});

describe("exact amounts", () => {
  test.each([
    ["0.1", "0.2", "0.3", "-0.1"],
    ["1.10", "1", "2.1", "0.1"],
    ["-0.5", "0.5", "0", "-1"],
    ["12345678901234567890.123456789", "0.000000000000000001", "12345678901234567890.123456789000000001", "12345678901234567890.123456788999999999"],
  ])("%s and %s", (a, b, sum, difference) => {
    expect([plus(a, b), minus(a, b)]).toEqual([sum, difference]);
    expect(Math.sign(compare(a, b))).toBe(difference.startsWith("-") ? -1 : difference === "0" ? 0 : 1);
  });

  test.each([
    [0.1, "0.1"],
    [1e-7, "0.0000001"],
    [1.5e-8, "0.000000015"],
    [1e21, "1000000000000000000000"],
    [-2.5, "-2.5"],
    [0, "0"],
    [NaN, "0"],
    [Infinity, "0"],
  ])("%d of the journal is %s", (value, text) => expect(decimalOf(value)).toBe(text));

  test.each([
    ["1.01", ["10", "5"], ["0.673333333333333333", "0.336666666666666667"]],
    ["1", ["1", "1"], ["0.5", "0.5"]],
    ["-0.35", ["1", "2"], ["-0.116666666666666666", "-0.233333333333333334"]],
    ["0", ["3", "4"], ["0", "0"]],
    ["7.9", ["1143.28"], ["7.9"]],
  ])("%s is shared by %j, the last takes the rest", (amount, parts, expected) => {
    expect(shares(amount, parts)).toEqual(expected);
    expect(compare(expected.reduce(plus), amount)).toBe(0);
  });

  test("the legs of a reversal carry its fee once", () => {
    const sent = ibkrFill("E1", { fee: "1.5", quantity: "15", side: "sell" });
    const { place } = materialise(sent);
    if (place === null) throw new Error("held");
    const legs = legsOf({ ...sent, side: place.side }, open("10"));
    expect(tradesOf(sent, place, legs)).toMatchObject([
      { direction: "long", fee: 1, leg: 1, quantity: 10, side: "sell" },
      { direction: "short", fee: 0.5, importFlags: ["direction_guessed"], leg: 2, quantity: 5, side: "sell" },
    ]);
  });
});

describe("rows of one execution", () => {
  const at = (after: string, counted = after): Positions => ({ after: open(after), counted: open(counted) });
  const row = (direction: "long" | "short", quantity: number, changes: Partial<Row> = {}): Row & { isOut: boolean } => ({
    direction,
    importFlags: [],
    inboxStatus: "pending_review",
    isOut: false,
    quantity,
    side: "sell",
    ...changes,
  });
  const reviewed = { inboxStatus: "reviewed" } as const;
  const guess: ImportFlag[] = ["direction_guessed"];
  const unknown: ImportFlag[] = ["opening_lot_unknown"];
  const sale = fill("sell 10", stock);
  const leg = (direction: "long" | "short", quantity: string, flags: ImportFlag[] = []): Leg => ({ direction, flags, quantity, side: "sell" });
  type Known = (Row & { isOut: boolean }) | null;

  test.each<[string, Fill, Positions, { legs: Leg[]; rows: Known[] }, { flags: unknown[]; legs: string[]; positions: Positions }]>([
    [
      "wait for review: they follow",
      sale, at("10", "0"), { legs: [leg("short", "10", guess)], rows: [row("short", 10, { importFlags: guess })] },
      { flags: [[]], legs: ["long 10"], positions: at("0") },
    ],
    [
      "one that was edited stays, and moves the position as it says",
      sale, at("10", "0"), { legs: [leg("long", "10")], rows: [row("short", 10)] },
      { flags: [[]], legs: ["long 10"], positions: at("10/-10", "0") },
    ],
    [
      "one that was reviewed stays and is doubted",
      sale, at("10", "0"), { legs: [leg("short", "10", guess)], rows: [row("short", 10, reviewed)] },
      { flags: [guess], legs: ["short 10?"], positions: at("10/-10", "-10") },
    ],
    [
      "one that was reviewed and agrees loses the doubt",
      sale, at("10"), { legs: [leg("long", "10")], rows: [row("long", 10, { ...reviewed, importFlags: guess })] },
      { flags: [[]], legs: ["long 10"], positions: at("0") },
    ],
    [
      "one whose opening is not reviewed does not count",
      sale, at("10", "0"), { legs: [leg("long", "10")], rows: [row("long", 10, reviewed)] },
      { flags: [unknown], legs: ["long 10"], positions: at("0") },
    ],
    [
      "one whose opening is known by now counts",
      fill("sell 10", coin), at("10"), { legs: [leg("long", "10", unknown)], rows: [row("long", 10, { ...reviewed, importFlags: unknown })] },
      { flags: [[]], legs: ["long 10!"], positions: at("0") },
    ],
    [
      "one that was edited to close what is not known does not count",
      sale, at("0"), { legs: [leg("short", "10", guess)], rows: [row("long", 10, reviewed)] },
      { flags: [unknown], legs: ["short 10?"], positions: at("0") },
    ],
    [
      "a quantity that a user put right may exceed what is known",
      sale, at("9.9"), { legs: [leg("long", "9.9"), leg("short", "0.1", guess)], rows: [row("long", 10, reviewed), null] },
      { flags: [[], null], legs: ["long 9.9", "short 0.1?"], positions: at("0") },
    ],
    [
      "one that somebody made another instrument's moves nothing",
      sale, at("10"), { legs: [leg("long", "10")], rows: [row("long", 10, { ...reviewed, isOut: true } as Partial<Row>)] },
      { flags: [[]], legs: ["long 10"], positions: at("10") },
    ],
    [
      "a guess that a user confirmed is none any more",
      sale, at("0"), { legs: [leg("short", "10", guess)], rows: [row("short", 10, reviewed)] },
      { flags: [[]], legs: ["short 10?"], positions: at("-10") },
    ],
  ])("%s", (_, sent, before, stored, { flags, legs, positions }) => {
    const derived = derive(sent, before, stored);
    expect([derived.flags, told(derived.legs), derived.positions]).toEqual([flags, legs, positions]);
  });

  test.each<[string, Leg[], Leg[], Fill, string[]]>([
    ["another quantity", [leg("long", "10")], [leg("long", "12")], fill("sell 12", stock), ["long 12"]],
    ["another quantity, the direction a user's", [leg("short", "10")], [leg("long", "12")], fill("sell 12", stock), ["short 12"]],
    ["two legs that stay two", [leg("long", "4"), leg("short", "6")], [leg("long", "4"), leg("short", "8")], fill("sell 12", stock), ["long 4", "short 8"]],
    ["two legs of which one is left", [leg("long", "4"), leg("short", "6")], [leg("long", "3")], fill("sell 3", stock), ["long 3"]],
    ["the other side", [leg("short", "10")], [{ ...leg("long", "10"), side: "buy" }], fill("buy 10", stock), ["long 10"]],
  ])("a correction: %s", (_, legs, fresh, sent, expected) => {
    expect(told(correctedLegs(legs, fresh, sent))).toEqual(expected);
  });
});

test.each<[boolean, Parameters<typeof countsForAnalytics>[0]]>([
  [true, {}],
  [true, { importFlags: ["direction_guessed", "changed_by_broker", "margin"], inboxStatus: "reviewed" }],
  [false, { importFlags: [], inboxStatus: "pending_review" }],
  [false, { importFlags: ["opening_lot_unknown"], inboxStatus: "reviewed" }],
  [false, { importFlags: ["voided_by_broker"], inboxStatus: "reviewed" }],
])("counts in the figures: %s for %j", (expected, trade) => expect(countsForAnalytics(trade)).toBe(expected));
