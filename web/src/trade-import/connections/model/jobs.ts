// What a job did, in words.
import type { Job } from "../../api";
import type { HealthTone } from "./health";

export const STATUS: Readonly<Record<Job["status"], { name: string; tone: HealthTone }>> = {
  blocked_reauth: { name: "Needs you", tone: "bad" },
  failed: { name: "Failed", tone: "bad" },
  partial: { name: "Partly", tone: "warn" },
  running: { name: "Running", tone: "accent" },
  succeeded: { name: "Done", tone: "good" },
};

export const MODE: Readonly<Record<Job["mode"], string>> = {
  backfill: "history",
  manual: "sync now",
  scheduled: "scheduled",
};

export type Count = {
  count: number;
  name: string;
  /** Where its rows are: the job's own executions, its rejects; null where they belong to earlier jobs. */
  opens: "executions" | "rejects" | null;
};

/** Counts worth a place: what was fetched, and the fates that occurred. */
export function countsOf({ stats }: Pick<Job, "stats">): Count[] {
  const all: Count[] = [
    { count: stats.fetched, name: "fetched", opens: null },
    { count: stats.inserted, name: "new", opens: "executions" },
    { count: stats.updated, name: "changed", opens: null },
    { count: stats.held, name: "held", opens: "executions" },
    { count: stats.rejected, name: "unreadable", opens: "rejects" },
    { count: stats.known, name: "known before", opens: null },
    { count: stats.skipped, name: "skipped", opens: null },
  ];
  return all.filter(({ count, name }) => count > 0 || name === "fetched");
}

/** Is there anything to take back? */
export function canUndo(job: Pick<Job, "stats" | "status" | "undo">): boolean {
  const added = job.stats.inserted + job.stats.held + job.stats.rejected;
  return job.status !== "running" && added > 0 && (job.undo === null || job.undo.kept > 0) && job.undo?.running !== true;
}

export function undoSentence({ kept, removed }: { kept: number; removed: number }): string {
  const rows = (count: number) => `${count} ${count === 1 ? "row" : "rows"}`;
  return kept === 0 ? `Taken back: ${rows(removed)}.` : `Taken back: ${rows(removed)}; ${rows(kept)} kept.`;
}
