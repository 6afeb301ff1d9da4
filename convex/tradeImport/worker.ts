// What the worker calls. Each function is one transaction; the decisions are in rules/.
import { v } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { workerMutation, workerQuery } from "./access";
import { asOf } from "./comparison";
import { refusal } from "./errors";
import { storeBatch } from "./ingestion";
import { heldLease } from "./leases";
import { endSilence } from "./pulse";
import { rejectsToRetry, settleRejects } from "./rejects";
import { accountRefOf, hasTwin, otherAccounts, siblingsOf, siblingsOfAccount } from "./rules/accounts";
import { abandoned, extended, LEASE_MS } from "./rules/lease";
import { decideClaim, hasSynced, problemAfter, servesRequest, statusAfter } from "./rules/schedule";
import { plainSentence, plainUrl } from "./rules/text";
import { connectionsOf, coverageOf, cursorOf, syncStateOf } from "./state";
import {
  vBreaker,
  vClaim,
  vCounts,
  vDueConnection,
  vExecution,
  vExtras,
  vIngested,
  vInterval,
  vJobMode,
  vJobOutcome,
  vJobStatus,
  vProgress,
  vReject,
  vUnsettled,
  type Extras,
  type Interval,
  type Problem,
} from "./validators";

/** Two reads each, well below the 4,096 index ranges of a transaction. */
const MAX_WATCHED = 600;

/**
 * Every connection that could be synced and when it is due. Reads neither the clock nor heartbeats, so a
 * subscription re-runs only when a connection, a request or a lease changes.
 */
export const watch = workerQuery({
  args: {},
  handler: async (ctx) => {
    const connections: Doc<"brokerageConnections">[] = [];
    for (const status of ["active", "error", "needs_reauth"] as const) {
      const some = await ctx.db
        .query("brokerageConnections")
        .withIndex("by_status", (q) => q.eq("status", status))
        .take(MAX_WATCHED);
      if (some.length === MAX_WATCHED) {
        console.error(`More than ${MAX_WATCHED} connections are ${status}; the others are not synced.`);
      }
      connections.push(...some);
    }
    const due = await Promise.all(
      connections.map(async (connection) => {
        const state = await syncStateOf(ctx, connection._id);
        return {
          authVersion: connection.authVersion,
          connectionId: connection._id,
          keptBy: state.keptBy,
          kind: connection.kind,
          label: connection.label,
          leaseExpiresAt: state.lease?.expiresAt,
          nextSyncAt: state.nextSyncAt,
          requestedAt: state.requestedAt,
          status: connection.status,
        };
      }),
    );
    return due;
  },
  returns: v.array(vDueConnection),
});

