import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const copy = mkdtempSync(join(tmpdir(), "codegen-test-"));
const folder = join(copy, "convex");
cpSync("tests/sandbox/fixture-convex", folder, { recursive: true });

afterAll(() => {
  rmSync(copy, { recursive: true });
});

function codegen(...options: string[]) {
  const args = ["sandbox/convex-server/codegen.mjs", "--functions", folder, ...options];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  return { status, stderr };
}

test("codegen notices what is stale, mends it, and touches nothing else", () => {
  expect(codegen("--check")).toEqual({ status: 0, stderr: "" });
  cpSync(join(folder, "deliver.ts"), join(folder, "another.ts"));
  const before = readdirSync(folder);
  expect(codegen("--check")).toMatchObject({ status: 1, stderr: expect.stringContaining("api.d.ts") as string });
  expect(codegen()).toEqual({ status: 0, stderr: "" });
  expect(codegen("--check").status).toBe(0);
  appendFileSync(join(folder, "_generated", "server.js"), "// edited by hand\n");
  expect(codegen("--check")).toMatchObject({ status: 1, stderr: expect.stringContaining("server.js") as string });
  expect(readdirSync(folder)).toEqual(before);
  expect(readdirSync(copy)).toEqual(["convex"]);
});
