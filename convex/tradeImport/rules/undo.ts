// What is left standing of a connection's coverage when a job is taken back.

type Interval = { end: number; start: number };

/** Around a row that was taken back: enough for sources that are read by whole days. */
export const MARGIN_MS = 86_400_000;

/** Time ranges that were covered after a job and not before. Sources are kept apart. */
export function addedBy<Covered extends Interval & { source: string }>(
  before: ReadonlyArray<Covered>,
  after: ReadonlyArray<Covered>,
): Interval[] {
  return after.flatMap((interval) =>
    without(
      [interval],
      before.filter(({ source }) => source === interval.source),
    ),
  );
}

/** The time ranges in which an execution at any of these moments is looked for. */
export function around(moments: ReadonlyArray<number>): Interval[] {
  const merged: Interval[] = [];
  for (const moment of [...moments].sort((a, b) => a - b)) {
    const last = merged[merged.length - 1];
    const [start, end] = [moment - MARGIN_MS, moment + MARGIN_MS];
    if (last !== undefined && start <= last.end) last.end = end;
    else merged.push({ end, start });
  }
  return merged;
}

/** What is left of `coverage` once nothing inside `holes` counts as read any more. */
export function without<Covered extends Interval>(
  coverage: ReadonlyArray<Covered>,
  holes: ReadonlyArray<Interval>,
): Covered[] {
  return holes.reduce<Covered[]>(
    (left, hole) =>
      left.flatMap((interval) =>
        [
          { ...interval, end: Math.min(interval.end, hole.start) },
          { ...interval, start: Math.max(interval.start, hole.end) },
        ].filter(({ end, start }) => start < end),
      ),
    [...coverage],
  );
}
