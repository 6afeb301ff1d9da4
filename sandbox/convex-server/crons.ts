// The jobs of convex/crons.ts: on time with --crons, or one by one on request.
import type { Engine } from "./engine";

interface CronJob {
  readonly name: string;
  readonly args: unknown[];
  readonly schedule: Schedule;
}

type Schedule =
  | { type: "interval"; seconds?: number; minutes?: number; hours?: number }
  | { type: "hourly"; minuteUTC?: number }
  | { type: "daily"; hourUTC: number; minuteUTC: number }
  | { type: "weekly"; dayOfWeek: string; hourUTC: number; minuteUTC: number }
  | { type: "monthly"; day: number; hourUTC: number; minuteUTC: number }
  | { type: "cron"; cron: string };

const MINUTE = 60_000;
const DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

export class CronTable {
  private readonly jobs: ReadonlyMap<string, CronJob>;
  private readonly running = new Set<string>();

  constructor(private readonly engine: Engine) {
    const { crons } = (engine.crons ?? { crons: {} }) as { crons: Record<string, CronJob> };
    this.jobs = new Map(Object.entries(crons));
  }

  start(): void {
    for (const [name, job] of this.jobs) this.plan(name, job);
  }

  async runNow(name: string): Promise<void> {
    const job = this.jobs.get(name);
    if (job === undefined) throw new Error(`crons.ts has no job named ${name}.`);
    const outcome = await this.engine.runInternal(job.name, job.args[0]);
    if (!outcome.ok) process.stderr.write(`cron ${name}: ${outcome.message}\n`);
  }

  private plan(name: string, job: CronJob): void {
    const now = this.engine.now();
    this.engine.schedule(() => {
      this.plan(name, job);
      // Two runs of one job never overlap; a late one is left out (reference convex 5.2).
      if (this.running.has(name)) return;
      this.running.add(name);
      void this.runNow(name).finally(() => this.running.delete(name));
    }, nextRun(job.schedule, now) - now);
  }
}

export function nextRun(schedule: Schedule, now: number): number {
  if (schedule.type === "interval") {
    const { seconds = 0, minutes = 0, hours = 0 } = schedule;
    return now + 1_000 * seconds + MINUTE * (minutes + 60 * hours);
  }
  const due = matcher(schedule);
  const limit = now + 5 * 366 * 24 * 60 * MINUTE;
  for (let at = (Math.floor(now / MINUTE) + 1) * MINUTE; at < limit; at += MINUTE) {
    if (due(new Date(at))) return at;
  }
  throw new Error(`A schedule that never comes: ${JSON.stringify(schedule)}`);
}

function matcher(schedule: Exclude<Schedule, { type: "interval" }>): (at: Date) => boolean {
  switch (schedule.type) {
    case "hourly":
      return (at) => at.getUTCMinutes() === (schedule.minuteUTC ?? 0);
    case "daily":
      return (at) => at.getUTCHours() === schedule.hourUTC && at.getUTCMinutes() === schedule.minuteUTC;
    case "weekly":
      return (at) =>
        DAYS[at.getUTCDay()] === schedule.dayOfWeek &&
        at.getUTCHours() === schedule.hourUTC &&
        at.getUTCMinutes() === schedule.minuteUTC;
    case "monthly":
      return (at) =>
        at.getUTCDate() === schedule.day &&
        at.getUTCHours() === schedule.hourUTC &&
        at.getUTCMinutes() === schedule.minuteUTC;
    case "cron":
      return cronMatcher(schedule.cron);
  }
}

/** Five fields: minute, hour, day of month, month, day of week; `*`, lists, ranges and steps. */
function cronMatcher(text: string): (at: Date) => boolean {
  const [minute, hour, date, month, day] = text.trim().split(/\s+/).map(fieldMatcher);
  if (minute === undefined || hour === undefined || date === undefined || month === undefined || day === undefined) {
    throw new Error(`"${text}" is not a cron schedule of five fields.`);
  }
  const [, , dateText, , dayText] = text.trim().split(/\s+/);
  // Where both days are restricted, either is enough.
  const either = dateText !== "*" && dayText !== "*";
  return (at) => {
    const onDate = date(at.getUTCDate());
    const onDay = day(at.getUTCDay()) || (at.getUTCDay() === 0 && day(7));
    return (
      minute(at.getUTCMinutes()) &&
      hour(at.getUTCHours()) &&
      month(at.getUTCMonth() + 1) &&
      (either ? onDate || onDay : onDate && onDay)
    );
  };
}

function fieldMatcher(field: string): (value: number) => boolean {
  const parts = field.split(",").map((part) => {
    const match = /^(?:\*|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part);
    if (match === null) throw new Error(`"${field}" is not a field of a cron schedule.`);
    const [, from, to, step] = match;
    const low = Number(from ?? 0);
    const high = from === undefined || (to === undefined && step !== undefined) ? 99 : Number(to ?? from);
    return (value: number) => value >= low && value <= high && (value - low) % Number(step ?? 1) === 0;
  });
  return (value) => parts.some((part) => part(value));
}
