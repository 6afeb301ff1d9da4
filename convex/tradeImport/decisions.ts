// Trades that leave the journal with what their user decided about them, and that may come back with it.
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import type { Decision } from "./validators";

type Stored = Doc<"externalExecutions">;

/** The trades of an execution that somebody has not deleted, in the order of their legs. */
export async function tradesOf(ctx: MutationCtx, execution: Stored): Promise<Doc<"trades">[]> {
  const trades = await Promise.all(execution.tradeIds.map((tradeId) => ctx.db.get("trades", tradeId)));
  return trades.flatMap((trade) => trade ?? []);
}

/** Deletes the trades of an execution; returns them as decisions. */
export async function takeAway(ctx: MutationCtx, execution: Stored): Promise<Decision[]> {
  const trades = await tradesOf(ctx, execution);
  for (const trade of trades) await ctx.db.delete("trades", trade._id);
  return trades.map(decisionOf);
}

/**
 * Puts the trades of an execution back as they were when they were taken away, each with a link that still leads
 * somewhere. Returns the execution as it is then: in the state it had, so that what is said of it next is news to it.
 */
export async function bringBack(ctx: MutationCtx, execution: Stored, importJobId: Id<"importJobs">): Promise<Stored> {
  const decisions = execution.decisions ?? [];
  const tradeIds: Id<"trades">[] = [];
  for (const decision of decisions) {
    tradeIds.push(
      await ctx.db.insert("trades", {
        ...decision,
        ...(await linkOf(ctx, decision)),
        brokerAccountRef: execution.accountRef,
        currency: execution.currency,
        executionId: execution._id,
        externalExecutionId: execution.externalExecutionId,
        externalOrderId: execution.externalOrderId,
        feeCurrency: execution.feeCurrency,
        importJobId,
        ownerId: execution.ownerId,
        source: execution.provider,
        suggestionReason: "none",
      }),
    );
  }
  const isVoided = decisions.some(({ importFlags }) => importFlags?.includes("voided_by_broker") === true);
  const state = execution.heldReason !== undefined ? ("held" as const) : isVoided ? ("voided" as const) : ("live" as const);
  const back = { decisions: undefined, importJobId, state, tradeIds };
  await ctx.db.patch("externalExecutions", execution._id, back);
  return { ...execution, ...back };
}

function decisionOf(trade: Doc<"trades">): Decision {
  return {
    assetType: trade.assetType,
    campaignId: trade.campaignId,
    date: trade.date,
    direction: trade.direction,
    fee: trade.fee,
    importFlags: trade.importFlags,
    inboxStatus: trade.inboxStatus,
    leg: trade.leg,
    notes: trade.notes,
    price: trade.price,
    quantity: trade.quantity,
    side: trade.side,
    ticker: trade.ticker,
    tradePlanId: trade.tradePlanId,
  };
}

async function linkOf(ctx: MutationCtx, { campaignId, tradePlanId }: Decision) {
  return {
    campaignId: campaignId && (await ctx.db.get("campaigns", campaignId))?._id,
    tradePlanId: tradePlanId && (await ctx.db.get("tradePlans", tradePlanId))?._id,
  };
}
