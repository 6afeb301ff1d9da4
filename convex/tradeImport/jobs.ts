// What syncs did, what of it stands open, and how it is taken back.
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import { ownConnection, ownJob, userMutation, userQuery } from "./access";
import { refusal } from "./errors";
import { problemsOf } from "./problems";
import { markForRetry } from "./rejects";
import { connectionsOf } from "./state";
import { requestSync } from "./sync";
import { startUndo } from "./undo";
import {
  vAssetClass,
  vExecutionKind,
  vExecutionState,
  vHeldReason,
  vJobMode,
  vJobReason,
  vJobStats,
  vJobStatus,
  vProblem,
  vProblemAction,
  vProgress,
  vProvider,
  vSide,
  vSyncRequest,
} from "./validators";

/** Rejects marked in one call. */
const MAX_RETRIED = 200;

const vJobView = v.object({
  connectionId: v.id("brokerageConnections"),
  errorSummary: v.union(vProblem, v.null()),
  finishedAt: v.union(v.number(), v.null()),
  jobId: v.id("importJobs"),
  mode: vJobMode,
  progress: v.union(vProgress, v.null()),
  reason: vJobReason,
  startedAt: v.number(),
  stats: vJobStats,
  status: vJobStatus,
  /** What was taken back of it; `running` while that goes on. */
  undo: v.union(
    v.object({ at: v.number(), kept: v.number(), removed: v.number(), running: v.boolean() }),
    v.null(),
  ),
  windowEnd: v.union(v.number(), v.null()),
  windowStart: v.union(v.number(), v.null()),
});

/** Of one connection, or of all the user's, newest first. */
export const list = userQuery({
  args: {
    connectionId: v.optional(v.id("brokerageConnections")),
    paginationOpts: paginationOptsValidator,
  },
  handler: async (ctx, args) => {
    const connection = args.connectionId && (await ownConnection(ctx, args.connectionId));
    const jobs = connection
      ? ctx.db
          .query("importJobs")
          .withIndex("by_connectionId_and_startedAt", (q) => q.eq("connectionId", connection._id))
      : ctx.db
          .query("importJobs")
          .withIndex("by_ownerId_and_startedAt", (q) => q.eq("ownerId", ctx.ownerId));
    const page = await jobs.order("desc").paginate(args.paginationOpts);
    return { ...page, page: page.page.map(view) };
  },
  returns: paginationResultValidator(vJobView),
});

function view(job: Doc<"importJobs">) {
  return {
    connectionId: job.connectionId,
    errorSummary: job.errorSummary ?? null,
    finishedAt: job.finishedAt ?? null,
    jobId: job._id,
    mode: job.mode,
    progress: job.progress ?? null,
    reason: job.reason,
    startedAt: job.startedAt,
    stats: job.stats,
    status: job.status,
    undo: job.undo ?? null,
    windowEnd: job.windowEnd ?? null,
    windowStart: job.windowStart ?? null,
  };
}

const vJobRow = v.object({
  accountRef: v.string(),
  assetClass: vAssetClass,
  currency: v.union(v.string(), v.null()),
  executionId: v.id("externalExecutions"),
  externalExecutionId: v.union(v.string(), v.null()),
  externalOrderId: v.union(v.string(), v.null()),
  fee: v.string(),
  feeCurrency: v.union(v.string(), v.null()),
  heldReason: v.union(vHeldReason, v.null()),
  kind: vExecutionKind,
  occurredAt: v.number(),
  price: v.string(),
  provider: vProvider,
  quantity: v.string(),
  rawSymbol: v.string(),
  side: v.union(vSide, v.null()),
  state: vExecutionState,
  symbol: v.string(),
  tradeIds: v.array(v.id("trades")),
});

