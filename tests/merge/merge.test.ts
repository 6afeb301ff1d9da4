// docs/merge.md, followed to the letter: every edit it prints is applied to an app as it is before the merge.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { apply, hunksIn } from "./edits";

const root = resolve(import.meta.dirname, "../..");
const place = mkdtempSync(join(tmpdir(), "merge-test-"));
const merged = join(place, "merged");

const hunks = hunksIn(readFileSync(join(root, "docs/merge.md"), "utf8"));
const pristine = filesOf(join(root, "tests/merge/pristine"));

/** What the result is put through; between them they notice each edit that is left out. */
const SUITE = ["access", "app", "inbox", "maintenance", "measured", "sync", "worker"];
const WATCHFUL = ["app", "measured"];

type Finished = { code: number | null; output: string };

function filesOf(directory: string): Map<string, string> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  return new Map(names.map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

/** The app with these files, our folder and the tests of the functions. */
function build(target: string, files: ReadonlyMap<string, string>): void {
  for (const [name, text] of files) {
    mkdirSync(dirname(join(target, name)), { recursive: true });
    writeFileSync(join(target, name), text);
  }
  cpSync(join(root, "convex/tradeImport"), join(target, "convex/tradeImport"), { recursive: true });
  cpSync(join(root, "tests/convex"), join(target, "tests/convex"), { recursive: true });
}

async function run(script: string, args: string[], cwd: string): Promise<Finished> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV|TEST$)/.test(name)));
  const child = spawn(process.execPath, [join(root, script), ...args], { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((done) => child.once("close", done));
  return { code, output };
}

const clean = { code: 0, output: "" };

async function codegen(target: string): Promise<Finished> {
  return await run("sandbox/convex-server/codegen.mjs", ["--functions", join(target, "convex")], root);
}

async function typeCheck(project: string): Promise<Finished> {
  return await run("node_modules/typescript/bin/tsc", ["--noEmit", "-p", project], place);
}

/** How many tests failed under each folder of `directory`; a file that does not even load counts as one. */
async function failures(directory: string, names: string[]): Promise<Map<string, number>> {
  const report = join(place, "report.json");
  rmSync(report, { force: true });
  const filters = names.map((name) => `tests/convex/${name}.test.ts`);
  const options = ["--root", directory, "--config", join(place, "vitest.config.ts"), "--reporter=json", "--outputFile", report];
  const { output } = await run("node_modules/vitest/vitest.mjs", ["run", ...filters, ...options], place);
  let results: { assertionResults: { status: string }[]; name: string; status: string }[];
  try {
    ({ testResults: results } = JSON.parse(readFileSync(report, "utf8")) as { testResults: typeof results });
  } catch {
    throw new Error(`The tests of ${directory} did not run:\n${output}`);
  }
  const counts = new Map<string, number>();
  for (const { assertionResults, name, status } of results) {
    const folder = name.slice(place.length + 1).replace(/\/tests\/.*$/, "");
    const failed = assertionResults.filter((each) => each.status === "failed").length;
    counts.set(folder, (counts.get(folder) ?? 0) + (failed === 0 && status === "failed" ? 1 : failed));
  }
  return counts;
}

beforeAll(async () => {
  cpSync(join(root, "tests/merge/configs"), place, { recursive: true });
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"), "dir");
  writeFileSync(join(place, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  build(merged, apply(hunks, pristine));
  for (const config of ["tsconfig.json", "eslint.config.js"]) cpSync(join(place, config), join(merged, config));
  expect(await codegen(merged)).toEqual(clean);
});

afterAll(() => {
  rmSync(place, { force: true, recursive: true });
});

describe("the app with every edit of docs/merge.md", () => {
  test("is what convex/ shows", () => {
    const worked = filesOf(join(root, "convex"));
    const result = filesOf(join(merged, "convex"));
    expect([...result.keys()].sort()).toEqual([...worked.keys()].sort());
    for (const [name, text] of result) if (name !== "tsconfig.json") expect({ name, text }).toEqual({ name, text: worked.get(name) });
  });

  test("passes the type check of the app's root configuration", async () => {
    expect(await typeCheck(merged)).toEqual(clean);
  });

  test("passes the type check of convex/tsconfig.json", async () => {
    expect(await typeCheck(join(merged, "convex"))).toEqual(clean);
  });

  test("passes the linter", async () => {
    const { code, output } = await run("node_modules/eslint/bin/eslint.js", ["convex"], merged);
    expect({ code, output }).toEqual(clean);
  });

  test("passes the strict tests of the functions", async () => {
    expect(await failures(merged, SUITE)).toEqual(new Map([["merged", 0]]));
  });
});

describe("each edit is needed", () => {
  test("there are as many as the document explains", () => {
    expect(new Set(hunks.map(({ file }) => file)).size).toBe(8);
  });

  test("without any one of them the tests fail", async () => {
    const without = new Map<string, string>();
    for (const [number, left] of hunks.entries()) {
      const folder = join("without", String(number));
      without.set(folder, `${left.file}: ${left.label}`);
      const others = hunks.filter((hunk) => hunk !== left);
      build(join(place, folder), apply(others, pristine));
      cpSync(join(merged, "convex/_generated"), join(place, folder, "convex/_generated"), { recursive: true });
    }
    const failed = await failures(join(place, "without"), WATCHFUL);
    expect([...failed.keys()].sort()).toEqual([...without.keys()].sort());
    const unnoticed = [...without].filter(([folder]) => failed.get(folder) === 0).map(([, edit]) => edit);
    expect(unnoticed).toEqual([]);
  });
});

describe("an edit that no longer applies", () => {
  const text = new Map([["convex/a.ts", "one\ntwo\none\n"]]);
  const edit = (before: string) => hunksIn(`\`\`\`diff\n--- convex/a.ts\n@@\n-${before}\n+three\n\`\`\`\n`);

  test("is applied where its text is found once", () => {
    expect(apply(edit("two"), text)).toEqual(new Map([["convex/a.ts", "one\nthree\none\n"]]));
  });

  test.each([
    ["its text is gone", "four", 'applies at 0 places'],
    ["its text is found twice", "one", 'applies at 2 places'],
  ])("fails: %s", (_, before, message) => {
    expect(() => apply(edit(before), text)).toThrow(message);
  });

  test("fails: its file is gone", () => {
    expect(() => apply(edit("two"), new Map())).toThrow("there is none");
  });
});
