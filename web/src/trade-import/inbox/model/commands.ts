// What the keyboard can do in the inbox, as data: the help sheet and the key handler read the same table.

export type Command =
  | "accept" | "blank" | "blank-all" | "campaign" | "clear" | "close" | "direction" | "dismiss" | "extend-down" | "extend-up"
  | "first" | "help" | "last" | "new-plan" | "next" | "notes" | "open" | "page-down" | "page-up" | "plan" | "previous"
  | "restore" | "search" | "seen" | "select" | "select-all" | "show-dismissed" | "show-pending" | "show-reviewed" | "undo";

type Binding = { command: Command; keys: readonly string[]; says: string };

export type Chapter = { bindings: readonly Binding[]; name: string };

/** `Mod` is Ctrl, on Apple's keyboards Command. */
export const CHAPTERS: readonly Chapter[] = [
  {
    bindings: [
      { command: "next", keys: ["j", "ArrowDown"], says: "Next line" },
      { command: "previous", keys: ["k", "ArrowUp"], says: "Previous line" },
      { command: "open", keys: ["o", "ArrowRight"], says: "Open: the fills of an order, the details of a fill" },
      { command: "close", keys: ["ArrowLeft"], says: "Close, or go to the order" },
      { command: "page-down", keys: ["PageDown"], says: "Ten lines down" },
      { command: "page-up", keys: ["PageUp"], says: "Ten lines up" },
      { command: "first", keys: ["Home"], says: "First line" },
      { command: "last", keys: ["End"], says: "Last line that is loaded" },
    ],
    name: "Move",
  },
  {
    bindings: [
      { command: "accept", keys: ["Enter", "a"], says: "Save with the suggested plan" },
      { command: "plan", keys: ["p"], says: "Choose a plan by typing, and save" },
      { command: "campaign", keys: ["c"], says: "Choose a campaign without a plan, and save" },
      { command: "blank", keys: ["b"], says: "Save without a plan" },
      { command: "new-plan", keys: ["n"], says: "Create a plan from this line, and save with it" },
      { command: "dismiss", keys: ["d"], says: "Dismiss: not a trade of this journal" },
      { command: "restore", keys: ["r"], says: "Restore a dismissed line" },
      { command: "undo", keys: ["u", "Mod+z"], says: "Undo the last action" },
    ],
    name: "Decide",
  },
  {
    bindings: [
      { command: "direction", keys: ["t"], says: "Turn the direction: long, short" },
      { command: "notes", keys: ["e"], says: "Write notes" },
      { command: "seen", keys: ["y"], says: "The broker's change is seen" },
    ],
    name: "Correct",
  },
  {
    bindings: [
      { command: "select", keys: ["x", " "], says: "Select or unselect; then keys are about all selected" },
      { command: "extend-down", keys: ["Shift+ArrowDown", "Shift+j"], says: "Select downwards" },
      { command: "extend-up", keys: ["Shift+ArrowUp", "Shift+k"], says: "Select upwards" },
      { command: "select-all", keys: ["Mod+a"], says: "Select all loaded lines" },
      { command: "clear", keys: ["Escape"], says: "Select nothing" },
      { command: "blank-all", keys: ["Shift+b"], says: "Save all that the filters show without a plan" },
    ],
    name: "Many at once",
  },
  {
    bindings: [
      { command: "show-pending", keys: ["1"], says: "To review" },
      { command: "show-reviewed", keys: ["2"], says: "Reviewed" },
      { command: "show-dismissed", keys: ["3"], says: "Dismissed" },
      { command: "search", keys: ["/"], says: "Filter by symbol" },
      { command: "help", keys: ["?"], says: "These keys" },
    ],
    name: "See",
  },
];

const COMMANDS = new Map(CHAPTERS.flatMap(({ bindings }) => bindings.flatMap(({ command, keys }) => keys.map((key) => [key, command] as const))));

type Press = { altKey: boolean; code: string; ctrlKey: boolean; key: string; metaKey: boolean; shiftKey: boolean };

/** Null where a press means nothing here, and belongs to the browser. */
export function commandOf(press: Press): Command | null {
  if (press.altKey) return null;
  const key = latin(press);
  const mod = press.ctrlKey || press.metaKey ? "Mod+" : "";
  const isLetter = /^[a-z]$/.test(key);
  // With signs, Shift is how they are typed.
  const shift = press.shiftKey && (isLetter || key.length > 1) ? "Shift+" : "";
  return COMMANDS.get(`${mod}${shift}${key}`) ?? null;
}

/** Letters by their place where the keyboard writes others, so that the keys work in every alphabet. */
function latin({ code, key }: Press): string {
  if (key.length !== 1) return key;
  if (/^[a-zA-Z]$/.test(key)) return key.toLowerCase();
  const [, letter] = /^Key([A-Z])$/.exec(code) ?? [];
  return letter !== undefined && (key.codePointAt(0) ?? 0) > 0x7f ? letter.toLowerCase() : key;
}

/** How a key is written on the help sheet. */
export function keyName(key: string, isApple: boolean): string[] {
  const names: Record<string, string> = {
    " ": "Space",
    ArrowDown: "↓",
    ArrowLeft: "←",
    ArrowRight: "→",
    ArrowUp: "↑",
    Escape: "Esc",
    Mod: isApple ? "⌘" : "Ctrl",
    PageDown: "PgDn",
    PageUp: "PgUp",
  };
  return key.split(/(?<=.)\+/).map((part) => names[part] ?? (part.length === 1 ? part.toUpperCase() : part));
}
