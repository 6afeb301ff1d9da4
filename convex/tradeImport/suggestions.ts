// Keeps the suggestions of pending trades in step with plans and rows. The decision is in rules/suggestion.ts.
import { v } from "convex/values";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import { internalMutation, type MutationCtx } from "../_generated/server";
import { mayRead } from "./access";
import type { TradeFacts } from "./rules/materialise";
import { suggested } from "./rules/suggestion";
import { meansTicker } from "./rules/symbols";
import { vAssetType } from "./validators";

/** Beyond it «exactly one plan» cannot be known, so nothing is suggested. */
const MAX_OPEN_PLANS = 1_000;

/** Rows read as evidence in one transaction, over all tickers: a quarter of Convex's limit. */
const MAX_EVIDENCE = 8_000;

/** Of one instrument while new rows are stored, so that this costs the same for ever: more have their own transaction. */
const MAX_BESIDE = 60;

/** Instruments of which one transaction looks at all of it. */
export const MAX_INSTRUMENTS = 4;

const OPEN_STATUSES = ["active", "idea", "watching"] as const;

type Instrument = Pick<TradeFacts, "assetType" | "ticker">;

/**
 * Recomputes the suggestion of the owner's pending rows of these instruments: of the first few at once, of others right
 * after. `clearing`: the plans may have changed, so that rows may suggest one that is none of theirs any more; for no
 * more than `MAX_INSTRUMENTS` instruments.
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
  const wanted = instruments
    .map(({ assetType, ticker }) => ({
      candidates: plans.filter((plan) => meansTicker(plan.instrumentSymbol, ticker, assetType)),
      instrument: { assetType, ticker },
    }))
    // No candidate: nothing is suggested, and new rows are born that way.
    .filter(({ candidates }) => candidates.length > 0 || clearing);
  const first = wanted.slice(0, MAX_INSTRUMENTS);
  // A small part of the evidence for each of many would say something else than all of it.
  const share = Math.floor(MAX_EVIDENCE / first.length / 2);
  for (const { candidates, instrument } of first) await refresh(ctx, ownerId, instrument.ticker, candidates, share);
  await refreshSoon(ctx, ownerId, wanted.slice(MAX_INSTRUMENTS).map(({ instrument }) => instrument));
}

async function refreshSoon(ctx: MutationCtx, ownerId: string, instruments: Instrument[]): Promise<void> {
  if (instruments.length === 0) return;
  await ctx.scheduler.runAfter(0, internal.tradeImport.suggestions.refreshLater, { instruments, ownerId });
}

/** The same while new rows are stored. Instruments with many rows follow at once, in steps of their own. */
export async function refreshStored(ctx: MutationCtx, ownerId: string, instruments: Instrument[]): Promise<void> {
  const plans = instruments.length === 0 ? null : await openPlans(ctx);
  if (plans === null) return;
  const share = Math.min(MAX_BESIDE, Math.floor(MAX_EVIDENCE / instruments.length / 2));
  const later: Instrument[] = [];
  for (const { assetType, ticker } of instruments) {
    const candidates = plans.filter((plan) => meansTicker(plan.instrumentSymbol, ticker, assetType));
    if (candidates.length === 0) continue;
    if (!(await refresh(ctx, ownerId, ticker, candidates, share, true))) later.push({ assetType, ticker });
  }
  await refreshSoon(ctx, ownerId, later);
}

export const refreshLater = internalMutation({
  args: {
    instruments: v.array(v.object({ assetType: vAssetType, ticker: v.string() })),
    ownerId: v.string(),
  },
  handler: async (ctx, { instruments, ownerId }): Promise<null> => {
    await refreshSuggestions(ctx, ownerId, instruments);
    return null;
  },
  returns: v.null(),
});

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

/** False where there is more evidence than `limit` and only `whole` evidence will do: then nothing was done. */
async function refresh(
  ctx: MutationCtx,
  ownerId: string,
  ticker: string,
  candidates: Doc<"tradePlans">[],
  limit: number,
  whole = false,
): Promise<boolean> {
  const pending = await ctx.db
    .query("trades")
    .withIndex("by_ownerId_and_inboxStatus_and_ticker_and_date", (q) =>
      q.eq("ownerId", ownerId).eq("inboxStatus", "pending_review").eq("ticker", ticker),
    )
    .take(limit);
  if (whole && pending.length === limit) return false;
  pending.sort(byTimeAndId);
  const linkedTo = new Map<Doc<"tradePlans">, Doc<"trades">[]>();
  for (const plan of candidates) {
    const most = Math.floor(limit / candidates.length);
    const linked = await ctx.db
      .query("trades")
      .withIndex("by_tradePlanId", (q) => q.eq("tradePlanId", plan._id))
      .take(most);
    if (whole && linked.length === most) return false;
    linkedTo.set(plan, linked.filter((trade) => happened(trade) && mayRead(ownerId, trade)).sort(byTimeAndId));
  }
  // A row that has its plan already is evidence for it, once.
  const open = pending.filter((trade) => happened(trade) && trade.tradePlanId === undefined);
  const fitting = suggested(linkedTo, open);
  for (const row of pending) {
    const planId = fitting.get(row)?._id;
    if (row.suggestedTradePlanId === planId) continue;
    await ctx.db.patch("trades", row._id, {
      suggestedTradePlanId: planId,
      suggestionReason: planId === undefined ? "none" : "symbol_and_side_match",
    });
  }
  return true;
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
