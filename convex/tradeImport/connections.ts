// The user's brokerage connections. Credentials go in and never come out.
import { v } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { ownConnection, userMutation, userQuery } from "./access";
import { refusal } from "./errors";
import { latestBeat, silence } from "./pulse";
import { accountRefOf, hasTwin, siblingsOfAccount } from "./rules/accounts";
import { completeness } from "./rules/completeness";
import { checkAuth, checkSettings, DEFAULT_SETTINGS, maskedKey, type Checked } from "./rules/credentials";
import { deriveHealth, type HealthFacts } from "./rules/health";
import { MAX_CONNECTIONS, connectionsOf, coverageOf, cursorOf, syncStateOf } from "./state";
import { announce } from "./sync";
import {
  vAuth,
  vBreaker,
  vConnectionKind,
  vConnectionSettings,
  vConnectionStatus,
  vHealth,
  vIbkrKeepalive,
  vIbkrRegion,
  vKrakenTier,
  vProblem,
  vProgress,
  vProvider,
  type Auth,
  type Breaker,
  type ConnectionKind,
  type Provider,
} from "./validators";

const PROVIDERS: Readonly<Record<ConnectionKind, Provider>> = {
  ibkr_flex: "ibkr",
  ibkr_gateway: "ibkr",
  ibkr_oauth: "ibkr",
  kraken: "kraken",
};

const CLOSED_BREAKER: Breaker = { failures: 0, phase: "closed" };

/** Enough for a sentence; a history with more holes than this has one problem, not many. */
const MAX_GAPS = 20;

const MAX_LABEL = 80;

export const create = userMutation({
  args: {
    accountRef: v.optional(v.string()),
    auth: vAuth,
    kind: vConnectionKind,
    label: v.optional(v.string()),
    settings: v.optional(vConnectionSettings),
  },
  handler: async (ctx, args) => {
    const now = Date.now();
    const auth = accepted(checkAuth(args.auth));
    checkKind(auth, args.kind);
    const provider = PROVIDERS[args.kind];
    const accountRef = accountRefOf(provider, args.accountRef ?? "") || undefined;
    if (args.kind === "ibkr_flex" && accountRef === undefined) {
      // A statement may hold several accounts, and none at all says which one is meant.
      throw refusal("invalid_argument", "Say which account of the statements this connection imports, such as U1234567.");
    }
    const settings = accepted(checkSettings(args.settings ?? DEFAULT_SETTINGS, now));
    const existing = await connectionsOf(ctx, ctx.ownerId);
    if (existing.length === MAX_CONNECTIONS) {
      throw refusal("conflict", `There are ${MAX_CONNECTIONS} connections already. Use one of them again.`);
    }
    checkNoTwin({ _id: null, accountRef, auth }, existing);
    const connectionId = await ctx.db.insert("brokerageConnections", {
      accountRef,
      auth,
      authVersion: 1,
      createdAt: now,
      kind: args.kind,
      label: labelOf(args.label),
      ownerId: ctx.ownerId,
      provider,
      settings,
      status: "active",
      updatedAt: now,
    });
    await ctx.db.insert("connectionSyncState", {
      breaker: CLOSED_BREAKER,
      connectionId,
      fence: 0,
      nextSyncAt: now,
      ownerId: ctx.ownerId,
    });
    return connectionId;
  },
  returns: v.id("brokerageConnections"),
});

const vConnectionView = v.object({
  accountRef: v.union(v.string(), v.null()),
  breaker: v.object({
    failures: v.number(),
    phase: vBreaker.fields.phase,
    until: v.union(v.number(), v.null()),
  }),
  /** The history is complete from here … */
  completeFrom: v.union(v.number(), v.null()),
  /** … to here, but for `gaps`. */
  completeUpTo: v.union(v.number(), v.null()),
  connectionId: v.id("brokerageConnections"),
  createdAt: v.number(),
  /** When the credentials end, where somebody said so. */
  credentialsEndAt: v.union(v.number(), v.null()),
  gaps: v.array(v.object({ end: v.number(), start: v.number() })),
  health: vHealth,
  /** The last characters of the key, or the gateway's address: to tell connections apart. */
  keyHint: v.union(v.string(), v.null()),
  kind: vConnectionKind,
  label: v.union(v.string(), v.null()),
  lastSyncAt: v.union(v.number(), v.null()),
  nextSyncAt: v.union(v.number(), v.null()),
  problem: v.union(vProblem, v.null()),
  /** Of the running job. */
  progress: v.union(vProgress, v.null()),
  provider: vProvider,
  requestedAt: v.union(v.number(), v.null()),
  settings: vConnectionSettings,
  status: vConnectionStatus,
});

