// The Import Inbox: imported trades wait here until their owner has decided about them.
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { ownConnection, ownExecution, ownImportedTrade, ownJob, userMutation, userQuery } from "./access";
import { voids } from "./cancels";
import { bringBack, dismiss as takeOut, takeAway, undismiss } from "./decisions";
import { notFound, refusal } from "./errors";
import { executionsIn, matches, rowOf, trades, vInboxRow, vRowStatus, type InboxRow } from "./inboxRows";
import { enterJournal, reviseAll } from "./ingestion";
import { refreshChanged } from "./planChanges";
import { settleNow } from "./positions";
import { asBefore, withDirection } from "./rules/corrections";
import { editLink } from "./rules/linkage";
import { materialise } from "./rules/materialise";
import { tickerOf } from "./rules/symbols";
import { viewsOf } from "./state";
import { refreshSuggestions as refreshRows } from "./suggestions";
import { TypedTrades } from "./twins";
import {
  vAssetClass,
  vDirection,
  vExecutionKind,
  vHeldReason,
  vImportFlag,
  vInboxStatus,
  vProvider,
  vSide,
} from "./validators";

const MAX_BULK = 200;

const MAX_NOTES = 10_000;

/** Counts stop here: «more than 1000» is as good as the number, and costs the same for ever. */
const MAX_COUNT = 1_000;

const filterArgs = {
  accountRef: v.optional(v.string()),
  from: v.optional(v.number()),
  provider: v.optional(vProvider),
  symbol: v.optional(v.string()),
  to: v.optional(v.number()),
};

/**
 * Newest first. `from` is inclusive, `to` exclusive. With several filters a page may hold fewer rows than
 * asked for, even none, before `isDone`: go on with `continueCursor`.
 */
export const list = userQuery({
  args: { ...filterArgs, paginationOpts: paginationOptsValidator, status: v.optional(vRowStatus) },
  handler: async (ctx, args) => {
    const status = args.status ?? "pending_review";
    const typed = new TypedTrades(ctx);
    if (status === "dismissed") {
      const found = await executionsIn(ctx, "dismissed", args).paginate(args.paginationOpts);
      const executions = found.page.filter((execution) =>
        matches(args, { ...execution, ticker: tickerOf(execution.symbol) }),
      );
      return { ...found, page: await Promise.all(executions.map((execution) => rowOf(ctx, execution, null, typed))) };
    }
    const found = await trades(ctx, status, args).paginate(args.paginationOpts);
    const rows: InboxRow[] = [];
    for (const trade of found.page) {
      const execution = trade.executionId && (await ctx.db.get("externalExecutions", trade.executionId));
      if (execution && matches(args, { ...execution, ticker: trade.ticker })) {
        rows.push(await rowOf(ctx, execution, trade, typed));
      }
    }
    return { ...found, page: rows };
  },
  returns: paginationResultValidator(vInboxRow),
});

const vHeldRow = v.object({
  accountRef: v.string(),
  assetClass: vAssetClass,
  connectionId: v.id("brokerageConnections"),
  executionId: v.id("externalExecutions"),
  externalExecutionId: v.union(v.string(), v.null()),
  heldReason: v.union(vHeldReason, v.null()),
  importJobId: v.id("importJobs"),
  kind: vExecutionKind,
  occurredAt: v.number(),
  price: v.string(),
  provider: vProvider,
  quantity: v.string(),
  rawPayload: v.string(),
  rawSymbol: v.string(),
  side: v.union(vSide, v.null()),
  symbol: v.string(),
});

