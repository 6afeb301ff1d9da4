// Takes the import out of the app's own table again, so that a schema without its fields can be pushed
// (docs/merge.md, part 5).
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation } from "../_generated/server";
import { countsForAnalytics } from "./rules/analytics";
import { importedTradeFields } from "./tables";

const BATCH = 500;

const FIELDS = Object.keys(importedTradeFields) as (keyof typeof importedTradeFields)[];
const NOTHING: Partial<Doc<"trades">> = Object.fromEntries(FIELDS.map((field) => [field, undefined]));

/**
 * Makes trades plain, oldest first and in steps: what counts in the figures stays, without the import's fields;
 * what does not is deleted, for without its flags it would count. Says what this step did; the rest follows by itself.
 */
export const plainTrades = internalMutation({
  args: { after: v.optional(v.number()) },
  handler: async (ctx, args): Promise<{ deleted: number; more: boolean; stripped: number }> => {
    const trades = await ctx.db
      .query("trades")
      .withIndex("by_creation_time", (q) => q.gt("_creationTime", args.after ?? 0))
      .take(BATCH);
    let deleted = 0;
    let stripped = 0;
    for (const trade of trades) {
      if (!countsForAnalytics(trade)) {
        await ctx.db.delete("trades", trade._id);
        deleted += 1;
      } else if (FIELDS.some((field) => trade[field] !== undefined)) {
        await ctx.db.patch("trades", trade._id, NOTHING);
        stripped += 1;
      }
    }
    const last = trades[BATCH - 1];
    if (last !== undefined) {
      await ctx.scheduler.runAfter(0, internal.tradeImport.removal.plainTrades, { after: last._creationTime });
    }
    return { deleted, more: last !== undefined, stripped };
  },
  returns: v.object({ deleted: v.number(), more: v.boolean(), stripped: v.number() }),
});
