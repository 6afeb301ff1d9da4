// What syncs did, newest first.
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import { ownConnection, userQuery } from "./access";
import { vJobMode, vJobReason, vJobStats, vJobStatus, vProblem, vProgress } from "./validators";

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
  windowEnd: v.union(v.number(), v.null()),
  windowStart: v.union(v.number(), v.null()),
});

/** Of one connection, or of all the user's. */
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
    windowEnd: job.windowEnd ?? null,
    windowStart: job.windowStart ?? null,
  };
}
