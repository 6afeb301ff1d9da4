// Instants as people read them. Every function takes the zone and the present: nothing here looks at the clock.

const formatters = new Map<string, Intl.DateTimeFormat>();

function parts(at: number, zone: string): Record<string, string> {
  let formatter = formatters.get(zone);
  if (formatter === undefined) {
    formatter = new Intl.DateTimeFormat("en-GB", {
      day: "2-digit",
      hour: "2-digit",
      hourCycle: "h23",
      minute: "2-digit",
      month: "2-digit",
      second: "2-digit",
      timeZone: zone,
      year: "numeric",
    });
    formatters.set(zone, formatter);
  }
  return Object.fromEntries(formatter.formatToParts(at).map(({ type, value }) => [type, value]));
}

/** `2026-11-23` */
export function day(at: number, zone: string): string {
  const { day: date = "", month = "", year = "" } = parts(at, zone);
  return `${year.padStart(4, "0")}-${month}-${date}`;
}

/** `07:04:12` */
export function clock(at: number, zone: string): string {
  const { hour = "", minute = "", second = "" } = parts(at, zone);
  return `${hour}:${minute}:${second}`;
}

/** `2026-11-23 07:04:12` */
export function moment(at: number, zone: string): string {
  return `${day(at, zone)} ${clock(at, zone)}`;
}

/** `2026-11-23 06:04:12.345 UTC`: to the last digit, for whoever compares with a broker's statement. */
export function utc(at: number): string {
  return `${new Date(at).toISOString().replace("T", " ").replace("Z", "").replace(/\.000$/, "")} UTC`;
}

const STEPS = [
  { ms: 86_400_000, name: "day" },
  { ms: 3_600_000, name: "hour" },
  { ms: 60_000, name: "minute" },
] as const;

/** `a moment`, `3 minutes`, `2 hours`, `5 days`; rounded down. */
export function span(ms: number): string {
  for (const step of STEPS) {
    const count = Math.floor(ms / step.ms);
    if (count >= 1) return `${count} ${step.name}${count === 1 ? "" : "s"}`;
  }
  return "a moment";
}

/** `3 minutes ago` or `in 3 minutes`; `now` within a few seconds. */
export function relative(at: number, now: number): string {
  const ms = at - now;
  if (Math.abs(ms) < 5_000) return "now";
  return ms < 0 ? `${span(-ms)} ago` : `in ${span(ms)}`;
}

/** The first instant of a calendar day `2026-11-23` in a zone, however many hours that day has there. */
export function startOfDay(date: string, zone: string): number | null {
  const [year = NaN, month = NaN, dayOfMonth = NaN] = /^\d{4}-\d{2}-\d{2}$/.test(date) ? date.split("-").map(Number) : [];
  const noonUtc = Date.UTC(year, month - 1, dayOfMonth, 12);
  if (Number.isNaN(noonUtc) || new Date(noonUtc).getUTCDate() !== dayOfMonth) return null;
  // The offset differs by at most a day; the first instant that shows the date is the one.
  let [low, high] = [noonUtc - 30 * 3_600_000, noonUtc + 18 * 3_600_000];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (day(middle, zone) < date) low = middle + 1;
    else high = middle;
  }
  return day(low, zone) === date ? low : null;
}
