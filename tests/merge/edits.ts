// The edits of docs/merge.md, read from its diffs and applied as a person would: where the text is found.

export type Hunk = { after: string; before: string; file: string; label: string };

/** Every hunk of every fenced diff, in order. A file that is new has one, whose `before` is empty. */
export function hunksIn(markdown: string): Hunk[] {
  return [...markdown.matchAll(/^```diff\n([\s\S]*?)^```$/gm)].flatMap(([, diff = ""]) => hunksOf(diff));
}

function hunksOf(diff: string): Hunk[] {
  const added = /^--- \/dev\/null\n\+\+\+ (\S+)\n/.exec(diff);
  if (added !== null) return [hunk(added[1] ?? "", "the file", diff.slice(added[0].length))];
  const [, file = ""] = /^--- (\S+)\n/.exec(diff) ?? [];
  const [, ...parts] = diff.split(/^@@(.*)\n/m);
  const hunks: Hunk[] = [];
  for (let index = 0; index < parts.length; index += 2) {
    hunks.push(hunk(file, parts[index]?.trim() || "the import", parts[index + 1] ?? ""));
  }
  return hunks;
}

function hunk(file: string, label: string, text: string): Hunk {
  const lines = text.split("\n").slice(0, -1);
  const strange = lines.find((line) => !/^[ +-]|^$/.test(line));
  if (file === "" || strange !== undefined) throw new Error(`docs/merge.md: not a line of a diff of ${file}: ${strange}`);
  const side = (mark: string) =>
    lines.filter((line) => !line.startsWith(mark)).map((line) => `${line.slice(1)}\n`).join("");
  return { after: side("-"), before: side("+"), file, label };
}

/** Fails where the text is not found, or found twice. `files` holds what each file says. */
export function apply(hunks: ReadonlyArray<Hunk>, files: ReadonlyMap<string, string>): Map<string, string> {
  const edited = new Map(files);
  for (const { after, before, file, label } of hunks) {
    const text = edited.get(file);
    if (before === "") {
      if (text !== undefined) throw new Error(`${file}: there is one already`);
      edited.set(file, after);
      continue;
    }
    if (text === undefined) throw new Error(`${file}: there is none`);
    const [head, tail, ...more] = `\n${text}`.split(`\n${before}`);
    if (head === undefined || tail === undefined || more.length > 0) {
      throw new Error(`${file}: "${label}" applies at ${more.length + (tail === undefined ? 0 : 1)} places, not at one`);
    }
    edited.set(file, `${head}\n${after}${tail}`.slice(1));
  }
  return edited;
}
