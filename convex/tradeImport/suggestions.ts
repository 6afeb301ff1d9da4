// Keeps the suggestions of pending trades in step with plans and rows. The decision is in rules/suggestion.ts.
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import type { TradeFacts } from "./rules/materialise";
import { suggested } from "./rules/suggestion";
import { meansTicker } from "./rules/symbols";

/** Beyond it «exactly one plan» cannot be known, so nothing is suggested. */
const MAX_OPEN_PLANS = 1_000;

/** Rows read as evidence in one transaction, over all tickers: a quarter of Convex's limit. */
const MAX_EVIDENCE = 8_000;

const OPEN_STATUSES = ["active", "idea", "watching"] as const;

type Instrument = Pick<TradeFacts, "assetType" | "ticker">;

/**
 * Recomputes the suggestion of the owner's pending rows of these instruments. `clearing`: the plans may have changed,
 * so that rows may suggest one that is none of theirs any more.
 */
export async function refreshSuggestions(
  ctx: MutationCtx,
  ownerId: string,
  instruments: Instrument[],
  { clearing }: { clearing: boolean } = { clearing: false },
): Promise<void> {
  if (instruments.length === 0) return;
  const plans = await openPlans(ctx);
  if (plans === null) return;
  const share = Math.floor(MAX_EVIDENCE / instruments.length / 2);
  for (const instrument of instruments) {
    const candidates = plans.filter((plan) =>
      meansTicker(plan.instrumentSymbol, instrument.ticker, instrument.assetType),
    );
    // No candidate: nothing is suggested, and new rows are born that way.
    if (candidates.length > 0 || clearing) await refresh(ctx, ownerId, instrument.ticker, candidates, share);
  }
}

/** Null where there are too many to know. */
export async function openPlans(ctx: MutationCtx): Promise<Doc<"tradePlans">[] | null> {
  const plans: Doc<"tradePlans">[] = [];
  for (const status of OPEN_STATUSES) {
    const some = await ctx.db
      .query("tradePlans")
      .withIndex("by_status", (q) => q.eq("status", status))
      .take(MAX_OPEN_PLANS);
    plans.push(...some);
    if (some.length === MAX_OPEN_PLANS) return null;
  }
  return plans;
}

async function refresh(
  ctx: MutationCtx,
  ownerId: string,
  ticker: string,
  candidates: Doc<"tradePlans">[],
  limit: number,
): Promise<void> {
  const pending = await ctx.db
    .query("trades")
    .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
      q.eq("ownerId", ownerId).eq("inboxStatus", "pending_review").eq("ticker", ticker),
    )
    .take(limit);
  pending.sort(byTimeAndId);
  const fitting = new Map<Doc<"trades">, Doc<"tradePlans">[]>();
  for (const plan of candidates) {
    const linked = await ctx.db
      .query("trades")
      .withIndex("by_tradePlanId", (q) => q.eq("tradePlanId", plan._id))
      .take(Math.floor(limit / candidates.length));
    linked.sort(byTimeAndId);
    for (const row of suggested(linked.filter(happened), pending.filter(happened))) fitting.set(row, [...(fitting.get(row) ?? []), plan]);
  }
  for (const row of pending) {
    const [plan, ...others] = fitting.get(row) ?? [];
    const planId = others.length === 0 ? plan?._id : undefined;
    if (row.suggestedTradePlanId === planId) continue;
    await ctx.db.patch("trades", row._id, {
      suggestedTradePlanId: planId,
      suggestionReason: planId === undefined ? "none" : "symbol_and_side_match",
    });
  }
}

/** A row that the broker cancelled fits no plan and is no evidence for others. */
function happened(trade: Doc<"trades">): boolean {
  return trade.importFlags?.includes("voided_by_broker") !== true;
}

/** By id within one instant, as they would be inserted together: the outcome must not depend on arrival. */
function byTimeAndId(a: Doc<"trades">, b: Doc<"trades">): number {
  const [first, second] = [a.externalExecutionId ?? "", b.externalExecutionId ?? ""];
  return a.date - b.date || (first === second ? (a.leg ?? 1) - (b.leg ?? 1) : first < second ? -1 : 1);
}
