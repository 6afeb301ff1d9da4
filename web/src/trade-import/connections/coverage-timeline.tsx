"use client";

import type { Connection } from "../api";
import { day, moment } from "../format/instant";
import { useNow } from "../hooks/use-now";
import { useZone } from "../hooks/use-zone";
import { classes } from "../ui/classes";
import { Instant } from "../ui/instant";
import { fromBeginning, timeline, type Part } from "./model/timeline";

const LOOKS: Readonly<Record<Part["kind"], string>> = {
  complete: "bg-ti-good",
  gap: "bg-[repeating-linear-gradient(135deg,var(--ti-bad)_0_3px,var(--ti-bad-soft)_3px_6px)]",
  unread: "bg-ti-line",
};

const WORDS: Readonly<Record<Part["kind"], string>> = {
  complete: "complete",
  gap: "may be missing",
  unread: "not read yet",
};

/** Up to when the history is complete: a line with its holes, and the same in words. */
export function CoverageTimeline({ connection }: { connection: Connection }) {
  const zone = useZone();
  const now = useNow();
  const parts = timeline(connection, now);
  const { completeFrom, completeUpTo, gaps } = connection;
  if (completeFrom === null || completeUpTo === null) return <p className="text-ti-muted">Nothing has been read yet.</p>;
  return (
    <div className="min-w-0">
      <p className="mb-1.5">
        <span className="text-ti-muted">
          Complete from {fromBeginning(completeFrom) ? "the beginning" : day(completeFrom, zone)} up to{" "}
        </span>
        <Instant at={completeUpTo} className="font-medium tabular-nums" />
        {gaps.length === 0 ? null : (
          <span className="text-ti-bad">
            {" "}
            but for {gaps.length} {gaps.length === 1 ? "gap" : "gaps"}
          </span>
        )}
      </p>
      <div aria-hidden className="flex h-2 gap-px overflow-hidden rounded-sm">
        {parts.map((part) => (
          <span
            key={part.start}
            className={classes("h-full", LOOKS[part.kind])}
            style={{ width: `${part.width}%` }}
            title={`${WORDS[part.kind]}: ${moment(part.start, zone)} to ${moment(part.end, zone)}`}
          />
        ))}
      </div>
      <div aria-hidden className="mt-0.5 flex justify-between text-xs text-ti-muted tabular-nums">
        <span>{day(parts[0]?.start ?? completeFrom, zone)}</span>
        <span>now</span>
      </div>
      {gaps.length === 0 ? null : (
        <details className="mt-1">
          <summary className="ti-focus w-fit cursor-pointer rounded text-[0.8125rem] text-ti-bad">
            Times that may be missing
          </summary>
          <ul className="mt-1 space-y-0.5 text-[0.8125rem] tabular-nums">
            {gaps.map((gap) => (
              <li key={gap.start}>
                <Instant at={gap.start} /> to <Instant at={gap.end} />
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}
