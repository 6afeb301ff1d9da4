// What is read of a connection's time, as parts of a line.

export type Part = {
  end: number;
  kind: "complete" | "gap" | "unread";
  start: number;
  /** Of the whole, in per cent. The parts of a line make 100 together. */
  width: number;
};

/** A gap that is too short to be seen is drawn this wide, in per cent. */
const LEAST = 0.8;

type Facts = {
  completeFrom: number | null;
  completeUpTo: number | null;
  gaps: readonly { end: number; start: number }[];
};

/** No broker here is older: what is complete from before is complete from the beginning. */
const BEGINNING = Date.UTC(1978, 0, 1);

const YEAR_MS = 365 * 86_400_000;

export function fromBeginning(completeFrom: number): boolean {
  return completeFrom < BEGINNING;
}

/** Where the line starts: a year is shown, and more where something in it is missing. */
export function shownFrom({ completeFrom, gaps }: Pick<Facts, "completeFrom" | "gaps">, now: number): number | null {
  if (completeFrom === null) return null;
  const firstGap = Math.min(...gaps.map(({ start }) => start));
  return Math.max(completeFrom, Math.min(now - YEAR_MS, firstGap - YEAR_MS / 12));
}

/** Oldest first; nothing where nothing has been read. */
export function timeline(facts: Facts, now: number): Part[] {
  const { completeUpTo, gaps } = facts;
  const from = shownFrom(facts, now);
  if (from === null || completeUpTo === null) return [];
  const end = Math.max(now, completeUpTo);
  if (end <= from) return [];
  const parts: Omit<Part, "width">[] = [];
  let at = from;
  const upTo = (until: number, kind: Part["kind"]) => {
    if (until > at) parts.push({ end: until, kind, start: at });
    at = Math.max(at, until);
  };
  for (const gap of [...gaps].sort((a, b) => a.start - b.start)) {
    upTo(gap.start, "complete");
    upTo(gap.end, "gap");
  }
  upTo(completeUpTo, "complete");
  upTo(end, "unread");
  return widen(parts, end - from);
}

/** Every part can be seen, and the line is as long as before: the long parts give what the short ones need. */
function widen(parts: readonly Omit<Part, "width">[], whole: number): Part[] {
  const widths = parts.map(({ end, start }) => ((end - start) / whole) * 100);
  // The last bit that is not read yet is always there; drawing it wide would look like a fault.
  const least = parts.map(({ kind }, index) => (kind === "gap" ? LEAST : Math.min(widths[index] ?? 0, LEAST)));
  const lacking = widths.reduce((sum, width, index) => sum + Math.max(0, (least[index] ?? 0) - width), 0);
  const spare = widths.reduce((sum, width, index) => sum + Math.max(0, width - (least[index] ?? 0)), 0);
  const share = spare === 0 ? 0 : Math.max(0, 1 - lacking / spare);
  return parts.map((part, index) => {
    const [width, floor] = [widths[index] ?? 0, least[index] ?? 0];
    return { ...part, width: floor + Math.max(0, width - floor) * share };
  });
}
