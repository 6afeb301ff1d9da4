// Does a worker live? Heartbeats change all the time; its silence is a row that changes when it begins and ends.
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { isSilent } from "./rules/health";

/** Of any worker; null if none has ever reported. */
export async function latestBeat(ctx: QueryCtx): Promise<Doc<"workerHeartbeats"> | null> {
  return await ctx.db.query("workerHeartbeats").withIndex("by_lastBeatAt").order("desc").first();
}

/** Since when no worker has beaten, as last noticed; undefined while one does. */
export async function silence(ctx: QueryCtx): Promise<number | undefined> {
  return (await ctx.db.query("workerSilence").first())?.since;
}

/** Writes only when a silence begins or ends. */
export async function noticeSilence(ctx: MutationCtx, now: number): Promise<void> {
  const lastBeatAt = (await latestBeat(ctx))?.lastBeatAt ?? null;
  if (!isSilent(lastBeatAt, now)) {
    await endSilence(ctx);
  } else if ((await silence(ctx)) === undefined) {
    await ctx.db.insert("workerSilence", { since: lastBeatAt ?? now });
  }
}

export async function endSilence(ctx: MutationCtx): Promise<void> {
  const noticed = await ctx.db.query("workerSilence").first();
  if (noticed !== null) await ctx.db.delete("workerSilence", noticed._id);
}