/** Executions that are known but no trades, and cancels that wait for what they cancel; newest first. */
export const held = userQuery({
  args: { ...filterArgs, paginationOpts: paginationOptsValidator },
  handler: async (ctx, args) => {
    const found = await executionsIn(ctx, "held", args).paginate(args.paginationOpts);
    const executions = found.page.filter((execution) =>
      matches(args, { ...execution, ticker: tickerOf(execution.symbol) }),
    );
    return {
      ...found,
      page: executions.map((execution) => ({
        accountRef: execution.accountRef,
        assetClass: execution.assetClass,
        connectionId: execution.connectionId,
        executionId: execution._id,
        externalExecutionId: execution.externalExecutionId ?? null,
        heldReason: execution.heldReason ?? null,
        importJobId: execution.importJobId,
        kind: execution.kind,
        occurredAt: execution.occurredAt,
        price: execution.price,
        provider: execution.provider,
        quantity: execution.quantity,
        rawPayload: execution.rawPayload,
        rawSymbol: execution.rawSymbol,
        side: execution.side ?? null,
        symbol: execution.symbol,
      })),
    };
  },
  returns: paginationResultValidator(vHeldRow),
});

const vRejectRow = v.object({
  accountRef: v.union(v.string(), v.null()),
  connectionId: v.id("brokerageConnections"),
  externalExecutionId: v.union(v.string(), v.null()),
  importJobId: v.id("importJobs"),
  rawPayload: v.string(),
  reason: v.string(),
  rejectId: v.id("importRejects"),
  rejectedAt: v.number(),
  /** Since when it waits to be read again. */
  retryAt: v.union(v.number(), v.null()),
});

/** Rows that could not be read and still wait: of a job, of a connection (newest first), or all. */
export const rejects = userQuery({
  args: {
    connectionId: v.optional(v.id("brokerageConnections")),
    jobId: v.optional(v.id("importJobs")),
    paginationOpts: paginationOptsValidator,
  },
  handler: async (ctx, args) => {
    const connection = args.connectionId && (await ownConnection(ctx, args.connectionId));
    const job = args.jobId && (await ownJob(ctx, args.jobId));
    const found = await rejectsOf(ctx, connection, job).paginate(args.paginationOpts);
    const open = found.page.filter(
      ({ connectionId, resolvedAt }) =>
        resolvedAt === undefined && (connection === undefined || connectionId === connection._id),
    );
    return {
      ...found,
      page: open.map((reject) => ({
        accountRef: reject.accountRef ?? null,
        connectionId: reject.connectionId,
        externalExecutionId: reject.externalExecutionId ?? null,
        importJobId: reject.importJobId,
        rawPayload: reject.rawPayload,
        reason: reject.reason,
        rejectId: reject._id,
        rejectedAt: reject._creationTime,
        retryAt: reject.retryAt ?? null,
      })),
    };
  },
  returns: paginationResultValidator(vRejectRow),
});

function rejectsOf(
  ctx: QueryCtx & { ownerId: string },
  connection: Doc<"brokerageConnections"> | undefined,
  job: Doc<"importJobs"> | undefined,
) {
  const table = ctx.db.query("importRejects");
  if (job !== undefined) {
    return table.withIndex("by_importJobId", (q) => q.eq("importJobId", job._id)).order("desc");
  }
  if (connection !== undefined) {
    return table
      .withIndex("by_connectionId_and_resolvedAt_and_retryAt", (q) =>
        q.eq("connectionId", connection._id).eq("resolvedAt", undefined),
      )
      .order("desc");
  }
  return table
    .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
      q.eq("ownerId", ctx.ownerId).eq("resolvedAt", undefined),
    )
    .order("desc");
}

