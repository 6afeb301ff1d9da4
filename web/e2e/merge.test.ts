// docs/merge-pages.md, followed to the letter, in an app with the existing app's configuration.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { apply, hunksIn } from "../../tests/merge/edits";
import { ROOT } from "./harness/child";

const app = mkdtempSync(join(tmpdir(), "merge-pages-"));
const guide = readFileSync(join(ROOT, "docs/merge-pages.md"), "utf8");

/** As the app's CI builds; of our own environment only what programs need to start. */
const env = {
  HOME: app,
  NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY: "pk_test_placeholder",
  NEXT_PUBLIC_CONVEX_URL: "https://placeholder.convex.cloud",
  NEXT_TELEMETRY_DISABLED: "1",
  PATH: process.env.PATH ?? "",
  SKIP_ENV_VALIDATION: "true",
};

/** A network of its own with nobody in it, where this system allows that. */
const APART = spawnSync("unshare", ["-rn", "true"]).status === 0 ? ["unshare", "-rn"] : [];

async function run(...command: string[]): Promise<{ code: number | null; output: string }> {
  const [program = "", ...args] = [...APART, ...command];
  const child = spawn(program, args, { cwd: app, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((done) => child.once("close", done));
  return { code, output };
}

function filesOf(directory: string): Map<string, string> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  return new Map(names.map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

beforeAll(() => {
  const pristine = filesOf(join(import.meta.dirname, "pristine"));
  for (const [name, text] of apply(hunksIn(guide), pristine)) {
    mkdirSync(dirname(join(app, name)), { recursive: true });
    writeFileSync(join(app, name), text);
  }
  // Part 1 of the page, and the functions as docs/merge.md leaves them.
  cpSync(join(ROOT, "web/src/trade-import"), join(app, "src/trade-import"), {
    filter: (name) => !name.endsWith(".test.ts"),
    recursive: true,
  });
  cpSync(join(ROOT, "web/src/app/import"), join(app, "src/app/import"), { recursive: true });
  cpSync(join(ROOT, "convex"), join(app, "convex"), { recursive: true });
  mkdirSync(join(app, "node_modules"));
  for (const from of [join(ROOT, "web/node_modules"), join(ROOT, "node_modules")]) {
    for (const name of readdirSync(from)) {
      const link = join(app, "node_modules", name);
      if (!name.startsWith(".") && !existsSync(link)) symlinkSync(join(from, name), link);
    }
  }
  writeFileSync(join(app, "next-env.d.ts"), '/// <reference types="next" />\n/// <reference types="next/image-types/global" />\n');
});

afterAll(() => {
  rmSync(app, { force: true, recursive: true });
});

test("every package that the folder imports is named, with the version that is used here", () => {
  const used = new Set(
    [...filesOf(join(app, "src/trade-import")).values()]
      .flatMap((text) => [...text.matchAll(/from "([^".~][^"]*)"/g)].map(([, name = ""]) => name))
      .map((name) => name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/")),
  );
  for (const own of ["convex", "next", "react", "react-dom"]) used.delete(own);
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "web/package.json"), "utf8")) as { dependencies: Record<string, string> };
  const named = [...guide.matchAll(/(@?[\w/-]+)@(\d+\.\d+\.\d+)/g)].map(([, name = "", version = ""]) => [name, version]);
  expect(Object.fromEntries(named)).toEqual(Object.fromEntries([...used].map((name) => [name, dependencies[name]])));
});

test("nothing of it reaches out of the folder but through the app's aliases", () => {
  const outside = [...filesOf(join(app, "src/trade-import"))].flatMap(([name, text]) =>
    [...text.matchAll(/from "(~[^"]*)"/g)].map(([, path]) => [name, path]),
  );
  expect(new Set(outside.map(([name]) => name))).toEqual(new Set(["api.ts"]));
});

test("passes the app's type check", async () => {
  expect(await run("node", "node_modules/typescript/bin/tsc", "--noEmit")).toEqual({ code: 0, output: "" });
});

test("passes the app's linter, without any", async () => {
  expect(await run("node", "node_modules/eslint/bin/eslint.js", "src")).toEqual({ code: 0, output: "" });
});

test("builds without network", async () => {
  const { code, output } = await run("node", "node_modules/next/dist/bin/next", "build");
  expect(code, output).toBe(0);
  expect(output).toMatch(/import\/connections[^]*import\/errors[^]*import\/inbox/);
}, 400_000);
