// Who may call what, and which documents are whose. Nothing else decides access.
import type { Auth } from "convex/server";
import { customCtx, customMutation, customQuery } from "convex-helpers/server/customFunctions";
import type { Doc, Id } from "../_generated/dataModel";
import { mutation, query, type QueryCtx } from "../_generated/server";
import { WORKER_ISSUER, WORKER_SUBJECT } from "./authProvider";
import { notFound, refusal } from "./errors";

export { WORKER_AUDIENCE, WORKER_ISSUER, WORKER_SUBJECT, workerAuthProvider } from "./authProvider";

/** The signed-in user's id, or null; the worker is nobody's user. */
export async function callerId(ctx: { auth: Auth }): Promise<string | null> {
  const identity = await ctx.auth.getUserIdentity();
  return identity === null || identity.issuer === WORKER_ISSUER ? null : identity.tokenIdentifier;
}

async function requireUser(ctx: { auth: Auth }) {
  const ownerId = await callerId(ctx);
  if (ownerId === null) throw refusal("not_authenticated", "Sign in first.");
  return { ownerId };
}

async function requireWorker(ctx: { auth: Auth }) {
  const identity = await ctx.auth.getUserIdentity();
  if (identity?.issuer !== WORKER_ISSUER || identity.subject !== WORKER_SUBJECT) {
    // A ConvexError would reach the caller and say that there is something to find.
    throw new Error("Could not find public function.");
  }
  return {};
}

export const userQuery = customQuery(query, customCtx(requireUser));
export const userMutation = customMutation(mutation, customCtx(requireUser));
export const workerQuery = customQuery(query, customCtx(requireWorker));
export const workerMutation = customMutation(mutation, customCtx(requireWorker));

type Reader = Pick<QueryCtx, "db"> & { ownerId: string };

export async function ownConnection(
  ctx: Reader,
  connectionId: Id<"brokerageConnections">,
): Promise<Doc<"brokerageConnections">> {
  const connection = await ctx.db.get("brokerageConnections", connectionId);
  if (connection?.ownerId !== ctx.ownerId) throw notFound("Connection");
  return connection;
}

export async function ownJob(ctx: Reader, jobId: Id<"importJobs">): Promise<Doc<"importJobs">> {
  const job = await ctx.db.get("importJobs", jobId);
  if (job?.ownerId !== ctx.ownerId) throw notFound("Job");
  return job;
}

export async function ownExecution(
  ctx: Reader,
  executionId: Id<"externalExecutions">,
): Promise<Doc<"externalExecutions">> {
  const execution = await ctx.db.get("externalExecutions", executionId);
  if (execution?.ownerId !== ctx.ownerId) throw notFound("Execution");
  return execution;
}

/** An imported trade of the caller; trades somebody typed are not the inbox's. */
export async function ownImportedTrade(ctx: Reader, tradeId: Id<"trades">): Promise<Doc<"trades">> {
  const trade = await ctx.db.get("trades", tradeId);
  if (trade?.ownerId !== ctx.ownerId) throw notFound("Trade");
  return trade;
}

/** Trades somebody typed have no owner, as everything of the app; imported ones are their owner's alone. */
export function mayRead(callerId: string | null, trade: { ownerId?: string }): boolean {
  return trade.ownerId === undefined || trade.ownerId === callerId;
}