/** Grants the right to sync a connection, to one worker at a time. */
export const claim = workerMutation({
  args: {
    connectionId: v.string(),
    /** The worker has seen that what blocked the connection is over. */
    early: v.optional(v.boolean()),
    /** The job reads files, not the broker: how the connection is stays as it was. */
    fromFiles: v.optional(v.boolean()),
    mode: vJobMode,
    /** The job whose kept reports are read again. */
    replays: v.optional(v.id("importJobs")),
    workerId: v.string(),
  },
  handler: async (ctx, args) => {
    const connectionId = ctx.db.normalizeId("brokerageConnections", args.connectionId);
    const connection = connectionId && (await ctx.db.get("brokerageConnections", connectionId));
    if (!connection) return { granted: false as const, reason: "unknown" as const };

    const now = Date.now();
    const state = await syncStateOf(ctx, connection._id);
    const decision = decideClaim(
      {
        leaseExpiresAt: state.lease?.expiresAt,
        nextSyncAt: state.nextSyncAt,
        problem: state.problem,
        requestedAt: state.requestedAt,
        status: connection.status,
        waitUntil: state.waitUntil,
      },
      { early: args.early ?? false, mode: args.mode },
      now,
    );
    if (!decision.granted) return decision;
    if (connection.auth === undefined) return { granted: false as const, reason: "disconnected" as const };

    // A broker that counts by login sees one worker at a time, whichever of its connections is synced.
    const owned = await connectionsOf(ctx, connection.ownerId);
    const siblingNotes: string[] = [];
    const siblingStates: Doc<"connectionSyncState">[] = [];
    for (const sibling of siblingsOf(connection, owned)) {
      const siblingState = await syncStateOf(ctx, sibling._id);
      const { lease } = siblingState;
      if (lease !== undefined && lease.expiresAt > now && lease.workerId !== args.workerId) {
        return { granted: false as const, reason: "held" as const };
      }
      siblingStates.push(siblingState);
      const note = (await cursorOf(ctx, sibling._id))?.extras.login;
      if (note !== undefined) siblingNotes.push(note);
    }

    if (state.lease !== undefined) await closeAbandoned(ctx, state.lease.jobId, now);

    const cursor = await cursorOf(ctx, connection._id);
    const coverage = cursor?.coverage ?? [];
    const fence = state.fence + 1;
    const expiresAt = now + LEASE_MS;
    const jobId = await ctx.db.insert("importJobs", {
      authVersion: connection.authVersion,
      connectionId: connection._id,
      cursorBefore: coverage,
      fence,
      fromFiles: args.fromFiles,
      mode: decision.mode,
      ownerId: connection.ownerId,
      reason: "none",
      replays: args.replays,
      startedAt: now,
      stats: {
        errors: 0,
        fetched: 0,
        held: 0,
        inserted: 0,
        known: 0,
        pendingReview: 0,
        rejected: 0,
        skipped: 0,
        updated: 0,
      },
      status: "running",
      workerId: args.workerId,
    });
    await ctx.db.patch("connectionSyncState", state._id, {
      fence,
      keptBy: args.workerId,
      lease: { expiresAt, jobId, workerId: args.workerId },
    });
    for (const { _id, keptBy } of siblingStates) {
      if (keptBy !== args.workerId) await ctx.db.patch("connectionSyncState", _id, { keptBy: args.workerId });
    }
    return {
      granted: true as const,
      lease: {
        breaker: state.breaker,
        connection: {
          accountRef: connection.accountRef,
          auth: connection.auth,
          authVersion: connection.authVersion,
          connectionId: connection._id,
          kind: connection.kind,
          label: connection.label,
          otherAccounts: otherAccounts(connection, owned),
          takenAccounts: siblingsOf(connection, owned).flatMap(({ accountRef }) => accountRef ?? []),
          ownerId: connection.ownerId,
          ownRef: connection._id,
          provider: connection.provider,
          settings: connection.settings,
          status: connection.status,
        },
        coverage,
        expiresAt,
        extras: cursor?.extras ?? {},
        fence,
        jobId,
        mode: decision.mode,
        rejects: await rejectsToRetry(ctx, connection._id),
        serverNow: now,
        siblingCoverage: await coverageOf(ctx, siblingsOfAccount(connection, owned)),
        siblingNotes,
      },
    };
  },
  returns: vClaim,
});

/** Ties the connection to the broker account its credentials open; for ever, so that accounts never mix. */
export const bindAccount = workerMutation({
  args: { accountRef: v.string(), fence: v.number(), jobId: v.id("importJobs") },
  handler: async (ctx, args) => {
    const { connection } = await heldLease(ctx, args);
    const accountRef = accountRefOf(connection.provider, args.accountRef);
    if (accountRef === "") throw refusal("other_account", "The broker's account has no name.");
    if (connection.accountRef === undefined) {
      if (hasTwin({ ...connection, accountRef }, await connectionsOf(ctx, connection.ownerId))) {
        throw refusal(
          "other_account",
          "Another connection imports this account through the same login already. Disconnect one of the two.",
        );
      }
      await ctx.db.patch("brokerageConnections", connection._id, { accountRef, updatedAt: Date.now() });
    } else if (connection.accountRef !== accountRef) {
      throw refusal("other_account", "These credentials open another account than the one connected before.");
    }
    return { accountRef };
  },
  returns: v.object({ accountRef: v.string() }),
});

