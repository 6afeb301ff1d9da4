import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import type { Interval, View } from "./validators";

export const MAX_CONNECTIONS = 200;

type Reader = Pick<QueryCtx, "db">;

/** All of them: no owner can make more than `MAX_CONNECTIONS`. */
export async function connectionsOf(ctx: Reader, ownerId: string): Promise<Doc<"brokerageConnections">[]> {
  return await ctx.db
    .query("brokerageConnections")
    .withIndex("by_ownerId", (q) => q.eq("ownerId", ownerId))
    .take(MAX_CONNECTIONS);
}

/** Made together with its connection, so it is always there. */
export async function syncStateOf(
  ctx: Reader,
  connectionId: Id<"brokerageConnections">,
): Promise<Doc<"connectionSyncState">> {
  const state = await ctx.db
    .query("connectionSyncState")
    .withIndex("by_connectionId", (q) => q.eq("connectionId", connectionId))
    .unique();
  if (state === null) throw new Error(`Connection ${connectionId} has no sync state.`);
  return state;
}

/** What these connections have proven complete, together. */
export async function coverageOf(ctx: Reader, connections: Doc<"brokerageConnections">[]): Promise<Interval[]> {
  const cursors = await Promise.all(connections.map(({ _id }) => cursorOf(ctx, _id)));
  return cursors.flatMap((cursor) => cursor?.coverage ?? []);
}

/** Null until the first window was read. */
export async function cursorOf(
  ctx: Reader,
  connectionId: Id<"brokerageConnections">,
): Promise<Doc<"importCursorState"> | null> {
  return await ctx.db
    .query("importCursorState")
    .withIndex("by_connectionId", (q) => q.eq("connectionId", connectionId))
    .unique();
}

/** What was said of an execution so far; a row of one view is that view. */
export function viewsOf(stored: Doc<"externalExecutions">): View[] {
  const {
    _creationTime: seenAt,
    _id,
    assetType: _assetType,
    connectionId: _connection,
    decisions: _decisions,
    derived: _derived,
    heldReason: _reason,
    ownerId: _owner,
    state: _state,
    ticker: _ticker,
    tradeIds: _trades,
    views,
    ...view
  } = stored;
  return views ?? [{ ...view, seenAt }];
}
