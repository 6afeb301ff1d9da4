import { expect, test } from "vitest";
import { payload } from "./payload";

test("JSON is indented, anything else stays as it came", () => {
  expect(payload('{"a":1,"b":[2]}')).toBe('{\n  "a": 1,\n  "b": [\n    2\n  ]\n}');
  expect(payload("<Trade price='1'/>")).toBe("<Trade price='1'/>");
});

test("F10 a megabyte is cut, and what turns text around is a number", () => {
  const long = payload("x".repeat(1_000_000));
  expect(long.length).toBeLessThan(20_100);
  expect(long).toContain("980000 more characters");
  expect(payload('{"symbol":"A\u202eB"}')).toContain("A\\u202eB");
});

test("digits stay as the broker wrote them", () => {
  expect(payload('{"price":0.10000000000000000001,"size":1e3,"s":"{,\\"}"}')).toBe(
    '{\n  "price": 0.10000000000000000001,\n  "size": 1e3,\n  "s": "{,\\"}"\n}',
  );
  expect(payload('{"a":{},"b":[]}')).toBe('{\n  "a": {},\n  "b": []\n}');
});