/** Stores one page: rows, what is covered with them, and how far the job is, all or nothing. */
export const ingest = workerMutation({
  args: {
    batch: v.number(),
    coverage: v.optional(v.array(vInterval)),
    executions: v.array(vExecution),
    extras: v.optional(vExtras),
    fence: v.number(),
    jobId: v.id("importJobs"),
    progress: v.optional(vProgress),
    rejects: v.array(vReject),
    /** Fingerprints of retried rejects that are read well now … */
    settled: v.optional(v.array(v.string())),
    /** … and those that still are not. */
    unsettled: v.optional(v.array(vUnsettled)),
  },
  handler: async (ctx, args) => {
    const { connection, job, lease, state } = await heldLease(ctx, args);
    // Sent again because the answer was lost, or a late ghost of such a call: it has been applied.
    if (job.lastBatch !== undefined && args.batch <= job.lastBatch.number) return job.lastBatch.result;

    const now = Date.now();
    const replayed = job.replays && (await ctx.db.get("importJobs", job.replays));
    const origin = { asOf: replayed ? asOf(replayed) : null, connection, job, now };
    const fates = await storeBatch(ctx, origin, args.executions, args.rejects);
    await settleRejects(ctx, connection._id, args.settled ?? [], args.unsettled ?? []);
    await saveCursor(ctx, connection, args, now);

    const expiresAt = extended(lease.expiresAt, now);
    if (expiresAt !== lease.expiresAt) {
      await ctx.db.patch("connectionSyncState", state._id, { lease: { ...lease, expiresAt } });
    }
    const result = { ...fates, expiresAt, serverNow: now };
    await ctx.db.patch("importJobs", job._id, {
      lastBatch: { number: args.batch, result },
      progress: args.progress ?? job.progress,
      stats: {
        ...job.stats,
        // Should the worker die now, this is all that is known of what it fetched.
        fetched: job.stats.fetched + fates.held + fates.inserted + fates.known + fates.rejected + fates.updated,
        held: job.stats.held + fates.held,
        inserted: job.stats.inserted + fates.inserted,
        known: job.stats.known + fates.known,
        pendingReview: job.stats.pendingReview + fates.inserted,
        rejected: job.stats.rejected + fates.rejected,
        updated: job.stats.updated + fates.updated,
      },
    });
    return result;
  },
  returns: vIngested,
});