/** How much waits where. No number exceeds `limit`: read it as «at least». A smaller one costs less. */
export const counts = userQuery({
  args: { limit: v.optional(v.number()) },
  handler: async (ctx, args) => {
    const limit = Math.max(1, Math.min(MAX_COUNT, Math.floor(args.limit ?? MAX_COUNT)));
    const executions = async (state: "dismissed" | "held") => {
      const rows = await ctx.db
        .query("externalExecutions")
        .withIndex("by_ownerId_and_state_and_occurredAt", (q) => q.eq("ownerId", ctx.ownerId).eq("state", state))
        .take(limit);
      return rows.length;
    };
    const pending = await ctx.db
      .query("trades")
      .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
        q.eq("ownerId", ctx.ownerId).eq("inboxStatus", "pending_review"),
      )
      .take(limit);
    const open = await ctx.db
      .query("importRejects")
      .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
        q.eq("ownerId", ctx.ownerId).eq("resolvedAt", undefined),
      )
      .take(limit);
    return {
      dismissed: await executions("dismissed"),
      held: await executions("held"),
      limit,
      pendingReview: pending.length,
      rejects: open.length,
      suggested: pending.filter((trade) => trade.suggestedTradePlanId !== undefined).length,
    };
  },
  returns: v.object({
    dismissed: v.number(),
    held: v.number(),
    limit: v.number(),
    pendingReview: v.number(),
    rejects: v.number(),
    suggested: v.number(),
  }),
});

const vOrder = v.object({ accountRef: v.string(), externalOrderId: v.string(), provider: vProvider });

/**
 * Saves the decision about rows, or about all pending rows of an order, all or nothing. `null` clears a link or the
 * notes, absent keeps them. A campaign is for rows without a plan, because a plan brings its own. Any plan will do, a
 * closed one too, as for a trade that somebody types. `direction` puts a guessed one right.
 */
export const review = userMutation({
  args: {
    campaignId: v.optional(v.union(v.id("campaigns"), v.null())),
    direction: v.optional(vDirection),
    notes: v.optional(v.union(v.string(), v.null())),
    orderId: v.optional(vOrder),
    tradeIds: v.optional(v.array(v.id("trades"))),
    tradePlanId: v.optional(v.union(v.id("tradePlans"), v.null())),
  },
  handler: async (ctx, args) => {
    if ((args.orderId === undefined) === (args.tradeIds === undefined)) {
      throw refusal("invalid_argument", "Say either which rows or which order.");
    }
    checkNotes(args.notes);
    const rows =
      args.orderId === undefined
        ? await selected(args.tradeIds ?? [], (tradeId) => ownImportedTrade(ctx, tradeId))
        : await pendingOf(ctx, args.orderId);
    await checkLink(ctx, args);
    for (const trade of rows) {
      await ctx.db.patch("trades", trade._id, {
        ...linkAfter(trade, args),
        ...withDirection(trade, args.direction),
        ...(args.notes === undefined ? {} : { notes: args.notes ?? undefined }),
        inboxStatus: "reviewed",
      });
      if (args.direction !== undefined) await markGuess(ctx, trade, false);
    }
    await touchAll(ctx, rows);
    await refreshRows(ctx, ctx.ownerId, instruments(rows));
    return { reviewed: rows.length };
  },
  returns: v.object({ reviewed: v.number() }),
});

const vReopened = v.object({
  campaignId: v.union(v.id("campaigns"), v.null()),
  direction: vDirection,
  flags: v.array(vImportFlag),
  notes: v.union(v.string(), v.null()),
  status: vInboxStatus,
  tradeId: v.id("trades"),
  tradePlanId: v.union(v.id("tradePlans"), v.null()),
});

/**
 * Takes decisions back, all or nothing: each row is again as its user saw it before, in review or reviewed, as the
 * caller says it was. What the broker has said since stays.
 */
