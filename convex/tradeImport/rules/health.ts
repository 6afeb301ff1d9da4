// How a connection is, derived from what is stored and never stored itself, so it clears when its cause ends.
import type { Breaker, ConnectionStatus, Health, JobReason, Problem } from "../validators";

/** The worker beats every 30 seconds; four missed beats are no coincidence. */
export const WORKER_SILENCE_MS = 120_000;

/** A sync that is overdue by this many intervals deserves a look. */
const STALE_INTERVALS = 3;

export type HealthFacts = {
  breaker: Breaker;
  createdAt: number;
  intervalMinutes: number;
  /** Of any worker; null if none has ever reported. */
  lastBeatAt: number | null;
  lastSyncAt: number | undefined;
  leaseExpiresAt: number | undefined;
  nextSyncAt: number;
  problem: Problem | undefined;
  problemSince: number | undefined;
  reason: JobReason | undefined;
  /** Since when the deployment itself has heard no worker; asked where there is no `now`. */
  silentSince?: number;
  status: ConnectionStatus;
  /** When the running job started, if one runs. */
  syncingSince: number | undefined;
  updatedAt: number;
};

/** Without `now`, `stale` is left out: only the passing of time brings it. */
export function deriveHealth(facts: HealthFacts, now: number | null): Health {
  if (facts.status === "disconnected") {
    return {
      action: "Enter credentials to connect again.",
      sentence: "Disconnected. The imported trades stay.",
      since: facts.updatedAt,
      state: "disconnected",
    };
  }
  if (isSyncing(facts, now)) {
    return { action: "", sentence: "Syncing now.", since: facts.syncingSince ?? facts.updatedAt, state: "syncing" };
  }
  if (facts.status === "needs_reauth") {
    return {
      action: facts.problem?.action || "Enter new credentials.",
      sentence: facts.problem?.sentence ?? "The broker refuses the credentials.",
      since: facts.problemSince ?? facts.updatedAt,
      state: "needs_reauth",
      url: facts.problem?.url,
    };
  }
  if (isOffline(facts, now)) {
    return {
      action: "Start the worker: trade-sync run.",
      sentence: facts.lastBeatAt === null ? "No worker has reported yet." : "The worker is not running.",
      since: facts.lastBeatAt ?? facts.silentSince ?? facts.createdAt,
      state: "worker_offline",
    };
  }
  if (facts.reason === "maintenance" && facts.problem !== undefined) {
    return {
      action: "",
      sentence: facts.problem.sentence,
      since: facts.problemSince ?? facts.updatedAt,
      state: "maintenance_window",
      until: facts.nextSyncAt,
    };
  }
  if (facts.problem !== undefined && !isFirstMiss(facts)) {
    return {
      action: facts.problem.action,
      sentence: facts.problem.sentence,
      since: facts.problemSince ?? facts.updatedAt,
      state: facts.reason === "session_in_use" ? "in_use_elsewhere" : "degraded",
      until: facts.nextSyncAt,
      url: facts.problem.url,
    };
  }
  if (facts.lastSyncAt === undefined) {
    return {
      action: "",
      sentence: "Not synced yet. The first sync starts by itself.",
      since: facts.createdAt,
      state: "never_synced",
    };
  }
  if (now !== null && now - facts.lastSyncAt > STALE_INTERVALS * facts.intervalMinutes * 60_000) {
    return {
      action: "Press Sync now; if nothing changes, look at the worker's log.",
      sentence: "The last successful sync is longer ago than it should be.",
      since: facts.lastSyncAt,
      state: "stale",
    };
  }
  return { action: "", sentence: "Up to date.", since: facts.lastSyncAt, state: "ok" };
}

function isOffline(facts: HealthFacts, now: number | null): boolean {
  return now === null ? facts.silentSince !== undefined : isSilent(facts.lastBeatAt, now);
}

/** Has no worker beaten for so long that none can be running? */
export function isSilent(lastBeatAt: number | null, now: number): boolean {
  return now - (lastBeatAt ?? -Infinity) > WORKER_SILENCE_MS;
}

function isSyncing(facts: HealthFacts, now: number | null): boolean {
  return facts.leaseExpiresAt !== undefined && (now === null || facts.leaseExpiresAt > now);
}

/** One failed call is everyday life; the next sync usually mends it. */
function isFirstMiss(facts: HealthFacts): boolean {
  return facts.reason === "unavailable" && facts.breaker.failures < 2;
}
