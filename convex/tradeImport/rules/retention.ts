// What is forgotten, and when. Executions, trades and jobs that brought something are never forgotten.
import type { Infer } from "convex/values";
import type { JobStats, vJobStatus } from "../validators";

const DAY_MS = 86_400_000;

/** Workers that restart take new names; the last beats of old ones say nothing after a week. */
export const HEARTBEAT_MS = 7 * DAY_MS;

/** How long the text of a reject is kept once its row was read well; its reason stays for good. */
export const PAYLOAD_MS = 90 * DAY_MS;

/** How long a job that changed nothing is kept. */
export const QUIET_JOB_MS: Readonly<Record<Exclude<Infer<typeof vJobStatus>, "running">, number>> = {
  blocked_reauth: 90 * DAY_MS,
  failed: 90 * DAY_MS,
  partial: 90 * DAY_MS,
  succeeded: 14 * DAY_MS,
};

/** A job of which nothing is left to read: no row came or changed with it, and none of its reports is kept. */
export function isQuiet(job: { reportIds?: ReadonlyArray<string>; stats: JobStats }): boolean {
  const { held, inserted, rejected, updated } = job.stats;
  return held + inserted + rejected + updated === 0 && (job.reportIds ?? []).length === 0;
}
