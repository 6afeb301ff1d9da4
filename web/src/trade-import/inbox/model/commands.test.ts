import { describe, expect, test } from "vitest";
import { CHAPTERS, commandOf, keyName, type Command } from "./commands";

const press = (key: string, more: Partial<Parameters<typeof commandOf>[0]> = {}) =>
  commandOf({ altKey: false, code: "", ctrlKey: false, key, metaKey: false, shiftKey: false, ...more });

describe("a key", () => {
  test.each<[string, Parameters<typeof press>[1], Command | null]>([
    ["j", {}, "next"],
    ["J", {}, "next"], // Caps lock.
    ["J", { shiftKey: true }, "extend-down"],
    ["ArrowDown", { shiftKey: true }, "extend-down"],
    ["Enter", {}, "accept"],
    ["?", { shiftKey: true }, "help"],
    ["/", { shiftKey: true }, "search"], // Where Shift types the slash.
    [" ", {}, "select"],
    ["z", { ctrlKey: true }, "undo"],
    ["z", { metaKey: true }, "undo"],
    ["z", {}, null],
    ["b", { shiftKey: true }, "blank-all"],
    ["d", { ctrlKey: true }, null],
    ["a", { ctrlKey: true }, "select-all"],
    ["a", { altKey: true }, null],
    ["Tab", {}, null],
    ["о", { code: "KeyJ" }, "next"], // Cyrillic.
    ["ü", { code: "BracketLeft" }, null],
  ])("%j %j: %s", (key, more, command) => {
    expect(press(key, more)).toBe(command);
  });

  test("means one thing", () => {
    const keys = CHAPTERS.flatMap(({ bindings }) => bindings.flatMap((each) => each.keys));
    expect(new Set(keys).size).toBe(keys.length);
  });
});

test("keys as they are written", () => {
  expect(keyName("Mod+z", false)).toEqual(["Ctrl", "Z"]);
  expect(keyName("Mod+z", true)).toEqual(["⌘", "Z"]);
  expect(keyName(" ", false)).toEqual(["Space"]);
  expect(keyName("Shift+ArrowUp", false)).toEqual(["Shift", "↑"]);
});