/** The user's connections and how they are. `now` lets the answer say what only time brings, to the second. */
export const list = userQuery({
  args: { now: v.optional(v.number()) },
  handler: async (ctx, args) => {
    const connections = await connectionsOf(ctx, ctx.ownerId);
    const now = args.now ?? null;
    const silentSince = await silence(ctx);
    // Read only where it can matter: it changes with every beat and the query runs again.
    const beat = now === null && silentSince === undefined ? null : await latestBeat(ctx);
    const pulse = { lastBeatAt: beat?.lastBeatAt ?? null, silentSince };
    return await Promise.all(
      connections.map((connection) => view(ctx, connection, siblingsOfAccount(connection, connections), pulse, now)),
    );
  },
  returns: v.array(vConnectionView),
});

async function view(
  ctx: QueryCtx,
  connection: Doc<"brokerageConnections">,
  siblings: Doc<"brokerageConnections">[],
  pulse: Pick<HealthFacts, "lastBeatAt" | "silentSince">,
  now: number | null,
) {
  const state = await syncStateOf(ctx, connection._id);
  const job = state.lease ? await ctx.db.get("importJobs", state.lease.jobId) : null;
  const cursor = await cursorOf(ctx, connection._id);
  const complete = completeness([...(cursor?.coverage ?? []), ...(await coverageOf(ctx, siblings))]);
  const paused = connection.status === "disconnected" || connection.status === "needs_reauth";
  return {
    accountRef: connection.accountRef ?? null,
    breaker: {
      failures: state.breaker.failures,
      phase: state.breaker.phase,
      until: state.breaker.until ?? null,
    },
    completeFrom: complete.from,
    completeUpTo: complete.upTo,
    connectionId: connection._id,
    createdAt: connection.createdAt,
    credentialsEndAt: (connection.auth?.kind === "ibkr_flex" ? connection.auth.tokenEndsAt : undefined) ?? null,
    gaps: complete.gaps.slice(-MAX_GAPS),
    health: deriveHealth(
      {
        breaker: state.breaker,
        createdAt: connection.createdAt,
        intervalMinutes: connection.settings.intervalMinutes,
        ...pulse,
        lastSyncAt: connection.lastSyncAt,
        leaseExpiresAt: state.lease?.expiresAt,
        nextSyncAt: state.nextSyncAt,
        problem: state.problem,
        problemSince: state.problemSince,
        reason: state.reason,
        status: connection.status,
        syncingSince: job?.startedAt,
        updatedAt: connection.updatedAt,
      },
      now,
    ),
    keyHint: connection.auth ? maskedKey(connection.auth) : null,
    kind: connection.kind,
    label: connection.label ?? null,
    lastSyncAt: connection.lastSyncAt ?? null,
    nextSyncAt: paused ? null : state.nextSyncAt,
    problem: state.problem ?? null,
    progress: job?.progress ?? null,
    provider: connection.provider,
    requestedAt: state.requestedAt ?? null,
    settings: connection.settings,
    status: connection.status,
  };
}

/** New credentials for the same account; also how a disconnected connection comes back. */
export const updateCredentials = userMutation({
  args: { auth: vAuth, connectionId: v.id("brokerageConnections") },
  handler: async (ctx, args) => {
    const connection = await ownConnection(ctx, args.connectionId);
    const auth = accepted(checkAuth(args.auth));
    checkKind(auth, connection.kind);
    checkNoTwin({ ...connection, auth }, await connectionsOf(ctx, ctx.ownerId));
    const now = Date.now();
    await ctx.db.patch("brokerageConnections", connection._id, {
      auth,
      authVersion: connection.authVersion + 1,
      status: "active",
      updatedAt: now,
    });
    const state = await syncStateOf(ctx, connection._id);
    await ctx.db.patch("connectionSyncState", state._id, {
      breaker: CLOSED_BREAKER,
      nextSyncAt: now,
      notifiedAt: now,
      problem: undefined,
      problemSince: undefined,
      reason: undefined,
      requestedAt: now,
      waitUntil: undefined,
    });
    await announce(ctx, connection);
    return null;
  },
  returns: v.null(),
});