export const reopen = userMutation({
  args: { rows: v.array(vReopened) },
  handler: async (ctx, args) => {
    const before = new Map(args.rows.map((row) => [row.tradeId, row]));
    if (before.size < args.rows.length) throw refusal("invalid_argument", "A row is named twice.");
    const rows = await selected([...before.keys()], (tradeId) => ownImportedTrade(ctx, tradeId));
    for (const row of args.rows) checkNotes(row.notes);
    const plans = new Set(args.rows.map(({ tradePlanId }) => tradePlanId));
    for (const tradePlanId of plans) await checkLink(ctx, { tradePlanId });
    const campaigns = new Set(args.rows.map(({ campaignId }) => campaignId));
    for (const campaignId of campaigns) await checkLink(ctx, { campaignId });
    if (rows.some(({ inboxStatus }) => inboxStatus !== "reviewed")) {
      throw refusal("conflict", "A row is not reviewed any more, so nothing was undone. Look at the rows again.");
    }
    for (const trade of rows) {
      const was = before.get(trade._id);
      if (was === undefined) continue;
      await ctx.db.patch("trades", trade._id, {
        ...linkAfter(trade, was),
        ...asBefore(trade, was),
        inboxStatus: was.status,
        notes: was.notes ?? undefined,
      });
      await markGuess(ctx, trade, was.flags.includes("direction_guessed"));
    }
    await touchAll(ctx, rows);
    await refreshRows(ctx, ctx.ownerId, instruments(rows));
    return { reopened: rows.length };
  },
  returns: v.object({ reopened: v.number() }),
});

type Link = { campaignId?: Id<"campaigns"> | null; tradePlanId?: Id<"tradePlans"> | null };

async function checkLink(ctx: MutationCtx, { campaignId, tradePlanId }: Link): Promise<void> {
  if (tradePlanId && (await ctx.db.get("tradePlans", tradePlanId)) === null) throw notFound("Trade plan");
  if (campaignId && (await ctx.db.get("campaigns", campaignId)) === null) throw notFound("Campaign");
}

function linkAfter(trade: Doc<"trades">, edit: Link) {
  const link = editLink(trade, edit);
  if (link === "conflict") {
    throw refusal(
      "conflict",
      "A trade with a plan belongs to the plan's campaign. Choose a plan or a campaign, not both.",
    );
  }
  return link;
}

function checkNotes(notes: string | null | undefined): void {
  if ((notes ?? "").length > MAX_NOTES) {
    throw refusal("invalid_argument", `Notes hold at most ${MAX_NOTES} characters.`);
  }
}

/** What the row was derived from is a guess as the row is, or no later look at it says so again. */
async function markGuess(ctx: MutationCtx, trade: Doc<"trades">, isGuess: boolean): Promise<void> {
  const execution = trade.executionId && (await ctx.db.get("externalExecutions", trade.executionId));
  if (execution?.derived === undefined) return;
  const legs = execution.derived.legs.map((leg, index) => {
    if (index !== placeOf(trade)) return leg;
    const flags = leg.flags.filter((flag) => flag !== "direction_guessed");
    return { ...leg, flags: isGuess ? [...flags, "direction_guessed" as const] : flags };
  });
  await ctx.db.patch("externalExecutions", execution._id, { derived: { ...execution.derived, legs } });
}

function placeOf({ leg }: Doc<"trades">): number {
  return (leg ?? 1) - 1;
}

async function pendingOf(
  ctx: MutationCtx & { ownerId: string },
  { accountRef, externalOrderId, provider }: { accountRef: string; externalOrderId: string; provider: "ibkr" | "kraken" },
): Promise<Doc<"trades">[]> {
  const fills = await ctx.db
    .query("externalExecutions")
    .withIndex("by_owner_provider_account_orderId", (q) =>
      q
        .eq("ownerId", ctx.ownerId)
        .eq("provider", provider)
        .eq("accountRef", accountRef)
        .eq("externalOrderId", externalOrderId),
    )
    .take(MAX_BULK + 1);
  if (fills.length === 0) throw notFound("Order");
  if (fills.length > MAX_BULK) {
    throw refusal("invalid_argument", `The order has more than ${MAX_BULK} fills. Select its rows in parts.`);
  }
  const found = await Promise.all(
    fills.flatMap(({ tradeIds }) => tradeIds).map((tradeId) => ctx.db.get("trades", tradeId)),
  );
  return found.flatMap((trade) => (trade?.inboxStatus === "pending_review" ? trade : []));
}

/**
 * Reviews the pending rows that a filter shows, newest first, as trades without a plan: a few hundred a call. Go on with
 * `continueCursor` while there is `more`; rows that arrive meanwhile, however old, are not touched: nobody has seen them.
 */