/** Ends the job and frees the lease. Safe to repeat: an ended job stays as it ended. */
export const finish = workerMutation({
  args: {
    breaker: vBreaker,
    counts: vCounts,
    coverage: v.optional(v.array(vInterval)),
    extras: v.optional(vExtras),
    fence: v.number(),
    jobId: v.id("importJobs"),
    /** Milliseconds from now: the worker's clock need not agree with ours. */
    nextSyncIn: v.number(),
    outcome: vJobOutcome,
    window: v.optional(v.object({ end: v.number(), start: v.number() })),
  },
  handler: async (ctx, args) => {
    const ended = await ctx.db.get("importJobs", args.jobId);
    if (ended !== null && ended.status !== "running") return { status: ended.status };

    const { connection, job, state } = await heldLease(ctx, args);
    const { counts } = args;
    const outcome = { ...args.outcome, problem: args.outcome.problem && shown(args.outcome.problem) };
    const now = Date.now();
    await saveCursor(ctx, connection, args, now);
    await ctx.db.patch("importJobs", job._id, {
      cursorAfter: args.coverage ?? (await cursorOf(ctx, connection._id))?.coverage ?? [],
      errorSummary: outcome.problem,
      finishedAt: now,
      reason: outcome.reason,
      stats: {
        ...job.stats,
        errors: counts.errors,
        fetched: Math.max(counts.fetched, job.stats.fetched + counts.remembered),
        known: job.stats.known + counts.remembered,
        skipped: counts.skipped,
      },
      status: outcome.status,
      windowEnd: args.window?.end,
      windowStart: args.window?.start,
    });

    const nextSyncAt = now + Math.max(0, args.nextSyncIn);
    const freed = { lease: undefined };
    if (job.authVersion !== connection.authVersion) {
      // The credentials were replaced meanwhile: what this job learnt about the old ones is no news, and
      // the request that came with the new ones still stands.
      await ctx.db.patch("connectionSyncState", state._id, freed);
      return { status: outcome.status };
    }
    if (job.fromFiles === true) {
      // The broker was not asked, so nothing is known of it, and a request for a sync still stands.
      await ctx.db.patch("connectionSyncState", state._id, freed);
      return { status: outcome.status };
    }
    const served = servesRequest({ authVersion: job.authVersion, reason: outcome.reason }, connection.authVersion);
    const asked = job.mode === "manual" || state.requestedAt !== undefined;
    const status = statusAfter(connection.status, outcome);
    const problem = problemAfter(state.problem, status, outcome);
    await ctx.db.patch("connectionSyncState", state._id, {
      ...freed,
      breaker: args.breaker,
      nextSyncAt,
      problem,
      problemSince: problem === undefined ? undefined : problem.code === state.problem?.code ? state.problemSince : now,
      reason: outcome.reason,
      requestedAt: served ? undefined : state.requestedAt,
      servedAt: served && asked ? now : state.servedAt,
      waitUntil: outcome.reason === "rate_limited" ? nextSyncAt : undefined,
    });
    const synced = hasSynced(outcome);
    if (synced || status !== connection.status) {
      await ctx.db.patch("brokerageConnections", connection._id, {
        lastSyncAt: synced ? now : connection.lastSyncAt,
        lastValidatedAt: synced ? now : connection.lastValidatedAt,
        status,
        updatedAt: status === connection.status ? connection.updatedAt : now,
      });
    }
    return { status: outcome.status };
  },
  returns: v.object({ status: vJobStatus }),
});

export const beat = workerMutation({
  args: { startedAt: v.number(), version: v.string(), workerId: v.string() },
  handler: async (ctx, args) => {
    const lastBeatAt = Date.now();
    const known = await ctx.db
      .query("workerHeartbeats")
      .withIndex("by_workerId", (q) => q.eq("workerId", args.workerId))
      .unique();
    if (known === null) await ctx.db.insert("workerHeartbeats", { ...args, lastBeatAt });
    else await ctx.db.patch("workerHeartbeats", known._id, { ...args, lastBeatAt });
    await endSilence(ctx);
    return { serverNow: lastBeatAt };
  },
  returns: v.object({ serverNow: v.number() }),
});

/** Whatever the worker met, a person reads one plain line (fault F12). */
function shown(problem: Problem): Problem {
  return {
    action: plainSentence(problem.action),
    code: problem.code,
    sentence: plainSentence(problem.sentence),
    url: problem.url === undefined ? undefined : plainUrl(problem.url),
  };
}

type Job = Doc<"importJobs">;

async function closeAbandoned(ctx: MutationCtx, jobId: Job["_id"], now: number) {
  const job = await ctx.db.get("importJobs", jobId);
  if (job?.status !== "running") return;
  await ctx.db.patch("importJobs", jobId, abandoned(now));
}

/** Replaces coverage and extras, each where it is given. */
async function saveCursor(
  ctx: MutationCtx,
  connection: Doc<"brokerageConnections">,
  next: { coverage?: Interval[]; extras?: Extras },
  now: number,
) {
  if (next.coverage === undefined && next.extras === undefined) return;
  const stored = await cursorOf(ctx, connection._id);
  const cursor = {
    connectionId: connection._id,
    coverage: next.coverage ?? stored?.coverage ?? [],
    extras: next.extras ?? stored?.extras ?? {},
    ownerId: connection.ownerId,
    provider: connection.provider,
    updatedAt: now,
  };
  if (stored === null) await ctx.db.insert("importCursorState", cursor);
  else await ctx.db.patch("importCursorState", stored._id, cursor);
}
