import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalAction } from "./_generated/server";

export const post = internalAction({
  args: { url: v.string(), body: v.string() },
  handler: async (ctx, { url, body }) => {
    const response = await fetch(url, { method: "POST", body });
    await ctx.runMutation(internal.notes.addScheduled, { text: await response.text() });
  },
});
