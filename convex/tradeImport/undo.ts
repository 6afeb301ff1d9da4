// Takes back what a job added, a few hundred executions a step. What was decided about them is kept for their return.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";
import { originalsOf } from "./cancels";
import { takeAway, tradesOf } from "./decisions";
import { refusal } from "./errors";
import { reviseAll } from "./ingestion";
import { touchExecution } from "./positions";
import { siblingsOfAccount } from "./rules/accounts";
import { addedBy, around, without } from "./rules/undo";
import { connectionsOf, cursorOf, syncStateOf } from "./state";
import { refreshSuggestions } from "./suggestions";

const MAX_STEP = 200;

/** A job that brought more of them keeps the others. */
const MAX_REJECTS = 1_000;

/** An undo that has not gone on for so long was lost. */
const LOST_AFTER_MS = 300_000;

type Job = Doc<"importJobs">;
type Step = { kept: number; more: boolean; removed: number };

/** The first step; the rest follows by itself. */
export async function startUndo(ctx: MutationCtx, job: Job, includeReviewed: boolean): Promise<Step> {
  if (job.status === "running") throw refusal("conflict", "This sync still runs. Wait until it has ended.");
  if (job.undo?.running === true && Date.now() - job.undo.at < LOST_AFTER_MS) {
    throw refusal("conflict", "This sync is being undone already.");
  }
  for (const connection of await connectionsOfAccount(ctx, job)) {
    const { lease } = await syncStateOf(ctx, connection._id);
    if (lease !== undefined && lease.expiresAt > Date.now()) {
      throw refusal("conflict", "This account is being synced. Wait until that has ended.");
    }
  }
  return await takeStep(ctx, job, { cursor: null, includeReviewed, kept: 0, removed: 0 });
}

export const step = internalMutation({
  args: {
    cursor: v.string(),
    includeReviewed: v.boolean(),
    jobId: v.id("importJobs"),
    kept: v.number(),
    removed: v.number(),
  },
  handler: async (ctx, { jobId, ...progress }): Promise<null> => {
    const job = await ctx.db.get("importJobs", jobId);
    if (job !== null) await takeStep(ctx, job, progress);
    return null;
  },
  returns: v.null(),
});

async function takeStep(
  ctx: MutationCtx,
  job: Job,
  progress: { cursor: string | null; includeReviewed: boolean; kept: number; removed: number },
): Promise<Step> {
  const { cursor, includeReviewed } = progress;
  const found = await ctx.db
    .query("externalExecutions")
    .withIndex("by_importJobId", (q) => q.eq("importJobId", job._id))
    .paginate({ cursor, numItems: MAX_STEP });
  const removed: Doc<"externalExecutions">[] = [];
  let kept = 0;
  for (const execution of found.page) {
    // A dismissal is a decision too, and its row is out of the journal already.
    if (execution.state === "undone" || execution.state === "dismissed") continue;
    const trades = await tradesOf(ctx, execution);
    if (!includeReviewed && trades.some(({ inboxStatus }) => inboxStatus !== "pending_review")) {
      kept += 1;
    } else {
      await remove(ctx, execution);
      removed.push(execution);
    }
  }
  const isFirst = cursor === null;
  const rejects = isFirst ? await removeRejects(ctx, job) : 0;
  if (removed.length > 0 || rejects > 0 || (isFirst && !found.isDone)) await forget(ctx, job, isFirst, removed);
  await refreshSuggestions(ctx, job.ownerId, instrumentsOf(removed));

  const total = { kept: progress.kept + kept, removed: progress.removed + removed.length };
  await ctx.db.patch("importJobs", job._id, { undo: { ...total, at: Date.now(), running: !found.isDone } });
  if (!found.isDone) {
    await ctx.scheduler.runAfter(0, internal.tradeImport.undo.step, {
      ...total,
      cursor: found.continueCursor,
      includeReviewed,
      jobId: job._id,
    });
  }
  return { kept, more: !found.isDone, removed: removed.length };
}

async function remove(ctx: MutationCtx, execution: Doc<"externalExecutions">): Promise<void> {
  const decisions = await takeAway(ctx, execution);
  await ctx.db.patch("externalExecutions", execution._id, { decisions, state: "undone", tradeIds: [] });
  if (execution.kind === "cancel") await reviseAll(ctx, await originalsOf(ctx, execution, execution));
  else await touchExecution(ctx, execution);
}

/**
 * Open rejects of the job, so that the rows are read again as if never seen. Only where it is known what the job
 * read: elsewhere nothing would bring them again.
 */
async function removeRejects(ctx: MutationCtx, job: Job): Promise<number> {
  if (job.windowStart === undefined) return 0;
  const rejects = await ctx.db
    .query("importRejects")
    .withIndex("by_importJobId", (q) => q.eq("importJobId", job._id))
    .take(MAX_REJECTS);
  const open = rejects.filter(({ resolvedAt }) => resolvedAt === undefined);
  for (const { _id } of open) await ctx.db.delete("importRejects", _id);
  return open.length;
}

/**
 * What was taken back no longer counts as read, whichever connection to the account has read it, and no worker may
 * go on from what it remembers: a sync that began between two steps ends here and is made anew.
 */
async function forget(
  ctx: MutationCtx,
  job: Job,
  isFirst: boolean,
  removed: Doc<"externalExecutions">[],
): Promise<void> {
  const moments = around(removed.map(({ occurredAt }) => occurredAt));
  for (const connection of await connectionsOfAccount(ctx, job)) {
    const cursor = await cursorOf(ctx, connection._id);
    if (cursor !== null) {
      const { bookmarks: _halfRead, ...extras } = cursor.extras;
      const holes = isFirst && connection._id === job.connectionId ? [...windowsOf(job), ...moments] : moments;
      await ctx.db.patch("importCursorState", cursor._id, {
        coverage: without(cursor.coverage, holes),
        extras,
        updatedAt: Date.now(),
      });
    }
    const state = await syncStateOf(ctx, connection._id);
    const running = state.lease && (await ctx.db.get("importJobs", state.lease.jobId));
    if (running?.status === "running") {
      await ctx.db.patch("importJobs", running._id, { finishedAt: Date.now(), reason: "cancelled", status: "failed" });
    }
    await ctx.db.patch("connectionSyncState", state._id, { fence: state.fence + 1, lease: undefined });
  }
}

function windowsOf(job: Job) {
  const read =
    job.windowStart === undefined || job.windowEnd === undefined ? [] : [{ end: job.windowEnd, start: job.windowStart }];
  return [...read, ...addedBy(job.cursorBefore ?? [], job.cursorAfter ?? [])];
}

/** The job's connection and the others to the same account. */
async function connectionsOfAccount(ctx: MutationCtx, job: Job): Promise<Doc<"brokerageConnections">[]> {
  const connection = await ctx.db.get("brokerageConnections", job.connectionId);
  if (connection === null) return [];
  return [connection, ...siblingsOfAccount(connection, await connectionsOf(ctx, job.ownerId))];
}

function instrumentsOf(executions: Doc<"externalExecutions">[]) {
  const found = new Map<string, { assetType: "crypto" | "stock"; ticker: string }>();
  for (const { assetType, ticker } of executions) {
    if (assetType !== undefined && ticker !== undefined) found.set(`${assetType} ${ticker}`, { assetType, ticker });
  }
  return [...found.values()];
}
