import { expect, test } from "vitest";
import { accountToConnect, retrySentence } from "./problems";

test("the account of other people's rows is taken from the sentence, where there is one", () => {
  expect(accountToConnect("3 rows belong to account U7654321, which is not connected.")).toBe("U7654321");
  expect(accountToConnect("3 rows from the broker could not be read.")).toBeNull();
});

test("what a retry does", () => {
  expect(retrySentence({ marked: 0, more: false })).toBe("There is nothing left to retry.");
  expect(retrySentence({ marked: 1, more: false })).toBe("1 row is read again by the next sync, which starts in a moment.");
  expect(retrySentence({ marked: 200, more: true })).toBe(
    "200 rows are read again by the next sync, which starts in a moment. Press again for the rest.",
  );
});
