import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({
    author: v.string(),
    labels: v.optional(v.record(v.string(), v.number())),
    rank: v.optional(v.union(v.number(), v.null())),
    text: v.string(),
  })
    .index("by_author_and_rank", ["author", "rank"])
    .index("by_rank", ["rank"]),
  pulses: defineTable({ at: v.number() }),
});
