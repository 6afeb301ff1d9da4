// Keeps what is derived of executions in step with the rows before them, in bounded steps.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";

/** A run waits until nothing has moved the position for this long: a backfill does so with every batch … */
const QUIET_MS = 3_000;

/** … but not longer than this. */
const LONGEST_WAIT_MS = 60_000;

/** A run that is overdue by this much was lost. */
const LOST_AFTER_MS = 600_000;

type Stored = Doc<"externalExecutions">;

export type Instrument = Pick<Doc<"importPositions">, "accountRef" | "assetType" | "ownerId" | "ticker">;

/**
 * Something has moved the position between these two moments: what was derived from there on is derived anew, soon
 * and in steps.
 */
export async function touchPosition(
  ctx: MutationCtx,
  instrument: Instrument,
  from: number,
  to: number = from,
): Promise<void> {
  const now = Date.now();
  const known = await positionOf(ctx, instrument);
  const { accountRef, assetType, ownerId, ticker } = instrument;
  const positionId =
    known?._id ??
    (await ctx.db.insert("importPositions", { accountRef, assetType, checkedAt: now, fullAt: now, ownerId, ticker }));
  const dirty = known?.dirtyFrom;
  const isScheduled = known?.dueAt !== undefined && known.dueAt > now - LOST_AFTER_MS;
  await ctx.db.patch("importPositions", positionId, {
    dirtyFrom: Math.min(from, dirty ?? from),
    dirtySince: known?.dirtySince ?? now,
    dirtyTo: Math.max(to, known?.dirtyTo ?? to, dirty ?? to),
    dueAt: isScheduled ? known.dueAt : now + QUIET_MS,
    // Nothing before it has changed: a run that stopped there goes on.
    resumeAfter: dirty !== undefined && from > dirty ? known?.resumeAfter : undefined,
    touchedAt: now,
  });
  if (!isScheduled) await schedule(ctx, positionId, QUIET_MS);
}

/** The same for an execution that was dismissed, undone, brought back or changed by hand. */
export async function touchExecution(ctx: MutationCtx, execution: Stored): Promise<void> {
  const { accountRef, assetType, occurredAt, ownerId, ticker } = execution;
  if (assetType === undefined || ticker === undefined) return;
  await touchPosition(ctx, { accountRef, assetType, ownerId, ticker }, occurredAt);
}

async function positionOf(ctx: MutationCtx, instrument: Instrument): Promise<Doc<"importPositions"> | null> {
  return await ctx.db
    .query("importPositions")
    .withIndex("by_ownerId_and_accountRef_and_assetType_and_ticker", (q) =>
      q
        .eq("ownerId", instrument.ownerId)
        .eq("accountRef", instrument.accountRef)
        .eq("assetType", instrument.assetType)
        .eq("ticker", instrument.ticker),
    )
    .unique();
}

async function schedule(ctx: MutationCtx, positionId: Doc<"importPositions">["_id"], delay: number): Promise<void> {
  await ctx.scheduler.runAfter(delay, internal.tradeImport.positions.recompute, { positionId });
}

/** Derives one instrument's directions anew from where they may be wrong. */
export const recompute = internalMutation({
  args: { positionId: v.id("importPositions") },
  handler: async (ctx, { positionId }): Promise<null> => {
    const position = await ctx.db.get("importPositions", positionId);
    if (position?.dirtyFrom === undefined) return null;
    const now = Date.now();
    const quietAt = Math.min(
      (position.touchedAt ?? now) + QUIET_MS,
      (position.dirtySince ?? now) + LONGEST_WAIT_MS,
    );
    if (quietAt > now) {
      await ctx.db.patch("importPositions", positionId, { dueAt: quietAt });
      await schedule(ctx, positionId, quietAt - now);
    }
    return null;
  },
  returns: v.null(),
});