/** Absent keeps; `null` clears the label. */
export const updateSettings = userMutation({
  args: {
    connectionId: v.id("brokerageConnections"),
    ibkrKeepalive: v.optional(vIbkrKeepalive),
    ibkrRegion: v.optional(vIbkrRegion),
    importFrom: v.optional(v.union(v.number(), v.null())),
    intervalMinutes: v.optional(v.number()),
    krakenTier: v.optional(vKrakenTier),
    label: v.optional(v.union(v.string(), v.null())),
  },
  handler: async (ctx, args) => {
    const connection = await ownConnection(ctx, args.connectionId);
    const now = Date.now();
    const settings = accepted(
      checkSettings(
        {
          ibkrKeepalive: args.ibkrKeepalive ?? connection.settings.ibkrKeepalive,
          ibkrRegion: args.ibkrRegion ?? connection.settings.ibkrRegion,
          importFrom: args.importFrom === undefined ? connection.settings.importFrom : (args.importFrom ?? undefined),
          intervalMinutes: args.intervalMinutes ?? connection.settings.intervalMinutes,
          krakenTier: args.krakenTier ?? connection.settings.krakenTier,
        },
        now,
      ),
    );
    await ctx.db.patch("brokerageConnections", connection._id, {
      label: args.label === undefined ? connection.label : labelOf(args.label ?? undefined),
      settings,
      updatedAt: now,
    });
    const state = await syncStateOf(ctx, connection._id);
    const soonest = now + settings.intervalMinutes * 60_000;
    // A shorter interval counts from now, not from when the longer one would have ended.
    if (soonest < state.nextSyncAt) {
      await ctx.db.patch("connectionSyncState", state._id, { nextSyncAt: soonest });
    }
    return null;
  },
  returns: v.null(),
});

/** Forgets the credentials and stops a running job. Everything imported stays. */
export const disconnect = userMutation({
  args: { connectionId: v.id("brokerageConnections") },
  handler: async (ctx, args) => {
    const connection = await ownConnection(ctx, args.connectionId);
    const now = Date.now();
    await ctx.db.patch("brokerageConnections", connection._id, {
      auth: undefined,
      status: "disconnected",
      updatedAt: now,
    });
    const state = await syncStateOf(ctx, connection._id);
    if (state.lease !== undefined) {
      await ctx.db.patch("importJobs", state.lease.jobId, { finishedAt: now, reason: "cancelled", status: "failed" });
    }
    await ctx.db.patch("connectionSyncState", state._id, {
      lease: undefined,
      problem: undefined,
      problemSince: undefined,
      reason: undefined,
      requestedAt: undefined,
      waitUntil: undefined,
    });
    return null;
  },
  returns: v.null(),
});

function accepted<Value>(checked: Checked<Value>): Value {
  if (!checked.ok) throw refusal("invalid_argument", checked.message);
  return checked.value;
}

function checkKind(auth: Auth, kind: ConnectionKind): void {
  if (auth.kind !== kind) throw refusal("invalid_argument", "These credentials are for another kind of connection.");
}

function checkNoTwin(
  candidate: { _id: Id<"brokerageConnections"> | null; accountRef?: string; auth: Auth },
  existing: Doc<"brokerageConnections">[],
): void {
  if (!hasTwin(candidate, existing)) return;
  throw refusal(
    "conflict",
    candidate.accountRef === undefined
      ? "This login is connected already. For another of its accounts, enter that account's number."
      : `Account ${candidate.accountRef} of this login is connected already. Use that connection.`,
  );
}

function labelOf(text: string | undefined): string | undefined {
  return text?.trim().slice(0, MAX_LABEL) || undefined;
}
