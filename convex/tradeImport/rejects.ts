// Rows nobody could read: marked to be read again, handed to the worker, and settled by its answer.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { refusal } from "./errors";
import { plainSentence } from "./rules/text";
import type { RetriedReject, Unsettled } from "./validators";

/** Handed out with one lease … */
const MAX_RETRIED = 100;

/** … and together no larger than this. */
const MAX_RETRIED_BYTES = 1_048_576;

/** Marks open rejects of this connection that are not marked yet; returns how many. */
export async function markForRetry(
  ctx: MutationCtx,
  connectionId: Id<"brokerageConnections">,
  limit: number,
): Promise<number> {
  const open = await ctx.db
    .query("importRejects")
    .withIndex("by_connectionId_and_resolvedAt_and_retryAt", (q) =>
      q.eq("connectionId", connectionId).eq("resolvedAt", undefined).eq("retryAt", undefined),
    )
    .take(limit);
  const retryAt = Date.now();
  for (const reject of open) await ctx.db.patch("importRejects", reject._id, { retryAt });
  return open.length;
}

/** The marked ones, the longest marked first, as many as one lease may carry. */
export async function rejectsToRetry(
  ctx: MutationCtx,
  connectionId: Id<"brokerageConnections">,
): Promise<RetriedReject[]> {
  const marked = ctx.db
    .query("importRejects")
    .withIndex("by_connectionId_and_resolvedAt_and_retryAt", (q) =>
      q.eq("connectionId", connectionId).eq("resolvedAt", undefined).gt("retryAt", 0),
    );
  const encoder = new TextEncoder();
  const rejects: RetriedReject[] = [];
  let size = 0;
  for await (const { accountRef, externalExecutionId, fingerprint, rawPayload } of marked) {
    size += encoder.encode(rawPayload).length;
    if (rejects.length === MAX_RETRIED || (rejects.length > 0 && size > MAX_RETRIED_BYTES)) break;
    rejects.push({ accountRef, externalExecutionId, fingerprint, rawPayload });
  }
  return rejects;
}

/** What the worker says of retried rejects: read well now, or still not. */
export async function settleRejects(
  ctx: MutationCtx,
  connectionId: Id<"brokerageConnections">,
  settled: ReadonlyArray<string>,
  unsettled: ReadonlyArray<Unsettled>,
): Promise<void> {
  if (settled.length > MAX_RETRIED || unsettled.length > MAX_RETRIED) {
    throw refusal("invalid_row", `At most ${MAX_RETRIED} rejects are settled at once; send them in parts.`);
  }
  const resolvedAt = Date.now();
  for (const fingerprint of settled) {
    const reject = await rejectOf(ctx, connectionId, fingerprint);
    if (reject !== null) await ctx.db.patch("importRejects", reject._id, { resolvedAt, retryAt: undefined });
  }
  for (const { fingerprint, reason } of unsettled) {
    const reject = await rejectOf(ctx, connectionId, fingerprint);
    if (reject?.resolvedAt !== undefined || reject === null) continue;
    await ctx.db.patch("importRejects", reject._id, { reason: plainSentence(reason), retryAt: undefined });
  }
}

async function rejectOf(
  ctx: MutationCtx,
  connectionId: Id<"brokerageConnections">,
  fingerprint: string,
): Promise<Doc<"importRejects"> | null> {
  return await ctx.db
    .query("importRejects")
    .withIndex("by_connectionId_and_fingerprint", (q) =>
      q.eq("connectionId", connectionId).eq("fingerprint", fingerprint),
    )
    .unique();
}
