// The regular chores, for the app's own list of them: `registerTradeImportCrons(crons)` in its crons.ts.
import type { Crons } from "convex/server";
import { internal } from "../_generated/api";

export function registerTradeImportCrons(crons: Crons): void {
  crons.interval("trade import: every minute", { minutes: 1 }, internal.tradeImport.maintenance.everyMinute, {});
  crons.interval("trade import: every hour", { hours: 1 }, internal.tradeImport.maintenance.everyHour, {});
}
