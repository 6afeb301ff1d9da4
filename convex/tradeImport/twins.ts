// Looks for trades that somebody typed before the import brought them.
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { DAY_MS, dayOf, isTwin } from "./rules/twins";

/** Typed trades of one day that are looked at; nobody types more. */
const MAX_A_DAY = 100;

/** Shown for one row. */
const MAX_TWINS = 5;

/** One reader for a page of rows: each day is read once, however many rows fall on it. */
export class TypedTrades {
  private readonly days = new Map<number, Promise<Doc<"trades">[]>>();

  constructor(private readonly ctx: QueryCtx) {}

  async twinsOf(trade: Doc<"trades">): Promise<Doc<"trades">[]> {
    const day = dayOf(trade.date);
    const typed = await Promise.all([day - 1, day, day + 1].map((each) => this.on(each)));
    return typed
      .flat()
      .filter((each) => isTwin(trade, each))
      .slice(0, MAX_TWINS);
  }

  private async on(day: number): Promise<Doc<"trades">[]> {
    let typed = this.days.get(day);
    if (typed === undefined) {
      typed = this.ctx.db
        .query("trades")
        .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
          q
            .eq("ownerId", undefined)
            .eq("inboxStatus", undefined)
            .gte("date", day * DAY_MS)
            .lt("date", (day + 1) * DAY_MS),
        )
        .take(MAX_A_DAY);
      this.days.set(day, typed);
    }
    return await typed;
  }
}
