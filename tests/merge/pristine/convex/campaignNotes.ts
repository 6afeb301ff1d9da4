import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const getNotesByCampaign = query({
  args: { campaignId: v.id("campaigns") },
  handler: async (ctx, args) =>
    await ctx.db
      .query("campaignNotes")
      .withIndex("by_campaignId", (q) => q.eq("campaignId", args.campaignId))
      .order("desc")
      .collect(),
  returns: v.array(
    v.object({
      _creationTime: v.number(),
      _id: v.id("campaignNotes"),
      campaignId: v.id("campaigns"),
      content: v.string(),
    }),
  ),
});

export const addNote = mutation({
  args: { campaignId: v.id("campaigns"), content: v.string() },
  handler: async (ctx, args) => {
    if ((await ctx.db.get("campaigns", args.campaignId)) === null) throw new Error("Campaign not found");
    return await ctx.db.insert("campaignNotes", args);
  },
  returns: v.id("campaignNotes"),
});

export const updateNote = mutation({
  args: { content: v.string(), noteId: v.id("campaignNotes") },
  handler: async (ctx, args) => {
    if ((await ctx.db.get("campaignNotes", args.noteId)) === null) throw new Error("Note not found");
    await ctx.db.patch("campaignNotes", args.noteId, { content: args.content });
    return null;
  },
  returns: v.null(),
});
