// A lease is the right to write for one connection. Its fence number rises with every grant, so a worker
// that slept through its lease can be told from the one that took over.

export const LEASE_MS = 300_000;

type Lease<JobId> = { expiresAt: number; jobId: JobId };

/**
 * May this job still write? An expired lease that nobody took is still good: mutations are serialised, so
 * there is no second writer, and refusing would only repeat work.
 */
export function mayWrite<JobId>(facts: {
  connectionStatus: string;
  currentFence: number;
  fence: number;
  jobId: JobId;
  jobStatus: string;
  lease: Lease<JobId> | undefined;
}): boolean {
  return (
    facts.jobStatus === "running" &&
    facts.connectionStatus !== "disconnected" &&
    facts.lease?.jobId === facts.jobId &&
    facts.fence === facts.currentFence
  );
}

/** When the lease ends after a write at `now`; the same value as long as more than half is left. */
export function extended(expiresAt: number, now: number): number {
  return expiresAt - now < LEASE_MS / 2 ? now + LEASE_MS : expiresAt;
}

/** How a job ends whose worker let its lease run out. */
export function abandoned(now: number) {
  return {
    errorSummary: {
      action: "",
      code: "lease_lost",
      sentence: "The worker stopped before this sync was done. The next sync goes on from there.",
    },
    finishedAt: now,
    reason: "lease_lost" as const,
    status: "failed" as const,
  };
}

/** Can nobody write for this running job any more? `lease` is its connection's. */
export function isAbandoned<JobId>(
  job: { jobId: JobId; startedAt: number },
  lease: Lease<JobId> | undefined,
  now: number,
): boolean {
  return lease?.jobId === job.jobId ? lease.expiresAt <= now : job.startedAt + LEASE_MS <= now;
}
