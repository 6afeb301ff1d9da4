import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalMutation, internalQuery, mutation, query } from "./_generated/server";

export const add = mutation({
  args: {
    author: v.string(),
    labels: v.optional(v.record(v.string(), v.number())),
    rank: v.optional(v.number()),
    text: v.string(),
  },
  returns: v.id("notes"),
  handler: (ctx, args) => ctx.db.insert("notes", args),
});

export const addMany = mutation({
  args: { author: v.string(), texts: v.array(v.string()) },
  returns: v.number(),
  handler: async (ctx, { author, texts }) => {
    for (const text of texts) await ctx.db.insert("notes", { author, text });
    return texts.length;
  },
});

export const byAuthor = query({
  args: { author: v.string() },
  returns: v.array(v.string()),
  handler: async (ctx, { author }) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_author_and_rank", (q) => q.eq("author", author))
      .take(1000);
    return notes.map((note) => note.text);
  },
});

export const topTwo = query({
  args: {},
  handler: async (ctx) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_rank", (q) => q.gt("rank", 0))
      .order("desc")
      .take(2);
    return notes.map((note) => note.text);
  },
});

export const page = query({
  args: { author: v.string(), paginationOpts: paginationOptsValidator },
  handler: (ctx, { author, paginationOpts }) =>
    ctx.db
      .query("notes")
      .withIndex("by_author_and_rank", (q) => q.eq("author", author))
      .paginate(paginationOpts),
});

export const byLabelledDefault = query({
  args: {},
  handler: async (ctx) => {
    const notes = await ctx.db.query("notes").order("desc").take(1);
    return notes[0]?.labels ?? null;
  },
});

export const echo = query({ args: { value: v.any() }, handler: (_ctx, { value }) => value as unknown });

export const fail = mutation({
  args: { data: v.any() },
  handler: async (ctx, { data }) => {
    await ctx.db.insert("notes", { author: "fail", text: "must not stay" });
    throw new ConvexError(data as string);
  },
});

export const crash = query({
  args: {},
  handler: (): never => {
    throw new Error("a secret detail");
  },
});

/** Writes, then returns what its validator forbids. */
export const lies = mutation({
  args: {},
  returns: v.string(),
  handler: async (ctx) => {
    await ctx.db.insert("notes", { author: "lies", text: "must not stay" });
    return 1 as unknown as string;
  },
});

export const whoAmI = query({
  args: {},
  handler: async (ctx) => {
    const identity = await ctx.auth.getUserIdentity();
    return identity === null ? null : { ...identity };
  },
});

export const onlyForUsers = query({
  args: {},
  handler: async (ctx) => {
    const identity = await ctx.auth.getUserIdentity();
    if (identity === null) throw new ConvexError({ code: "not_authenticated" });
    return identity.subject;
  },
});

export const pulse = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("pulses", { at: Date.now() });
  },
});

export const pulses = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("pulses").take(1000)).map(({ at }) => at),
});

export const hidden = internalQuery({ args: {}, handler: () => "for the server only" });

export const addLater = mutation({
  args: { text: v.string(), afterMs: v.number() },
  handler: async (ctx, { text, afterMs }) => {
    await ctx.scheduler.runAfter(afterMs, internal.notes.addScheduled, { text });
  },
});

export const addScheduled = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const identity = await ctx.auth.getUserIdentity();
    await ctx.db.insert("notes", { author: identity?.subject ?? "scheduler", text });
  },
});

export const postLater = mutation({
  args: { url: v.string(), body: v.string() },
  handler: async (ctx, args) => {
    await ctx.scheduler.runAfter(0, internal.deliver.post, args);
  },
});

export const environment = action({
  args: {},
  handler: () => ({ env: { ...process.env }, now: Date.now() }),
});

export const shout = action({
  args: { text: v.string() },
  handler: (_ctx, { text }) => text.toUpperCase(),
});

/** As an import does it: several look-ups and writes for each row. */
export const ingest = mutation({
  args: { author: v.string(), first: v.number(), rows: v.number() },
  returns: v.number(),
  handler: async (ctx, { author, first, rows }) => {
    let inserted = 0;
    for (let rank = first; rank < first + rows; rank++) {
      const known = await ctx.db
        .query("notes")
        .withIndex("by_author_and_rank", (q) => q.eq("author", author).eq("rank", rank))
        .unique();
      const before = await ctx.db
        .query("notes")
        .withIndex("by_author_and_rank", (q) => q.eq("author", author).lt("rank", rank))
        .order("desc")
        .first();
      const after = await ctx.db
        .query("notes")
        .withIndex("by_author_and_rank", (q) => q.eq("author", author).gt("rank", rank))
        .first();
      const elsewhere = await ctx.db
        .query("notes")
        .withIndex("by_rank", (q) => q.eq("rank", rank))
        .first();
      const pulsing = await ctx.db.query("pulses").order("desc").first();
      if (known !== null) continue;
      const text = [before, after, elsewhere, pulsing].filter((found) => found !== null).length;
      const id = await ctx.db.insert("notes", { author, rank, text: String(text) });
      await ctx.db.patch("notes", id, { labels: { found: text } });
      await ctx.db.insert("pulses", { at: rank });
      inserted += 1;
    }
    return inserted;
  },
});
