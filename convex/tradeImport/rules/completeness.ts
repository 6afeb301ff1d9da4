// What coverage says to a person: up to when the history is complete, and where it has holes.

type Interval = { end: number; start: number };

export type Completeness = {
  /** Before it nothing has been read. */
  from: number | null;
  gaps: Interval[];
  /** After it nothing has been read. */
  upTo: number | null;
};

/** Sources complete each other: what any of them has read is read. */
export function completeness(coverage: ReadonlyArray<Interval>): Completeness {
  const byStart = [...coverage].sort((a, b) => a.start - b.start);
  const [first, ...rest] = byStart;
  if (first === undefined) return { from: null, gaps: [], upTo: null };
  const gaps: Interval[] = [];
  let upTo = first.end;
  for (const interval of rest) {
    if (interval.start > upTo) gaps.push({ end: interval.start, start: upTo });
    upTo = Math.max(upTo, interval.end);
  }
  return { from: first.start, gaps, upTo };
}
