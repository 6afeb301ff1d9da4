// When a connection is synced: what a claim and a request for a sync lead to.
import type { ConnectionStatus, JobMode, JobReason, Problem } from "../validators";

/** After a job has served a request, the next one is refused for so long. */
export const REQUEST_PAUSE_MS = 10_000;

export type ClaimDecision =
  | { granted: true; mode: JobMode }
  | { granted: false; reason: "disconnected" | "held" | "not_due" };

/**
 * May this connection be synced now? `early` says that the worker has seen the end of what blocked it (somebody
 * logged in, the other session is gone): it need not wait for its time then, but for a pause the broker asked for.
 */
export function decideClaim(
  facts: {
    leaseExpiresAt: number | undefined;
    nextSyncAt: number;
    problem: Problem | undefined;
    requestedAt: number | undefined;
    status: ConnectionStatus;
    waitUntil: number | undefined;
  },
  asked: { early: boolean; mode: JobMode },
  now: number,
): ClaimDecision {
  const { early, mode } = asked;
  if (facts.status === "disconnected") return { granted: false, reason: "disconnected" };
  if (facts.leaseExpiresAt !== undefined && facts.leaseExpiresAt > now) return { granted: false, reason: "held" };
  if (mode === "manual" || facts.requestedAt !== undefined) return { granted: true, mode: "manual" };
  // Refused credentials are not tried again until somebody changed them or asks, or the refusal is seen to be over.
  const needsReauth = facts.status === "needs_reauth";
  const due = !needsReauth && now >= facts.nextSyncAt;
  const freed = early && (needsReauth || facts.problem !== undefined) && now >= (facts.waitUntil ?? -Infinity);
  return due || freed ? { granted: true, mode } : { granted: false, reason: "not_due" };
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

/**
 * Whether the job read all there was to read: rows nobody understands and times the broker no longer remembers
 * do not change that. A job that stored some rows and then failed has not.
 */
export function hasSynced(outcome: Outcome): boolean {
  if (outcome.status === "partial") return outcome.reason === "bad_records" || outcome.reason === "gap";
  return outcome.status === "succeeded";
}

/** The connection's status after a job; a transient failure leaves it as it was. */
export function statusAfter(before: ConnectionStatus, outcome: Outcome): ConnectionStatus {
  if (hasSynced(outcome)) return "active";
  if (outcome.status === "blocked_reauth") return "needs_reauth";
  // Somebody is logged in again, if elsewhere.
  if (outcome.reason === "session_in_use" && before === "needs_reauth") return "active";
  return outcome.reason === "rejected" ? "error" : before;
}

/**
 * What stands open on the connection after a job. Until a person has acted, a job that failed for another reason (a
 * reset, a gateway that is away) does not change what they must do.
 */
export function problemAfter(
  before: Problem | undefined,
  status: ConnectionStatus,
  outcome: Outcome & { problem?: Problem },
): Problem | undefined {
  if (status === "needs_reauth" && outcome.reason !== "auth") return before ?? outcome.problem;
  // What is only remarked of a job stays with the job.
  return outcome.problem?.code === "remark" ? undefined : outcome.problem;
}
