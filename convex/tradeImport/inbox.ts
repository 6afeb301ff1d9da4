// The Import Inbox: imported trades wait here until their owner has decided about them.
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v, type Infer } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { ownExecution, ownImportedTrade, userMutation, userQuery } from "./access";
import { voids } from "./cancels";
import { notFound, refusal } from "./errors";
import { insertTrades } from "./ingestion";
import { editLink } from "./rules/linkage";
import { materialise, type TradeFacts } from "./rules/materialise";
import { tickerOf } from "./rules/symbols";
import { earlierRevisions } from "./rules/views";
import { viewsOf } from "./state";
import { refreshSuggestions } from "./suggestions";
import {
  vAssetClass,
  vExecutionFlag,
  vImportFlag,
  vProvider,
  vSide,
  vSource,
  vSuggestionReason,
} from "./validators";

const MAX_BULK = 200;

/** Counts stop here: «more than 1000» is as good as the number, and costs the same for ever. */
const MAX_COUNT = 1_000;

const vRowStatus = v.union(v.literal("pending_review"), v.literal("reviewed"), v.literal("dismissed"));

const vPlanRef = v.object({ name: v.string(), tradePlanId: v.id("tradePlans") });

/** What the execution was before the broker corrected it. */
const vEarlierRevision = v.object({
  fee: v.string(),
  occurredAt: v.number(),
  price: v.string(),
  quantity: v.string(),
  revision: v.number(),
  side: v.union(vSide, v.null()),
  source: vSource,
});

const vInboxRow = v.object({
  accountRef: v.string(),
  assetClass: vAssetClass,
  /** The plan's campaign, or the trade's own where it has no plan. */
  campaign: v.union(
    v.object({ campaignId: v.id("campaigns"), derived: v.boolean(), name: v.string() }),
    v.null(),
  ),
  currency: v.union(v.string(), v.null()),
  direction: v.union(v.literal("long"), v.literal("short"), v.null()),
  executionFlags: v.array(vExecutionFlag),
  executionId: v.id("externalExecutions"),
  externalExecutionId: v.union(v.string(), v.null()),
  externalOrderId: v.union(v.string(), v.null()),
  fee: v.string(),
  feeCurrency: v.union(v.string(), v.null()),
  flags: v.array(vImportFlag),
  /** Oldest first. */
  history: v.array(vEarlierRevision),
  importJobId: v.id("importJobs"),
  leg: v.union(v.number(), v.null()),
  notes: v.union(v.string(), v.null()),
  occurredAt: v.number(),
  plan: v.union(vPlanRef, v.null()),
  price: v.string(),
  provider: vProvider,
  quantity: v.string(),
  rawSymbol: v.string(),
  side: v.union(vSide, v.null()),
  source: vSource,
  status: vRowStatus,
  suggestion: v.union(vPlanRef, v.null()),
  suggestionReason: vSuggestionReason,
  symbol: v.string(),
  /** Null for a dismissed row: it has no trade. */
  tradeId: v.union(v.id("trades"), v.null()),
});
type InboxRow = Infer<typeof vInboxRow>;

type Filters = {
  accountRef?: string;
  from?: number;
  provider?: "ibkr" | "kraken";
  symbol?: string;
  to?: number;
};

/**
 * Newest first. `from` is inclusive, `to` exclusive. With several filters a page may hold fewer rows than
 * asked for, even none, before `isDone`: go on with `continueCursor`.
 */
export const list = userQuery({
  args: {
    accountRef: v.optional(v.string()),
    from: v.optional(v.number()),
    paginationOpts: paginationOptsValidator,
    provider: v.optional(vProvider),
    status: v.optional(vRowStatus),
    symbol: v.optional(v.string()),
    to: v.optional(v.number()),
  },
  handler: async (ctx, args) => {
    const status = args.status ?? "pending_review";
    if (status === "dismissed") {
      const found = await dismissedExecutions(ctx, args).paginate(args.paginationOpts);
      const executions = found.page.filter((execution) =>
        matches(args, { ...execution, ticker: tickerOf(execution.symbol) }),
      );
      return { ...found, page: await Promise.all(executions.map((execution) => rowOf(ctx, execution, null))) };
    }
    const found = await trades(ctx, status, args).paginate(args.paginationOpts);
    const rows: InboxRow[] = [];
    for (const trade of found.page) {
      const execution = trade.executionId && (await ctx.db.get("externalExecutions", trade.executionId));
      if (execution && matches(args, { ...execution, ticker: trade.ticker })) {
        rows.push(await rowOf(ctx, execution, trade));
      }
    }
    return { ...found, page: rows };
  },
  returns: paginationResultValidator(vInboxRow),
});

