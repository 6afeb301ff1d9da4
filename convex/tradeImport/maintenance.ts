// Chores that no call of the worker or the app does: ending what a dead worker left, noticing its silence, and
// forgetting what nobody needs. Each step is bounded, leaves what it has done out of its next read, and comes
// back at once while there is more.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";
import { touchPendingPositions } from "./positions";
import { latestBeat, noticeSilence } from "./pulse";
import { abandoned, isAbandoned } from "./rules/lease";
import { HEARTBEAT_MS, isQuiet, PAYLOAD_MS, QUIET_JOB_MS } from "./rules/retention";
import { syncStateOf } from "./state";

const BATCH = 100;

/** A document may hold a megabyte, a transaction reads sixteen. */
const PAYLOAD_BATCH = 12;

const ENDED = ["blocked_reauth", "failed", "partial", "succeeded"] as const;

/** Notices a worker's silence, and ends the jobs of workers that are gone, so that nothing seems to run for ever. */
export const everyMinute = internalMutation({
  args: {},
  handler: async (ctx) => {
    const now = Date.now();
    await noticeSilence(ctx, now);
    await sweepJobs(ctx, now);
    return null;
  },
  returns: v.null(),
});

/** Starts each chore on its own: one that fails does not hold up the others. */
export const everyHour = internalMutation({
  args: {},
  handler: async (ctx) => {
    const { maintenance } = internal.tradeImport;
    await ctx.scheduler.runAfter(0, maintenance.checkPositions, {});
    await ctx.scheduler.runAfter(0, maintenance.forgetJobs, {});
    await ctx.scheduler.runAfter(0, maintenance.forgetPayloads, {});
    await ctx.scheduler.runAfter(0, maintenance.forgetHeartbeats, {});
    return null;
  },
  returns: v.null(),
});

/** Trades that somebody typed, changed or deleted move positions without a word to the import. */
export const checkPositions = internalMutation({
  args: {},
  handler: async (ctx) => {
    await touchPendingPositions(ctx);
    return null;
  },
  returns: v.null(),
});

/** The oldest first; a job that is left over comes into reach as those before it end. */
async function sweepJobs(ctx: MutationCtx, now: number): Promise<void> {
  const running = await ctx.db
    .query("importJobs")
    .withIndex("by_kept_and_status_and_finishedAt", (q) => q.eq("kept", undefined).eq("status", "running"))
    .take(BATCH);
  for (const job of running) {
    const state = await syncStateOf(ctx, job.connectionId);
    if (!isAbandoned({ jobId: job._id, startedAt: job.startedAt }, state.lease, now)) continue;
    await ctx.db.patch("importJobs", job._id, abandoned(now));
    if (state.lease?.jobId === job._id) await ctx.db.patch("connectionSyncState", state._id, { lease: undefined });
  }
}

/** Drops old jobs that changed nothing; the others are marked, so that they are looked at once. */
export const forgetJobs = internalMutation({
  args: {},
  handler: async (ctx) => {
    const now = Date.now();
    let more = false;
    for (const status of ENDED) {
      const old = await ctx.db
        .query("importJobs")
        .withIndex("by_kept_and_status_and_finishedAt", (q) =>
          q.eq("kept", undefined).eq("status", status).lt("finishedAt", now - QUIET_JOB_MS[status]),
        )
        .take(BATCH);
      for (const job of old) {
        if (await isForgettable(ctx, job)) await ctx.db.delete("importJobs", job._id);
        else await ctx.db.patch("importJobs", job._id, { kept: true });
      }
      more ||= old.length === BATCH;
    }
    if (more) await ctx.scheduler.runAfter(0, internal.tradeImport.maintenance.forgetJobs, {});
    return null;
  },
  returns: v.null(),
});

async function isForgettable(ctx: MutationCtx, job: Doc<"importJobs">): Promise<boolean> {
  if (!isQuiet(job)) return false;
  const execution = await ctx.db
    .query("externalExecutions")
    .withIndex("by_importJobId", (q) => q.eq("importJobId", job._id))
    .first();
  if (execution !== null) return false;
  const reject = await ctx.db
    .query("importRejects")
    .withIndex("by_importJobId", (q) => q.eq("importJobId", job._id))
    .first();
  return reject === null;
}

/** Empties the text of rejects whose rows were read well long ago; that they were rejected, and why, stays. */
export const forgetPayloads = internalMutation({
  args: {},
  handler: async (ctx) => {
    const old = await ctx.db
      .query("importRejects")
      .withIndex("by_payloadDropped_and_resolvedAt", (q) =>
        q.eq("payloadDropped", undefined).gt("resolvedAt", 0).lt("resolvedAt", Date.now() - PAYLOAD_MS),
      )
      .take(PAYLOAD_BATCH);
    for (const { _id } of old) await ctx.db.patch("importRejects", _id, { payloadDropped: true, rawPayload: "" });
    if (old.length === PAYLOAD_BATCH) {
      await ctx.scheduler.runAfter(0, internal.tradeImport.maintenance.forgetPayloads, {});
    }
    return null;
  },
  returns: v.null(),
});

/** The last beat of all stays: it says since when no worker runs. */
export const forgetHeartbeats = internalMutation({
  args: {},
  handler: async (ctx) => {
    const latest = await latestBeat(ctx);
    if (latest === null) return null;
    const before = Math.min(latest.lastBeatAt, Date.now() - HEARTBEAT_MS);
    const old = await ctx.db
      .query("workerHeartbeats")
      .withIndex("by_lastBeatAt", (q) => q.lt("lastBeatAt", before))
      .take(BATCH);
    for (const { _id } of old) await ctx.db.delete("workerHeartbeats", _id);
    if (old.length === BATCH) {
      await ctx.scheduler.runAfter(0, internal.tradeImport.maintenance.forgetHeartbeats, {});
    }
    return null;
  },
  returns: v.null(),
});
