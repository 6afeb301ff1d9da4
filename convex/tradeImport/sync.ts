// «Sync now»: a request is recorded, then announced. The record is what counts: the worker watches it, so a
// lost announcement costs seconds, never the request.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalAction, type MutationCtx } from "../_generated/server";
import { ownConnection, userMutation } from "./access";
import { syncEndpoint, type SyncEndpoint } from "./env";
import { refusal } from "./errors";
import { decideRequest } from "./rules/schedule";
import { connectionsOf, syncStateOf } from "./state";
import { vSyncRequest, type SyncRequest } from "./validators";

const NOTIFY_TIMEOUT_MS = 5_000;

/** Asks for a sync of one connection; joins a job that already runs. */
export const syncNow = userMutation({
  args: { connectionId: v.id("brokerageConnections") },
  handler: async (ctx, args) => {
    const connection = await ownConnection(ctx, args.connectionId);
    if (connection.status === "disconnected") {
      throw refusal("conflict", "This connection is disconnected. Enter credentials to connect it again.");
    }
    return await requestSync(ctx, connection);
  },
  returns: vSyncRequest,
});

/** The same for every connection of the user that is not disconnected. */
export const syncAll = userMutation({
  args: {},
  handler: async (ctx) => {
    const connections = await connectionsOf(ctx, ctx.ownerId);
    const answers: { connectionId: Doc<"brokerageConnections">["_id"]; request: SyncRequest }[] = [];
    for (const connection of connections) {
      if (connection.status === "disconnected") continue;
      answers.push({ connectionId: connection._id, request: await requestSync(ctx, connection) });
    }
    return answers;
  },
  returns: v.array(v.object({ connectionId: v.id("brokerageConnections"), request: vSyncRequest })),
});

export async function requestSync(ctx: MutationCtx, connection: Doc<"brokerageConnections">): Promise<SyncRequest> {
  const now = Date.now();
  const state = await syncStateOf(ctx, connection._id);
  const decision = decideRequest(state, now);
  switch (decision.result) {
    case "limited":
      return decision;
    case "joined":
      if (decision.record) await ctx.db.patch("connectionSyncState", state._id, { requestedAt: now });
      return { jobId: decision.jobId, result: "joined" };
    case "queued":
      if (decision.record || decision.notify) {
        await ctx.db.patch("connectionSyncState", state._id, {
          notifiedAt: decision.notify ? now : state.notifiedAt,
          requestedAt: state.requestedAt ?? now,
        });
      }
      if (decision.notify) await announce(ctx, connection);
      return { result: "queued" };
  }
}

/** Tells the worker by its inbound port, where it has one. */
export async function announce(ctx: MutationCtx, connection: Doc<"brokerageConnections">): Promise<void> {
  if (syncEndpoint() === null) return;
  await ctx.scheduler.runAfter(0, internal.tradeImport.sync.notifyWorker, { connectionId: connection._id });
}

/** One signed POST. Failing changes nothing: the request stays recorded and the worker also watches. */
export const notifyWorker = internalAction({
  args: { connectionId: v.id("brokerageConnections") },
  handler: async (_ctx, args) => {
    const endpoint = syncEndpoint();
    if (endpoint === null) return null;
    const body = JSON.stringify({ connectionId: args.connectionId });
    const timestamp = String(Math.floor(Date.now() / 1000));
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), NOTIFY_TIMEOUT_MS);
    try {
      await fetch(endpoint.url, {
        body,
        headers: {
          "Content-Type": "application/json",
          "X-Trade-Sync-Signature": `v1=${await sign(endpoint, `${timestamp}.${body}`)}`,
          "X-Trade-Sync-Timestamp": timestamp,
        },
        method: "POST",
        redirect: "error",
        signal: controller.signal,
      });
    } catch {
      console.warn("The worker could not be told of a sync request; it will see it by itself.");
    } finally {
      clearTimeout(timer);
    }
    return null;
  },
  returns: v.null(),
});

async function sign(endpoint: SyncEndpoint, text: string): Promise<string> {
  const encoder = new TextEncoder();
  const algorithm = { hash: "SHA-256", name: "HMAC" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(endpoint.secret), algorithm, false, ["sign"]);
  const signature = await crypto.subtle.sign("HMAC", key, encoder.encode(text));
  return Array.from(new Uint8Array(signature), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
