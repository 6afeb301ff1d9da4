// What a row that is read again would change. The rule of storing it, without the storing.
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { withTrade } from "./cancels";
import { findExecution } from "./ingestion";
import { changedFacts, isOutdated, isSameVoice, mergeViews, sameFacts, viewsAfter } from "./rules/views";
import { viewsOf } from "./state";
import type { Difference, Execution } from "./validators";

/** `job`: the one whose reports are read again; `seenAt`: up to when their word holds. */
export async function differenceOf(
  ctx: QueryCtx,
  job: Doc<"importJobs">,
  seenAt: number,
  incoming: Execution,
): Promise<Difference> {
  const execution = incoming.kind === "cancel" ? withTrade(incoming) : incoming;
  const stored = await findExecution(ctx, job.ownerId, execution);
  if (stored === null || stored.state === "undone") return { changes: [], fate: "new" };
  const views = viewsOf(stored);
  const known = views.find((view) => isSameVoice(view, execution));
  if (known !== undefined && sameFacts(known, execution)) return { changes: [], fate: "known" };
  if (known !== undefined && isOutdated(known, seenAt)) return { changes: [], fate: "outdated" };
  const after = mergeViews(viewsAfter(views, { ...execution, importJobId: job._id, seenAt }));
  return { changes: changedFacts(stored, after), fate: "changed" };
}

/** Up to when what a job received was true; a replay received what the job before it did, and nothing later. */
export async function asOf(ctx: QueryCtx, job: Doc<"importJobs">): Promise<number> {
  const received = (job.replays && (await ctx.db.get("importJobs", job.replays))) || job;
  return received.finishedAt ?? received.startedAt;
}