export const reviewAllUnlinked = userMutation({
  args: { ...filterArgs, cursor: v.optional(v.union(v.string(), v.null())) },
  handler: async (ctx, { cursor = null, ...filters }) => {
    const place = cursor === null ? { after: null, seen: await newestTrade(ctx) } : placeIn(cursor);
    const found = await trades(ctx, "pending_review", filters).paginate({ cursor: place.after, numItems: MAX_BULK });
    const rows = found.page.filter(
      (trade) =>
        trade._creationTime <= place.seen &&
        matches(filters, {
          accountRef: trade.brokerAccountRef ?? "",
          provider: trade.source ?? "manual",
          ticker: trade.ticker,
        }),
    );
    for (const trade of rows) {
      await ctx.db.patch("trades", trade._id, {
        campaignId: undefined,
        inboxStatus: "reviewed",
        tradePlanId: undefined,
      });
    }
    await touchAll(ctx, rows);
    await refreshRows(ctx, ctx.ownerId, instruments(rows));
    const continueCursor = `${place.seen} ${found.continueCursor}`;
    return { continueCursor, more: !found.isDone, reviewed: rows.length };
  },
  returns: v.object({ continueCursor: v.string(), more: v.boolean(), reviewed: v.number() }),
});

/** When the last trade of all was stored. */
async function newestTrade(ctx: QueryCtx): Promise<number> {
  return (await ctx.db.query("trades").order("desc").first())?._creationTime ?? 0;
}

/** Where the calls before stopped, and what was stored when they began. */
function placeIn(cursor: string): { after: string; seen: number } {
  const [seen = "", ...after] = cursor.split(" ");
  if (after.length === 0 || !Number.isFinite(Number(seen))) throw refusal("invalid_argument", "This is no cursor of these calls.");
  return { after: after.join(" "), seen: Number(seen) };
}

/**
 * The user has seen what the broker changed. A cancelled row leaves the journal with that, where it counted in no figure;
 * should the broker book it again, it comes back as it was decided. Of a reversal that a correction made a single trade,
 * the leg that is no more leaves alone.
 */
export const acknowledge = userMutation({
  args: { tradeIds: v.array(v.id("trades")) },
  handler: async (ctx, args) => {
    const rows = await selected(args.tradeIds, (tradeId) => ownImportedTrade(ctx, tradeId));
    const cancelled = new Set<Doc<"externalExecutions">["_id"]>();
    for (const trade of rows) {
      const flags = trade.importFlags ?? [];
      await ctx.db.patch("trades", trade._id, { importFlags: flags.filter((flag) => flag !== "changed_by_broker") });
      if (flags.includes("voided_by_broker") && trade.executionId !== undefined) cancelled.add(trade.executionId);
    }
    let dismissed = 0;
    for (const executionId of cancelled) {
      const execution = await ownExecution(ctx, executionId);
      if (execution.state === "voided") {
        const decisions = await takeAway(ctx, execution);
        await ctx.db.patch("externalExecutions", executionId, { decisions, state: "dismissed", tradeIds: [] });
        dismissed += 1;
      } else {
        await dropEndedLegs(ctx, execution, rows);
      }
    }
    return { acknowledged: rows.length, dismissed };
  },
  returns: v.object({ acknowledged: v.number(), dismissed: v.number() }),
});

/** The other leg is a trade as before: the execution was corrected, not cancelled. */
async function dropEndedLegs(ctx: MutationCtx, execution: Doc<"externalExecutions">, seen: Doc<"trades">[]): Promise<void> {
  const ended = seen.filter(
    ({ executionId, importFlags }) => executionId === execution._id && importFlags?.includes("voided_by_broker") === true,
  );
  for (const { _id } of ended) await ctx.db.delete("trades", _id);
  const tradeIds = execution.tradeIds.filter((tradeId) => !ended.some(({ _id }) => _id === tradeId));
  await ctx.db.patch("externalExecutions", execution._id, { tradeIds });
}

