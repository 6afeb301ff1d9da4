// Rows for tests.
import type { Id, InboxRow } from "../../api";

const T0 = Date.UTC(2026, 1, 16, 12);

/** Each later row is a minute older, as the list brings them. */
export function sampleRow(name: string, changes: Partial<InboxRow> = {}): InboxRow {
  return {
    accountRef: "AA11 N84G",
    assetClass: "crypto",
    campaign: null,
    currency: "USD",
    direction: "long",
    executionFlags: [],
    executionId: name as Id<"externalExecutions">,
    externalExecutionId: `T-${name}`,
    externalOrderId: null,
    fee: "0.26",
    feeCurrency: "USD",
    flags: [],
    history: [],
    importJobId: "job" as Id<"importJobs">,
    leg: null,
    notes: null,
    occurredAt: T0,
    plan: null,
    price: "30010",
    provider: "kraken",
    quantity: "0.5",
    rawSymbol: "XXBTZUSD",
    side: "buy",
    source: "kraken_trades",
    status: "pending_review",
    suggestion: null,
    suggestionReason: "none",
    symbol: "BTC/USD",
    tradeId: `trade-${name}` as Id<"trades">,
    twins: [],
    ...changes,
  };
}

export const planId = (name: string) => name as Id<"tradePlans">;
export const campaignId = (name: string) => name as Id<"campaigns">;

export function suggesting(name: string, plan: string, changes: Partial<InboxRow> = {}): InboxRow {
  return sampleRow(name, {
    suggestion: { name: `Plan ${plan}`, tradePlanId: planId(plan) },
    suggestionReason: "symbol_and_side_match",
    ...changes,
  });
}
