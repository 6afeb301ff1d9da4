// The convex/ folder: its modules, which functions they export, and what each of them may be called as.
import { existsSync, readdirSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import type { Value } from "convex/values";
import { checkReturnValue } from "./limits";
import { mismatch, type ValidatorJson } from "./validate";

export type Kind = "query" | "mutation" | "action";

/** What `query`, `mutation`, `internalAction` … return, as far as the server needs it. */
interface Registered {
  isQuery?: true;
  isMutation?: true;
  isAction?: true;
  isPublic?: true;
  isInternal?: true;
  exportArgs(): string;
  exportReturns(): string;
  _handler(context: unknown, args: unknown): unknown;
}

export interface FunctionInfo {
  readonly path: string;
  readonly kind: Kind;
  readonly isPublic: boolean;
  readonly args: ValidatorJson;
}

export interface Folder {
  readonly root: string;
  /** As convex-test wants them: path below the folder, without extension → module. */
  readonly modules: Record<string, () => Promise<unknown>>;
  readonly functions: ReadonlyMap<string, FunctionInfo>;
  readonly schema: unknown;
  readonly hasHttp: boolean;
  readonly crons: unknown;
  readonly authConfig: string | null;
}

/** Called around every execution of a function, nested and scheduled ones included. */
export type Observe = (path: string) => void;

export async function loadFolder(directory: string, observe: Observe): Promise<Folder> {
  const root = resolve(directory);
  if (!existsSync(root)) throw new Error(`There is no folder ${root}: name your convex folder with --functions.`);
  if (!existsSync(join(root, "_generated"))) {
    throw new Error(`${root} has no _generated folder: run "npm run codegen" first.`);
  }
  const modules: Record<string, () => Promise<unknown>> = {
    "./_generated/server.js": () => Promise.resolve({}),
  };
  const functions = new Map<string, FunctionInfo>();
  let crons: unknown = null;
  for (const file of moduleFiles(root)) {
    const name = relative(root, file).split(sep).join("/").replace(/\.[^.]+$/, "");
    const loaded = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
    const observed: Record<string, unknown> = {};
    for (const [exported, value] of Object.entries(loaded)) {
      const path = `${name}:${exported}`;
      const kind = kindOf(value);
      if (kind === null) {
        observed[exported] = value;
        continue;
      }
      const registered = value as Registered;
      observed[exported] = guard(registered, path, observe);
      functions.set(path, {
        path,
        kind,
        isPublic: registered.isPublic === true,
        args: JSON.parse(registered.exportArgs()) as ValidatorJson,
      });
    }
    if (name === "crons") crons = loaded.default ?? null;
    modules[`./${name}.js`] = () => Promise.resolve(observed);
  }
  return {
    root,
    modules,
    functions,
    schema: await defaultExport(root, "schema"),
    hasHttp: modules["./http.js"] !== undefined,
    crons,
    authConfig: find(root, "auth.config"),
  };
}

/** `mod.js:fn` → `mod:fn`; a path without a function means the default export (reference convex 1.2). */
export function canonicalPath(path: string): string {
  const [module = "", name = "default"] = path.split(":");
  return `${module.replace(/\.js$/, "")}:${name}`;
}

/**
 * The same function with its return value checked inside its transaction: convex-test checks after the
 * commit, and would keep the writes of a mutation that failed (reference convex 7.1).
 */
function guard(original: Registered, path: string, observe: Observe): unknown {
  const returns = JSON.parse(original.exportReturns()) as ValidatorJson | null;
  const handler = async (context: unknown, args: unknown): Promise<unknown> => {
    observe(path);
    const result = ((await original._handler(context, args)) ?? null) as Value;
    const problem = returns === null ? null : mismatch(returns, result);
    if (problem !== null) throw new Error(`ReturnsValidationError: ${problem}`);
    checkReturnValue(result);
    return result;
  };
  return Object.assign(() => undefined, original, { _handler: handler });
}

function kindOf(value: unknown): Kind | null {
  if (typeof value !== "function") return null;
  const { isQuery, isMutation, isAction, isPublic, isInternal } = value as unknown as Registered;
  if (isPublic !== true && isInternal !== true) return null;
  if (isQuery === true) return "query";
  if (isMutation === true) return "mutation";
  return isAction === true ? "action" : null;
}

/** Files named `schema` and files with two dots are no modules (reference existing-app section 7). */
function moduleFiles(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /^[^.]+\.(ts|tsx|js|jsx|mjs)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !relative(root, file).startsWith("_generated") && !/[\\/]node_modules[\\/]/.test(file))
    .filter((file) => !/^schema\.[^.]+$/.test(relative(root, file)))
    .sort();
}

function find(root: string, name: string): string | null {
  return ["ts", "js", "mjs"].map((extension) => join(root, `${name}.${extension}`)).find(existsSync) ?? null;
}

async function defaultExport(root: string, name: string): Promise<unknown> {
  const file = find(root, name);
  if (file === null) return undefined;
  return ((await import(pathToFileURL(file).href)) as { default?: unknown }).default;
}
