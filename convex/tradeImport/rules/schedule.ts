// When a connection is synced: what a claim and a request for a sync lead to.
import type { ConnectionStatus, JobMode, JobReason } from "../validators";

/** After a job has served a request, the next one is refused for so long. */
export const REQUEST_PAUSE_MS = 10_000;

export type ClaimDecision =
  | { granted: true; mode: JobMode }
  | { granted: false; reason: "disconnected" | "held" | "not_due" };

export function decideClaim(
  facts: {
    leaseExpiresAt: number | undefined;
    nextSyncAt: number;
    requestedAt: number | undefined;
    status: ConnectionStatus;
  },
  mode: JobMode,
  now: number,
): ClaimDecision {
  if (facts.status === "disconnected") return { granted: false, reason: "disconnected" };
  if (facts.leaseExpiresAt !== undefined && facts.leaseExpiresAt > now) return { granted: false, reason: "held" };
  if (mode === "manual" || facts.requestedAt !== undefined) return { granted: true, mode: "manual" };
  // Refused credentials are not tried again until somebody changed them or asks.
  if (facts.status === "needs_reauth" || now < facts.nextSyncAt) return { granted: false, reason: "not_due" };
  return { granted: true, mode };
}

export type RequestDecision<JobId> =
  | { notify: boolean; record: boolean; result: "queued" }
  | { jobId: JobId; record: boolean; result: "joined" }
  | { result: "limited"; until: number };

/**
 * What becomes of «Sync now». A request stays recorded until a job serves it; pressing again meanwhile adds
 * nothing, and pressing right after it was served is refused, so a row of presses is one job.
 */
export function decideRequest<JobId>(
  state: {
    lease?: { expiresAt: number; jobId: JobId };
    notifiedAt?: number;
    requestedAt?: number;
    servedAt?: number;
    waitUntil?: number;
  },
  now: number,
): RequestDecision<JobId> {
  const record = state.requestedAt === undefined;
  if (state.lease !== undefined && state.lease.expiresAt > now) {
    return { jobId: state.lease.jobId, record, result: "joined" };
  }
  if (record) {
    const pausedUntil = (state.servedAt ?? -Infinity) + REQUEST_PAUSE_MS;
    const until = Math.max(pausedUntil, state.waitUntil ?? -Infinity);
    if (now < until) return { result: "limited", until };
  }
  const notify = record || now - (state.notifiedAt ?? -Infinity) >= REQUEST_PAUSE_MS;
  return { notify, record, result: "queued" };
}

/**
 * Has the job that just ended served the request recorded meanwhile? Not if it gave up before it tried, or
 * if the credentials it used have been replaced.
 */
export function servesRequest(job: { authVersion: number; reason: JobReason }, authVersion: number): boolean {
  return job.reason !== "cancelled" && job.reason !== "lease_lost" && job.authVersion === authVersion;
}

type Outcome = { reason: JobReason; status: "blocked_reauth" | "failed" | "partial" | "succeeded" };

/** Whether the job read all it set out to read. A job that stored some rows and then failed did not. */
export function hasSynced(outcome: Outcome): boolean {
  return outcome.status === "succeeded" || (outcome.status === "partial" && outcome.reason === "bad_records");
}

/** The connection's status after a job; a transient failure leaves it as it was. */
export function statusAfter(before: ConnectionStatus, outcome: Outcome): ConnectionStatus {
  if (hasSynced(outcome)) return "active";
  if (outcome.status === "blocked_reauth") return "needs_reauth";
  return outcome.reason === "rejected" ? "error" : before;
}
