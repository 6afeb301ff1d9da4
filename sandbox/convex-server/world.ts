// What a running function can see of the world: the deployment's clock, environment and log instead of the
// process's own. Everything the engine runs is inside `world.run(…)`; outside of it nothing changes.
import { AsyncLocalStorage } from "node:async_hooks";
import { format, inspect } from "node:util";
import type { Document } from "./sorted-index";

/** A part of the database that a query has read: its result holds until a document in it changes. */
export interface Read {
  readonly table: string;
  covers(document: Document): boolean;
}

export interface Change {
  readonly table: string;
  readonly before: Document | null;
  readonly after: Document | null;
}

/** Where the page of a paginated query ended when it was first read; kept so that re-runs end there too. */
export interface Journal {
  endCursor: string | null;
}

export interface Deployment {
  now(): number;
  readonly env: Readonly<Record<string, string>>;
  /** Like setTimeout, but on the deployment's clock. */
  schedule(callback: () => void, delay: number): void;
  committed(changes: readonly Change[], ts: bigint): void;
}

/** Why a function runs: asked for by a client, re-run for a subscription, or called by another function, a timer, a cron. */
export type Cause = "client" | "subscription" | "internal";

export interface World {
  readonly deployment: Deployment;
  readonly cause: Cause;
  /** Set once the requested function itself has started; whatever starts later was called by it. */
  entered?: true;
  /** Documents that its transactions have read. */
  documentsRead: number;
  /** Log lines of this request. */
  readonly log: string[];
  /** Filled only for subscribed queries. */
  readonly reads?: Read[];
  readonly journal?: Journal;
  /** Set by the commit of the request's own transaction. */
  commitTs?: bigint;
}

export const world = new AsyncLocalStorage<World>();

const real = {
  process: globalThis.process,
  Date: globalThis.Date,
  console: globalThis.console,
};

class DeploymentDate extends real.Date {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(DeploymentDate.now());
    else super(...(args as [number]));
  }

  static override now(): number {
    return world.getStore()?.deployment.now() ?? real.Date.now();
  }
}

const deploymentProcess = new Proxy(real.process, {
  get(target, name) {
    if (name === "env") return world.getStore()?.deployment.env ?? target.env;
    return Reflect.get(target, name, target) as unknown;
  },
});

const LEVELS = { log: "LOG", info: "INFO", warn: "WARN", error: "ERROR", debug: "DEBUG" } as const;

const deploymentConsole = Object.assign(
  Object.create(real.console) as Console,
  Object.fromEntries(
    Object.entries(LEVELS).map(([method, level]) => [
      method,
      (...values: unknown[]) => {
        world.getStore()?.log.push(`[${level}] ${values.map((value) => inspect(value)).join(" ")}`);
        // Standard output carries the one ready line and nothing else.
        real.process.stderr.write(`[${level}] ${format(...values)}\n`);
      },
    ]),
  ),
);

/**
 * Puts accessors in front of the globals that a deployment answers itself. convex-test wraps whatever it finds
 * there with its own per-call overrides, so this must run before its first use.
 */
export function installWorld(): void {
  const replace = (name: keyof typeof real, value: unknown) => {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      enumerable: name === "process",
      get: () => (world.getStore() === undefined ? real[name] : value),
      set: (assigned: unknown) => {
        Object.assign(real, { [name]: assigned });
      },
    });
  };
  replace("process", deploymentProcess);
  replace("Date", DeploymentDate);
  replace("console", deploymentConsole);
}

/** Starts a scheduled function's timer: on the deployment's clock, and as a request of its own. */
export function scheduleInWorld(callback: () => void, delay: number): void {
  const current = world.getStore();
  if (current === undefined) throw new Error("A function was scheduled outside of any deployment.");
  const later: World = { deployment: current.deployment, cause: "internal", documentsRead: 0, log: [] };
  current.deployment.schedule(() => {
    world.run(later, callback);
  }, delay);
}
