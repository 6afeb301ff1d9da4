// Writes convex/_generated with the official CLI and no deployment: a stub answers the two requests that
// `convex codegen` makes (reference convex section 6). The CLI runs on a copy, so that nothing but
// _generated ever changes here.
//
//   node sandbox/convex-server/codegen.mjs [--functions DIR] [--check]
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

const require = createRequire(import.meta.url);
const convexPackage = dirname(require.resolve("convex/package.json"));
const { version } = require("convex/package.json");

const { values: options } = parseArgs({
  options: { functions: { type: "string", default: "convex" }, check: { type: "boolean", default: false } },
});

/** An app without components, declared environment variables or HTTP mounts, before its first push. */
const ANSWERS = {
  "/api/get_config_hashes": {
    config: { functions: "convex/", authInfo: [] },
    moduleHashes: [],
    udfServerVersion: version,
    nodeVersion: null,
  },
  "/api/deploy2/start_push": {
    environmentVariables: {},
    externalDepsId: null,
    componentDefinitionPackages: {},
    appAuth: [],
    analysis: {
      "": {
        definition: {
          path: "",
          definitionType: { type: "app" },
          childComponents: [],
          httpMounts: {},
          exports: { type: "branch", branch: [] },
        },
        schema: null,
        functions: {},
        udfConfig: { serverVersion: version, importPhaseRngSeed: "0".repeat(64), importPhaseUnixTimestamp: "0" },
      },
    },
    app: {
      definitionPath: "",
      componentPath: "",
      args: {},
      childComponents: {},
      httpRoutes: { httpModuleRoutes: null, mounts: [] },
      exports: {},
    },
    schemaChange: { allocatedComponentIds: {}, schemaIds: {} },
  },
};

async function startStub() {
  const server = createServer((request, response) => {
    request.resume();
    const answer = ANSWERS[request.url.split("?")[0]];
    response.writeHead(answer === undefined ? 404 : 200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(answer ?? { code: "NotFound", message: `the stub has no ${request.url}` }));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

async function generate(project) {
  const stub = await startStub();
  try {
    const cli = spawn(process.execPath, [join(convexPackage, "bin", "main.js"), "codegen", "--typecheck", "disable"], {
      cwd: project,
      env: {
        PATH: process.env.PATH,
        HOME: project,
        CI: "1",
        CONVEX_SELF_HOSTED_URL: `http://127.0.0.1:${stub.address().port}`,
        CONVEX_SELF_HOSTED_ADMIN_KEY: "stub",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [cli.stdout, cli.stderr]) stream.on("data", (chunk) => (output += chunk));
    const code = await new Promise((done) => cli.once("close", done));
    if (code !== 0) throw new Error(`convex codegen failed:\n${output}`);
  } finally {
    stub.close();
    stub.closeAllConnections();
  }
}

function contents(directory) {
  if (!existsSync(directory)) return new Map();
  return new Map(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

const source = resolve(options.functions);
const committed = join(source, "_generated");
const project = mkdtempSync(join(tmpdir(), "convex-codegen-"));
try {
  // The CLI reads package.json for its own version and convex.json for the folder's name.
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ name: "codegen", private: true, type: "module", dependencies: { convex: version } }),
  );
  const copy = join(project, "convex");
  cpSync(source, copy, { recursive: true, filter: (path) => basename(path) !== "_generated" });
  symlinkSync(dirname(convexPackage), join(project, "node_modules"), "dir");
  await generate(project);
  const generated = join(copy, "_generated");
  if (options.check) {
    const expected = contents(generated);
    const present = contents(committed);
    const stale = [...new Set([...expected.keys(), ...present.keys()])].filter(
      (name) => expected.get(name) !== present.get(name),
    );
    if (stale.length > 0) {
      console.error(`Out of date: ${stale.map((name) => join(options.functions, "_generated", name)).join(", ")}`);
      console.error('Run "npm run codegen" and commit the result.');
      process.exitCode = 1;
    }
  } else {
    rmSync(committed, { recursive: true, force: true });
    cpSync(generated, committed, { recursive: true });
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(project, { recursive: true, force: true });
}
