// Gathers what stands open of one owner. What becomes a line, and which one, is in rules/problems.ts.
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { latestBeat, silence } from "./pulse";
import { siblingsOfAccount } from "./rules/accounts";
import { completeness } from "./rules/completeness";
import { deriveHealth, isSilent } from "./rules/health";
import {
  openProblems,
  type ConnectionFacts,
  type HeldFacts,
  type ProblemLine,
  type RejectFacts,
} from "./rules/problems";
import { connectionsOf, coverageOf, cursorOf, syncStateOf } from "./state";

/** Counts stop here: «1000 rows» is as good as the number. */
const MAX_COUNT = 1_000;

type Connection = Doc<"brokerageConnections">;

export async function problemsOf(
  ctx: QueryCtx,
  ownerId: string,
  now: number | null,
): Promise<ProblemLine<Id<"brokerageConnections">>[]> {
  const connections = await connectionsOf(ctx, ownerId);
  const watched = connections.some(({ status }) => status !== "disconnected");
  return openProblems({
    connections: await Promise.all(
      connections.map((connection) => connectionFacts(ctx, connection, siblingsOfAccount(connection, connections), now)),
    ),
    held: await heldFacts(ctx, ownerId),
    rejects: await rejectFacts(ctx, ownerId, connections),
    silence: watched ? await workerSilence(ctx, now, connections) : null,
  });
}

async function connectionFacts(
  ctx: QueryCtx,
  connection: Connection,
  siblings: Connection[],
  now: number | null,
): Promise<ConnectionFacts<Id<"brokerageConnections">>> {
  const state = await syncStateOf(ctx, connection._id);
  const cursor = await cursorOf(ctx, connection._id);
  const health = deriveHealth(
    {
      breaker: state.breaker,
      createdAt: connection.createdAt,
      intervalMinutes: connection.settings.intervalMinutes,
      // That no worker reports is a line of its own, and no connection's.
      lastBeatAt: now,
      lastSyncAt: connection.lastSyncAt,
      leaseExpiresAt: state.lease?.expiresAt,
      nextSyncAt: state.nextSyncAt,
      problem: state.problem,
      problemSince: state.problemSince,
      reason: state.reason,
      status: connection.status,
      syncingSince: undefined,
      updatedAt: connection.updatedAt,
    },
    now,
  );
  return {
    accountRef: connection.accountRef,
    connectionId: connection._id,
    gaps: completeness([...(cursor?.coverage ?? []), ...(await coverageOf(ctx, siblings))]).gaps,
    health,
    kind: connection.kind,
    problem: state.problem,
  };
}

/** Without a client's clock the cron's word counts. */
async function workerSilence(ctx: QueryCtx, now: number | null, connections: Connection[]) {
  const noticed = await silence(ctx);
  if (now === null && noticed === undefined) return null;
  const beat = await latestBeat(ctx);
  if (now !== null && beat !== null && !isSilent(beat.lastBeatAt, now)) return null;
  const since = beat?.lastBeatAt ?? noticed ?? Math.min(...connections.map(({ createdAt }) => createdAt));
  return { everReported: beat !== null, since };
}

async function rejectFacts(
  ctx: QueryCtx,
  ownerId: string,
  connections: Connection[],
): Promise<RejectFacts<Id<"brokerageConnections">>[]> {
  const open = await ctx.db
    .query("importRejects")
    .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
      q.eq("ownerId", ownerId).eq("resolvedAt", undefined),
    )
    .take(MAX_COUNT);
  const groups = new Map<string, RejectFacts<Id<"brokerageConnections">>>();
  for (const { _creationTime: since, accountRef, connectionId, retryAt } of open) {
    const own = connections.find(({ _id }) => _id === connectionId)?.accountRef;
    const other = accountRef === own ? undefined : accountRef;
    const key = `${connectionId} ${other ?? ""}`;
    const group = groups.get(key) ?? { accountRef: other, connectionId, count: 0, retrying: 0, since };
    groups.set(key, {
      ...group,
      count: group.count + 1,
      retrying: group.retrying + (retryAt === undefined ? 0 : 1),
      since: Math.min(group.since, since),
    });
  }
  return [...groups.values()];
}

async function heldFacts(ctx: QueryCtx, ownerId: string): Promise<HeldFacts[]> {
  const held = await ctx.db
    .query("externalExecutions")
    .withIndex("by_ownerId_and_state_and_occurredAt", (q) => q.eq("ownerId", ownerId).eq("state", "held"))
    .order("desc")
    .take(MAX_COUNT);
  const groups = new Map<string, HeldFacts>();
  for (const { _creationTime: since, heldReason: reason = "kind_not_supported" } of held) {
    const group = groups.get(reason) ?? { count: 0, reason, since };
    groups.set(reason, { ...group, count: group.count + 1, since: Math.min(group.since, since) });
  }
  return [...groups.values()];
}
