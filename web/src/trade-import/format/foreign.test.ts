import { expect, test } from "vitest";
import { clipped, visible } from "./foreign";

test("F10 characters that turn or hide text are written as their numbers", () => {
  expect(visible("AAPL\u202eLPAA")).toBe("AAPL\\u202eLPAA");
  expect(visible("A\u200bB\u0000C\u0085")).toBe("A\\u200bB\\u0000C\\u0085");
});

test("F10 markup and formulas stay the text they are", () => {
  expect(visible("<script>alert(1)</script>")).toBe("<script>alert(1)</script>");
  expect(visible('=HYPERLINK("x")')).toBe('=HYPERLINK("x")');
  expect(visible("Ελλάδα 日本 עברית")).toBe("Ελλάδα 日本 עברית");
});

test("long text is cut at the limit, not inside a character", () => {
  expect(clipped("abcdef", 6)).toEqual({ cut: false, text: "abcdef" });
  expect(clipped("abcdefg", 6)).toEqual({ cut: true, text: "abcde…" });
  expect(clipped("abcd😀fg", 6)).toEqual({ cut: true, text: "abcd…" });
  expect(clipped("x".repeat(1_000_000), 64).text).toHaveLength(64);
});
