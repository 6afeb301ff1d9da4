// Runs functions: finds them, checks who may call them and with what, and reports how it ended.
import { AsyncResource } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { relative } from "node:path";
import { makeFunctionReference, type UserIdentity } from "convex/server";
import { ConvexError, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { Clock } from "./clock";
import { loadFast, snapshot, type ConvexGlobal, type Internals } from "./fast-convex-test";
import { canonicalPath, loadFolder, type Folder, type FunctionInfo, type Kind } from "./functions";
import { checkArguments } from "./limits";
import type { Document } from "./sorted-index";
import { mismatch } from "./validate";
import { installWorld, scheduleInWorld, world, type Cause, type Change, type Deployment, type Journal, type Read, type World } from "./world";

/** Who calls: nobody, a verified user or worker, or the holder of the admin key (perhaps acting as somebody). */
export interface Caller {
  readonly identity: UserIdentity | null;
  readonly isAdmin: boolean;
}

export const NOBODY: Caller = { identity: null, isAdmin: false };
const SYSTEM: Caller = { identity: null, isAdmin: true };

export interface Success {
  readonly ok: true;
  readonly value: Value;
  readonly log: readonly string[];
  /** The deployment's timestamp after this call. */
  readonly ts: bigint;
}

export interface Failure {
  readonly ok: false;
  /** The whole text, as a development deployment shows it. */
  readonly message: string;
  /** Of a ConvexError: all that reaches the caller in production. */
  readonly data?: Value;
  readonly log: readonly string[];
}

export type Outcome = Success | Failure;

export interface Call {
  readonly kind: Kind | "any";
  readonly path: string;
  /** An object, or an array of one object: clients send both (reference convex section 2). */
  readonly args: unknown;
  readonly caller: Caller;
}

export interface Subscription {
  readonly path: string;
  readonly args: unknown;
  readonly journal: Journal;
  readonly hasRun: boolean;
}

/** A subscribed query's result, and what must stay unchanged for it to hold. */
export interface LiveResult {
  readonly outcome: Outcome;
  readonly reads: readonly Read[];
  readonly journal: Journal;
}

interface TestHandle {
  query(reference: unknown, args: unknown): Promise<Value>;
  mutation(reference: unknown, args: unknown): Promise<Value>;
  action(reference: unknown, args: unknown): Promise<Value>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  run<T>(body: () => Promise<T>): Promise<T>;
  withIdentity(identity: UserIdentity): TestHandle;
}

export class Engine implements Deployment {
  readonly clock = new Clock();
  private readonly counts = new Map<string, Record<Cause, number>>();
  private readonly documentsRead = new Map<string, Record<Cause, number>>();
  private readonly listeners = new Set<(changes: readonly Change[]) => void>();
  private folder!: Folder;
  private test!: TestHandle;
  private state!: ConvexGlobal;

  private constructor(readonly env: Readonly<Record<string, string>>) {}

  /** `env` may change later; functions always see its present values. */
  static async open(directory: string, env: Readonly<Record<string, string>>): Promise<Engine> {
    const internals = await loadFast();
    installWorld();
    internals.startTimersWith(scheduleInWorld);
    const engine = new Engine(env);
    await world.run(engine.newWorld("internal"), () => engine.load(internals, directory));
    return engine;
  }

  private async load(internals: Internals, directory: string): Promise<void> {
    this.folder = await loadFolder(directory, (path) => {
      this.observe(path);
    });
    const options = { schema: this.folder.schema, modules: this.folder.modules, transactionLimits: true };
    this.test = internals.convexTest(options as never);
    await this.test.run(() => {
      const state = internals.convexGlobalStorage.getStore();
      if (state === undefined) throw new Error("convex-test keeps its state elsewhere than expected");
      this.state = state;
      return Promise.resolve(null);
    });
    this.raiseTs(BigInt(Date.now()) * 1_000_000n);
  }

  // --- What running functions see of the deployment ---

  now(): number {
    return this.clock.now();
  }

  schedule(callback: () => void, delay: number): void {
    this.clock.schedule(callback, delay);
  }

  // Bound to the context of this construction: listeners must not run inside the transaction that committed.
  readonly committed = AsyncResource.bind((changes: readonly Change[], _ts: bigint): void => {
    if (changes.length === 0) return;
    for (const listener of this.listeners) listener(changes);
  });

  // --- What the server asks ---

  get ts(): bigint {
    return this.state.transactionManager._lastCommitTs;
  }

  /** Timestamps never fall: not after a restart, and not below what a client has seen before it. */
  raiseTs(floor: bigint): void {
    if (floor > this.ts) this.state.transactionManager._lastCommitTs = floor;
  }

  get authConfigFile(): string | null {
    return this.folder.authConfig;
  }

  get hasHttp(): boolean {
    return this.folder.hasHttp;
  }

  get crons(): unknown {
    return this.folder.crons;
  }

  onCommit(listener: (changes: readonly Change[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Runs `body` as code of the deployment: with its clock, environment and log. */
  inWorld<T>(body: () => Promise<T>): Promise<T> {
    return world.run(this.newWorld("internal"), body);
  }

  run(call: Call): Promise<Outcome> {
    return this.execute(call, this.newWorld("client"));
  }

  /** A function that nobody asked for from outside: a cron. */
  runInternal(path: string, args: unknown): Promise<Outcome> {
    return this.execute({ kind: "any", path, args, caller: SYSTEM }, this.newWorld("internal"));
  }

  /**
   * Runs queries one after another against one state of the database, and says which. `onResult` is called
   * before anything can commit: whoever notes the reads there misses no change.
   */
  async subscribe<Q extends Subscription>(
    queries: readonly Q[],
    caller: Caller,
    onResult: (query: Q, result: LiveResult) => void,
  ): Promise<bigint> {
    if (queries.length === 0) return this.ts;
    return snapshot(this.state.transactionManager, async (enter) => {
      for (const query of queries) {
        const cause: Cause = query.hasRun ? "subscription" : "client";
        const current = { ...this.newWorld(cause), reads: [] as Read[], journal: { ...query.journal } };
        const { path, args } = query;
        const outcome = await this.execute({ kind: "query", path, args, caller }, enter(current));
        onResult(query, { outcome, reads: current.reads, journal: current.journal });
        // convex-test's work is one long microtask: let pings and new messages through between queries.
        await new Promise(setImmediate);
      }
      return this.ts;
    });
  }

  async fetch(path: string, init: RequestInit, caller: Caller): Promise<Response> {
    return world.run(this.newWorld("client"), () => this.as(caller).fetch(path, init));
  }

  documents(table: string): Document[] {
    return Object.values(this.state.components[""]?.db._documents ?? {})
      .filter(({ _id }) => /^\d+(.+)$/.exec(_id)?.[1] === table)
      .sort((a, b) => a._creationTime - b._creationTime);
  }

  /** How often each function ran for this cause since the last reset. */
  callCounts(cause: Cause): Record<string, number> {
    return countsFor(this.counts, cause);
  }

  /** How many documents each function read for this cause since the last reset. */
  readCounts(cause: Cause): Record<string, number> {
    return countsFor(this.documentsRead, cause);
  }

  resetCallCounts(): void {
    this.counts.clear();
    this.documentsRead.clear();
  }

  functions(): FunctionInfo[] {
    return [...this.folder.functions.values()];
  }

  private newWorld(cause: Cause): World {
    return { deployment: this, cause, documentsRead: 0, log: [] };
  }

  private as({ identity }: Caller): TestHandle {
    return identity === null ? this.test : this.test.withIdentity(identity);
  }

  private async execute({ kind, path: givenPath, args: givenArgs, caller }: Call, current: World): Promise<Outcome> {
    const path = canonicalPath(givenPath);
    const found = this.folder.functions.get(path);
    if (found === undefined || !(found.isPublic || caller.isAdmin)) {
      // An internal function looks exactly like a missing one.
      return failure(`Could not find public function for '${path}'.`, current);
    }
    if (kind !== "any" && kind !== found.kind) {
      return failure(`Trying to execute ${path} as ${capital(kind)}, but it is defined as ${capital(found.kind)}.`, current);
    }
    let args: Record<string, Value>;
    try {
      args = jsonToConvex(unwrap(givenArgs)) as Record<string, Value>;
      checkArguments(args);
    } catch (error) {
      return failure(`ArgumentValidationError: ${messageOf(error)}`, current);
    }
    if (current.cause !== "internal") this.count(path, current.cause);
    const problem = mismatch(found.args, args);
    if (problem !== null) return failure(`ArgumentValidationError: ${problem}`, current);
    try {
      const reference = makeFunctionReference<Kind>(path);
      const value = await world.run(current, () => this.as(caller)[found.kind](reference, args));
      return { ok: true, value, log: current.log, ts: current.commitTs ?? this.ts };
    } catch (error) {
      return this.thrown(error, current);
    } finally {
      add(this.documentsRead, path, current.cause, current.documentsRead);
    }
  }

  private thrown(error: unknown, current: World): Failure {
    const name = error instanceof Error ? error.name : "Error";
    const message = messageOf(error);
    const frames = error instanceof Error ? this.frames(error) : "";
    const text = message.startsWith("ReturnsValidationError: ") ? message : `Uncaught ${name}: ${message}${frames}`;
    return error instanceof ConvexError
      ? { ok: false, message: text, data: error.data as Value, log: current.log }
      : failure(text, current);
  }

  /** The lines of a stack that lie in the convex folder, as the backend prints them. */
  private frames(error: Error): string {
    const lines = (error.stack ?? "").split("\n").flatMap((line) => {
      const [, name = "", file = "", position = ""] = /at (?:async )?(?:(.+?) \()?(?:file:\/\/)?(\/.+?):(\d+:\d+)\)?$/.exec(line) ?? [];
      return file.startsWith(this.folder.root)
        ? [`\n    at ${name.replace(/^(Function|Object)\./, "") || "handler"} (../convex/${relative(this.folder.root, file)}:${position})`]
        : [];
    });
    return lines.join("");
  }

  private observe(path: string): void {
    const current = world.getStore();
    if (current === undefined) return;
    if (current.cause === "internal" || current.entered) this.count(path, "internal");
    current.entered = true;
  }

  private count(path: string, cause: Cause): void {
    add(this.counts, path, cause, 1);
  }
}

type Counts = Map<string, Record<Cause, number>>;

function add(counts: Counts, path: string, cause: Cause, amount: number): void {
  const each = counts.get(path) ?? { client: 0, subscription: 0, internal: 0 };
  each[cause] += amount;
  counts.set(path, each);
}

function countsFor(counts: Counts, cause: Cause): Record<string, number> {
  return Object.fromEntries([...counts].flatMap(([path, each]) => (each[cause] > 0 ? [[path, each[cause]] as const] : [])));
}

export function newRequestId(): string {
  return randomBytes(8).toString("hex");
}

/** What the caller is told: in production nothing but the request id; ConvexErrors speak through their data. */
export function errorText(failed: Failure, dev: boolean, requestId = newRequestId()): string {
  const head = `[Request ID: ${requestId}] Server Error`;
  return dev ? `${head}\n${failed.message}` : head;
}

function failure(message: string, { log }: World): Failure {
  return { ok: false, message, log };
}

function unwrap(args: unknown): JSONValue {
  const object: unknown = Array.isArray(args) && args.length <= 1 ? (args[0] ?? {}) : (args ?? {});
  if (typeof object !== "object" || object === null || Array.isArray(object)) {
    throw new Error("The arguments to a Convex function must be an object.");
  }
  return object as JSONValue;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function capital(kind: Kind): string {
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}