/** Each main filter has its index; where several are given, the narrowest one leads. */
function trades(ctx: QueryCtx & { ownerId: string }, status: "pending_review" | "reviewed", filters: Filters) {
  const { accountRef, provider, symbol } = filters;
  const from = filters.from ?? -Infinity;
  const to = filters.to ?? Infinity;
  const table = ctx.db.query("trades");
  if (symbol !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("ticker", tickerOf(symbol))
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  if (accountRef !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_brokerAccountRef_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("brokerAccountRef", accountRef)
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  if (provider !== undefined) {
    return table
      .withIndex("by_ownerId_and_inboxStatus_and_source_and_date", (q) =>
        q
          .eq("ownerId", ctx.ownerId)
          .eq("inboxStatus", status)
          .eq("source", provider)
          .gte("date", from)
          .lt("date", to),
      )
      .order("desc");
  }
  return table
    .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
      q.eq("ownerId", ctx.ownerId).eq("inboxStatus", status).gte("date", from).lt("date", to),
    )
    .order("desc");
}

function dismissedExecutions(ctx: QueryCtx & { ownerId: string }, filters: Filters) {
  return ctx.db
    .query("externalExecutions")
    .withIndex("by_ownerId_and_state_and_occurredAt", (q) =>
      q
        .eq("ownerId", ctx.ownerId)
        .eq("state", "dismissed")
        .gte("occurredAt", filters.from ?? -Infinity)
        .lt("occurredAt", filters.to ?? Infinity),
    )
    .order("desc");
}

function matches(filters: Filters, row: { accountRef: string; provider: string; ticker: string }): boolean {
  return (
    (filters.accountRef === undefined || filters.accountRef === row.accountRef) &&
    (filters.provider === undefined || filters.provider === row.provider) &&
    (filters.symbol === undefined || tickerOf(filters.symbol) === row.ticker)
  );
}

async function rowOf(
  ctx: QueryCtx,
  execution: Doc<"externalExecutions">,
  trade: Doc<"trades"> | null,
): Promise<InboxRow> {
  const plan = trade?.tradePlanId ? await ctx.db.get("tradePlans", trade.tradePlanId) : null;
  const suggestion = trade?.suggestedTradePlanId
    ? await ctx.db.get("tradePlans", trade.suggestedTradePlanId)
    : null;
  const campaignId = trade?.tradePlanId === undefined ? trade?.campaignId : plan?.campaignId;
  const campaign = campaignId ? await ctx.db.get("campaigns", campaignId) : null;
  return {
    accountRef: execution.accountRef,
    assetClass: execution.assetClass,
    campaign: campaign && { campaignId: campaign._id, derived: plan !== null, name: campaign.name },
    currency: execution.currency ?? null,
    direction: trade?.direction ?? null,
    executionFlags: execution.flags,
    executionId: execution._id,
    externalExecutionId: execution.externalExecutionId ?? null,
    externalOrderId: execution.externalOrderId ?? null,
    fee: execution.fee,
    feeCurrency: execution.feeCurrency ?? null,
    flags: trade?.importFlags ?? [],
    history: historyOf(execution),
    importJobId: execution.importJobId,
    leg: trade?.leg ?? null,
    notes: trade?.notes ?? null,
    occurredAt: execution.occurredAt,
    plan: planRef(plan),
    price: execution.price,
    provider: execution.provider,
    quantity: execution.quantity,
    rawSymbol: execution.rawSymbol,
    side: execution.side ?? null,
    source: execution.source,
    status: trade === null ? "dismissed" : (trade.inboxStatus ?? "reviewed"),
    suggestion: planRef(suggestion),
    suggestionReason: trade?.suggestionReason ?? "none",
    symbol: execution.symbol,
    tradeId: trade?._id ?? null,
  };
}

function historyOf(execution: Doc<"externalExecutions">): Infer<typeof vEarlierRevision>[] {
  return earlierRevisions(viewsOf(execution)).map((earlier) => ({
    fee: earlier.fee,
    occurredAt: earlier.occurredAt,
    price: earlier.price,
    quantity: earlier.quantity,
    revision: earlier.revision,
    side: earlier.side ?? null,
    source: earlier.source,
  }));
}

function planRef(plan: Doc<"tradePlans"> | null) {
  return plan && { name: plan.name, tradePlanId: plan._id };
}

/** How much waits where. No number exceeds `limit`: read it as «at least». */
export const counts = userQuery({
  args: {},
  handler: async (ctx) => {
    const executions = async (state: "dismissed" | "held") => {
      const rows = await ctx.db
        .query("externalExecutions")
        .withIndex("by_ownerId_and_state_and_occurredAt", (q) => q.eq("ownerId", ctx.ownerId).eq("state", state))
        .take(MAX_COUNT);
      return rows.length;
    };
    const pending = await ctx.db
      .query("trades")
      .withIndex("by_ownerId_and_inboxStatus_and_date", (q) =>
        q.eq("ownerId", ctx.ownerId).eq("inboxStatus", "pending_review"),
      )
      .take(MAX_COUNT);
    const rejects = await ctx.db
      .query("importRejects")
      .withIndex("by_ownerId_and_resolvedAt_and_externalExecutionId", (q) =>
        q.eq("ownerId", ctx.ownerId).eq("resolvedAt", undefined),
      )
      .take(MAX_COUNT);
    return {
      dismissed: await executions("dismissed"),
      held: await executions("held"),
      limit: MAX_COUNT,
      pendingReview: pending.length,
      rejects: rejects.length,
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

/**
 * Saves the decision about one row or many, all or nothing. `null` clears a link, absent keeps it; a
 * campaign is for rows without a plan, because a plan brings its own.
 */
export const review = userMutation({
  args: {
    campaignId: v.optional(v.union(v.id("campaigns"), v.null())),
    tradeIds: v.array(v.id("trades")),
    tradePlanId: v.optional(v.union(v.id("tradePlans"), v.null())),
  },
  handler: async (ctx, args) => {
    const rows = await selected(args.tradeIds, (tradeId) => ownImportedTrade(ctx, tradeId));
    if (args.tradePlanId && (await ctx.db.get("tradePlans", args.tradePlanId)) === null) throw notFound("Trade plan");
    if (args.campaignId && (await ctx.db.get("campaigns", args.campaignId)) === null) throw notFound("Campaign");
    for (const trade of rows) {
      const link = editLink(trade, args);
      if (link === "conflict") {
        throw refusal(
          "conflict",
          "A trade with a plan belongs to the plan's campaign. Choose a plan or a campaign, not both.",
        );
      }
      await ctx.db.patch("trades", trade._id, {
        ...link,
        inboxStatus: "reviewed",
      });
    }
    await refreshSuggestions(ctx, ctx.ownerId, instruments(rows));
    return { reviewed: rows.length };
  },
  returns: v.object({ reviewed: v.number() }),
});

/** Takes rows out of the journal for good. The execution stays as a tombstone, so no sync brings them back. */
export const dismiss = userMutation({
  args: { tradeIds: v.array(v.id("trades")) },
  handler: async (ctx, args) => {
    const rows = await selected(args.tradeIds, (tradeId) => ownImportedTrade(ctx, tradeId));
    const executionIds = new Set(rows.flatMap(({ executionId }) => executionId ?? []));
    for (const executionId of executionIds) {
      const execution = await ownExecution(ctx, executionId);
      for (const tradeId of execution.tradeIds) await deleteTrade(ctx, tradeId);
      await ctx.db.patch("externalExecutions", executionId, { state: "dismissed", tradeIds: [] });
    }
    await refreshSuggestions(ctx, ctx.ownerId, instruments(rows));
    return { dismissed: executionIds.size };
  },
  returns: v.object({ dismissed: v.number() }),
});

/** Brings dismissed rows back, to be reviewed. */
export const restore = userMutation({
  args: { executionIds: v.array(v.id("externalExecutions")) },
  handler: async (ctx, args) => {
    const executions = await selected(args.executionIds, (executionId) => ownExecution(ctx, executionId));
    const restored = executions.filter(({ state }) => state === "dismissed");
    const trades: TradeFacts[] = [];
    for (const execution of restored) {
      const { _id: executionId, importJobId, ownerId } = execution;
      const made = materialise(execution);
      const voided = await voids(ctx, execution, viewsOf(execution));
      if (made.trades === null) {
        const state = voided ? "voided" : "held";
        await ctx.db.patch("externalExecutions", executionId, { heldReason: made.heldReason, state });
      } else {
        await insertTrades(ctx, { executionId, importJobId, ownerId }, made.trades, voided);
        trades.push(...made.trades);
      }
    }
    await refreshSuggestions(ctx, ctx.ownerId, instruments(trades));
    return { restored: restored.length };
  },
  returns: v.object({ restored: v.number() }),
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

async function deleteTrade(ctx: MutationCtx, tradeId: Id<"trades">): Promise<void> {
  if ((await ctx.db.get("trades", tradeId)) !== null) await ctx.db.delete("trades", tradeId);
}

function instruments<Row extends { assetType: "crypto" | "stock"; ticker: string }>(rows: Row[]): Row[] {
  return [...new Map(rows.map((row) => [row.ticker, row])).values()];
}