/**
 * Takes rows out of the journal until their owner restores them. The execution stays as a tombstone, so no sync brings
 * them back.
 */
export const dismiss = userMutation({
  args: { tradeIds: v.array(v.id("trades")) },
  handler: async (ctx, args) => {
    const rows = await selected(args.tradeIds, (tradeId) => ownImportedTrade(ctx, tradeId));
    const executions: Doc<"externalExecutions">[] = [];
    for (const executionId of new Set(rows.flatMap((row) => row.executionId ?? []))) {
      const execution = await ownExecution(ctx, executionId);
      await takeOut(ctx, execution);
      executions.push(execution);
    }
    await settleNow(ctx, executions);
    await refreshRows(ctx, ctx.ownerId, instruments(rows));
    return { dismissed: executions.length };
  },
  returns: v.object({ dismissed: v.number() }),
});

/**
 * Brings dismissed rows back as they were decided, but for links to what is gone; what the broker has said since is then
 * news as for any other row.
 */
export const restore = userMutation({
  args: { executionIds: v.array(v.id("externalExecutions")) },
  handler: async (ctx, args) => {
    const executions = await selected(args.executionIds, (executionId) => ownExecution(ctx, executionId));
    const restored = executions.filter(({ state }) => state === "dismissed");
    const touched: { assetType: "crypto" | "stock"; ticker: string }[] = [];
    for (const execution of restored) touched.push(...(await putBack(ctx, execution)));
    await settleNow(ctx, restored);
    await refreshRows(ctx, ctx.ownerId, instruments(touched));
    return { restored: restored.length };
  },
  returns: v.object({ restored: v.number() }),
});

/** Returns the instruments of which the suggestions may have changed. */
async function putBack(ctx: MutationCtx, execution: Doc<"externalExecutions">) {
  const { decisions, dismissal } = execution;
  if (decisions === undefined && dismissal === undefined) return await enterJournal(ctx, execution);
  const { place } = materialise(execution);
  const touched: { assetType: "crypto" | "stock"; ticker: string }[] = place === null ? [] : [place];
  if (dismissal === undefined) {
    await voids(ctx, execution, viewsOf(execution));
    await bringBack(ctx, execution, execution.importJobId);
  } else {
    touched.push(...(await reviseAll(ctx, [await undismiss(ctx, execution, dismissal)])));
  }
  return touched;
}

/**
 * Brings suggestions in step with the plans that are open now. Cheap where no plan has changed since: the page calls it
 * whenever its list of plans changes.
 */
export const refreshSuggestions = userMutation({
  args: {},
  handler: async (ctx) => ({ refreshed: await refreshChanged(ctx, ctx.ownerId) }),
  returns: v.object({ refreshed: v.boolean() }),
});

/** The documents of a bulk call, each once; the first that is not the caller's ends it. */
async function selected<TheId, Document>(ids: TheId[], read: (id: TheId) => Promise<Document>): Promise<Document[]> {
  const distinct = [...new Set(ids)];
  if (distinct.length === 0) throw refusal("invalid_argument", "No row is selected.");
  if (distinct.length > MAX_BULK) {
    throw refusal("invalid_argument", `At most ${MAX_BULK} rows at once. Select fewer and repeat.`);
  }
  return await Promise.all(distinct.map(read));
}

/** Reviewed rows count from now on. */
async function touchAll(ctx: MutationCtx, rows: Doc<"trades">[]): Promise<void> {
  const executionIds = new Set(rows.flatMap(({ executionId }) => executionId ?? []));
  const executions = await Promise.all([...executionIds].map((id) => ctx.db.get("externalExecutions", id)));
  await settleNow(
    ctx,
    executions.flatMap((execution) => execution ?? []),
  );
}

function instruments<Row extends { assetType: "crypto" | "stock"; ticker: string }>(rows: Row[]): Row[] {
  return [...new Map(rows.map((row) => [row.ticker, row])).values()];
}