/** The executions that a job brought first, as they are now. An execution that came back belongs to its last job. */
export const rows = userQuery({
  args: { jobId: v.id("importJobs"), paginationOpts: paginationOptsValidator },
  handler: async (ctx, args) => {
    const job = await ownJob(ctx, args.jobId);
    const found = await ctx.db
      .query("externalExecutions")
      .withIndex("by_importJobId", (q) => q.eq("importJobId", job._id))
      .paginate(args.paginationOpts);
    return {
      ...found,
      page: found.page.map((execution) => ({
        accountRef: execution.accountRef,
        assetClass: execution.assetClass,
        currency: execution.currency ?? null,
        executionId: execution._id,
        externalExecutionId: execution.externalExecutionId ?? null,
        externalOrderId: execution.externalOrderId ?? null,
        fee: execution.fee,
        feeCurrency: execution.feeCurrency ?? null,
        heldReason: execution.heldReason ?? null,
        kind: execution.kind,
        occurredAt: execution.occurredAt,
        price: execution.price,
        provider: execution.provider,
        quantity: execution.quantity,
        rawSymbol: execution.rawSymbol,
        side: execution.side ?? null,
        state: execution.state,
        symbol: execution.symbol,
        tradeIds: execution.tradeIds,
      })),
    };
  },
  returns: paginationResultValidator(vJobRow),
});

/**
 * Takes back what a job added; what it only changed stays. Rows that the user reviewed are kept, unless they are
 * asked for, and so are dismissed ones. Every decision is kept for when the rows return: what the job read counts as
 * unread, so the next sync brings them again. Returns what the first step did; while there is `more`, the rest goes on
 * by itself and `jobs.list` tells the sum.
 */
export const undo = userMutation({
  args: { includeReviewed: v.optional(v.boolean()), jobId: v.id("importJobs") },
  handler: async (ctx, args) => await startUndo(ctx, await ownJob(ctx, args.jobId), args.includeReviewed ?? false),
  returns: v.object({ kept: v.number(), more: v.boolean(), removed: v.number() }),
});

const vOpenProblem = v.object({
  /** What to do, for a person; empty where there is nothing to do. */
  action: v.string(),
  actionCode: vProblemAction,
  /** Null where the line is about all of them. */
  connectionId: v.union(v.id("brokerageConnections"), v.null()),
  /** Of rows, gaps or cancels that the line stands for; it stops at 1000. */
  count: v.union(v.number(), v.null()),
  sentence: v.string(),
  since: v.number(),
  url: v.union(v.string(), v.null()),
});

/** One line an open problem. `now` lets the answer say what only time brings (no worker, overdue). */
export const openProblems = userQuery({
  args: { now: v.optional(v.number()) },
  handler: async (ctx, args) => await problemsOf(ctx, ctx.ownerId, args.now ?? null),
  returns: v.array(vOpenProblem),
});

/** Asks for rejected rows to be read again, of one connection or of all, and for the syncs that do it. */
export const retryRejects = userMutation({
  args: { connectionId: v.optional(v.id("brokerageConnections")) },
  handler: async (ctx, args) => {
    const named = args.connectionId && (await ownConnection(ctx, args.connectionId));
    if (named?.status === "disconnected") {
      throw refusal("conflict", "This connection is disconnected. Enter credentials to connect it again.");
    }
    const connections = named ? [named] : await connectionsOf(ctx, ctx.ownerId);
    let marked = 0;
    const requests: { connectionId: Doc<"brokerageConnections">["_id"]; request: Awaited<ReturnType<typeof requestSync>> }[] = [];
    for (const connection of connections) {
      if (connection.status === "disconnected" || marked === MAX_RETRIED) continue;
      const some = await markForRetry(ctx, connection._id, MAX_RETRIED - marked);
      if (some === 0) continue;
      marked += some;
      requests.push({ connectionId: connection._id, request: await requestSync(ctx, connection) });
    }
    return { marked, more: marked === MAX_RETRIED, requests };
  },
  returns: v.object({
    marked: v.number(),
    /** Perhaps not all were marked: call again. */
    more: v.boolean(),
    requests: v.array(v.object({ connectionId: v.id("brokerageConnections"), request: vSyncRequest })),
  }),
});
