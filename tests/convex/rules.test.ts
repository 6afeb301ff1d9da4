import { describe, expect, test } from "vitest";
import { countsForAnalytics } from "../../convex/tradeImport/rules/analytics";
import { completeness } from "../../convex/tradeImport/rules/completeness";
import { isDecimal, isPositive } from "../../convex/tradeImport/rules/decimal";
import { deriveHealth, type HealthFacts } from "../../convex/tradeImport/rules/health";
import { mayWrite } from "../../convex/tradeImport/rules/lease";
import { decideClaim, statusAfter } from "../../convex/tradeImport/rules/schedule";
import { suggested } from "../../convex/tradeImport/rules/suggestion";
import { meansTicker, tickerOf } from "../../convex/tradeImport/rules/symbols";
import type { Health } from "../../convex/tradeImport/validators";

describe("mayWrite", () => {
  const facts = {
    connectionStatus: "active",
    currentFence: 3,
    fence: 3,
    jobId: "job",
    jobStatus: "running",
    lease: { expiresAt: 0, jobId: "job" },
  };
  test.each([
    ["the lease's own job", {}, true],
    ["an older fence", { fence: 2 }, false],
    ["a fence that was never granted", { fence: 4 }, false],
    ["a job that ended", { jobStatus: "failed" }, false],
    ["another job's lease", { lease: { expiresAt: 0, jobId: "other" } }, false],
    ["no lease", { lease: undefined }, false],
    ["a disconnected connection", { connectionStatus: "disconnected" }, false],
  ])("%s", (_, changes, expected) => {
    expect(mayWrite({ ...facts, ...changes })).toBe(expected);
  });
});

describe("decideClaim", () => {
  const now = 1_000;
  const idle = { leaseExpiresAt: undefined, nextSyncAt: now + 1, requestedAt: undefined, status: "active" as const };
  const held = { granted: false, reason: "held" };
  const notDue = { granted: false, reason: "not_due" };
  const gone = { granted: false, reason: "disconnected" };
  const granted = (mode: string) => ({ granted: true, mode });
  test.each([
    ["due now", { nextSyncAt: now }, "scheduled", granted("scheduled")],
    ["due now, backfill", { nextSyncAt: now }, "backfill", granted("backfill")],
    ["not yet due", {}, "scheduled", notDue],
    ["not yet due, backfill", {}, "backfill", notDue],
    ["not yet due, manual", {}, "manual", granted("manual")],
    ["requested", { requestedAt: 1 }, "scheduled", granted("manual")],
    ["requested, backfill", { requestedAt: 1 }, "backfill", granted("manual")],
    ["held", { leaseExpiresAt: now + 1, nextSyncAt: 0, requestedAt: 1 }, "scheduled", held],
    ["held, manual", { leaseExpiresAt: now + 1 }, "manual", held],
    ["expired lease, due", { leaseExpiresAt: now, nextSyncAt: 0 }, "scheduled", granted("scheduled")],
    ["expired lease, not due", { leaseExpiresAt: now }, "scheduled", notDue],
    ["refused credentials, due", { nextSyncAt: 0, status: "needs_reauth" }, "scheduled", notDue],
    ["refused credentials, requested", { requestedAt: 1, status: "needs_reauth" }, "scheduled", granted("manual")],
    ["refused credentials, manual", { status: "needs_reauth" }, "manual", granted("manual")],
    ["in error, due", { nextSyncAt: 0, status: "error" }, "scheduled", granted("scheduled")],
    ["disconnected", { nextSyncAt: 0, requestedAt: 1, status: "disconnected" }, "manual", gone],
  ] as const)("%s", (_, changes, mode, expected) => {
    expect(decideClaim({ ...idle, ...changes }, mode, now)).toEqual(expected);
  });
});

test.each([
  ["active", "succeeded", "none", "active"],
  ["needs_reauth", "succeeded", "none", "active"],
  ["error", "partial", "bad_records", "active"],
  ["error", "partial", "unavailable", "error"],
  ["active", "partial", "rejected", "error"],
  ["needs_reauth", "partial", "rate_limited", "needs_reauth"],
  ["active", "blocked_reauth", "auth", "needs_reauth"],
  ["active", "failed", "rejected", "error"],
  ["active", "failed", "unavailable", "active"],
  ["needs_reauth", "failed", "unavailable", "needs_reauth"],
] as const)("a connection that is %s is after %s (%s) %s", (before, status, reason, after) => {
  expect(statusAfter(before, { reason, status })).toBe(after);
});

describe("health", () => {
  const minute = 60_000;
  const now = 1_000 * minute;
  const problem = { action: "Do it.", code: "c", sentence: "It broke." };
  const well: HealthFacts = {
    breaker: { failures: 0, phase: "closed" },
    createdAt: 1,
    intervalMinutes: 15,
    lastBeatAt: now - minute,
    lastSyncAt: now - 15 * minute,
    leaseExpiresAt: undefined,
    nextSyncAt: now + minute,
    problem: undefined,
    problemSince: undefined,
    reason: "none",
    status: "active",
    syncingSince: undefined,
    updatedAt: 2,
  };
  const broken = { problem, problemSince: 7 };
  test.each<[string, Partial<HealthFacts>, number | null, Partial<Health>]>([
    ["all well", {}, now, { since: well.lastSyncAt, state: "ok" }],
    ["a lease runs", { leaseExpiresAt: now + 1, syncingSince: 9 }, now, { since: 9, state: "syncing" }],
    ["a lease ran out", { leaseExpiresAt: now }, now, { state: "ok" }],
    ["one failure", { ...broken, breaker: { failures: 1, phase: "closed" }, reason: "unavailable" }, now, { state: "ok" }],
    [
      "two failures",
      { ...broken, breaker: { failures: 2, phase: "closed" }, reason: "unavailable" },
      now,
      { action: "Do it.", sentence: "It broke.", since: 7, state: "degraded", until: well.nextSyncAt },
    ],
    ["rows nobody could read", { ...broken, reason: "bad_records" }, now, { since: 7, state: "degraded" }],
    ["a rate limit", { ...broken, reason: "rate_limited" }, now, { state: "degraded", until: well.nextSyncAt }],
    ["maintenance", { ...broken, reason: "maintenance" }, now, { since: 7, state: "maintenance_window", until: well.nextSyncAt }],
    ["refused credentials", { ...broken, reason: "auth", status: "needs_reauth" }, now, { action: "Do it.", since: 7, state: "needs_reauth" }],
    ["refused credentials without a worker", { ...broken, lastBeatAt: null, status: "needs_reauth" }, now, { state: "needs_reauth" }],
    ["no beat for two minutes", { lastBeatAt: now - 2 * minute - 1 }, now, { since: now - 2 * minute - 1, state: "worker_offline" }],
    ["exactly two minutes", { lastBeatAt: now - 2 * minute }, now, { state: "ok" }],
    ["no beat ever", { lastBeatAt: null }, now, { since: 1, state: "worker_offline" }],
    ["never synced", { lastSyncAt: undefined }, now, { since: 1, state: "never_synced" }],
    ["overdue", { lastSyncAt: now - 45 * minute - 1 }, now, { since: now - 45 * minute - 1, state: "stale" }],
    ["almost overdue", { lastSyncAt: now - 45 * minute }, now, { state: "ok" }],
    ["disconnected", { ...broken, leaseExpiresAt: now + 1, status: "disconnected" }, now, { since: 2, state: "disconnected" }],
    ["no clock, overdue and offline", { lastBeatAt: null, lastSyncAt: 5 }, null, { since: 5, state: "ok" }],
    ["no clock, a lease", { leaseExpiresAt: 1, syncingSince: 9 }, null, { state: "syncing" }],
  ])("%s", (_, changes, at, expected) => {
    const health = deriveHealth({ ...well, ...changes }, at);
    expect(health).toMatchObject(expected);
    expect(health.sentence).not.toBe("");
  });
});

test.each([
  ["0", true, false],
  ["0.00000001", true, true],
  ["123456789012345678901234567890.5", true, true],
  ["-1.5", true, false],
  ["-0", true, false],
  ["1.", false, false],
  [".5", false, false],
  ["01", false, false],
  ["1e5", false, false],
  ["+1", false, false],
  [" 1", false, false],
  ["1\n", false, false],
  ["Infinity", false, false],
  ["NaN", false, false],
  ["", false, false],
  [`1${"0".repeat(309)}`, false, false],
])("«%s» is a decimal: %s, positive: %s", (text, decimal, positive) => {
  expect([isDecimal(text), isPositive(text)]).toEqual([decimal, positive]);
});

test.each([
  [" aapl ", "AAPL"],
  ["BRK B", "BRK.B"],
  ["brk-b", "BRK.B"],
  ["BRK/B", "BRK.B"],
  ["BRK.B", "BRK.B"],
  ["BTC-USD", "BTC/USD"],
  ["XBT/USD", "BTC/USD"],
  ["xdg/xbt", "DOGE/BTC"],
  ["AAPLx/USD", "AAPLX/USD"],
  ["GBTC", "GBTC"],
])("the ticker of «%s» is %s", (symbol, ticker) => {
  expect(tickerOf(symbol)).toBe(ticker);
});

test.each([
  ["btcusd", "BTC/USD", "crypto", true],
  ["BTC-USD", "BTC/USD", "crypto", true],
  ["XBT/USD", "BTC/USD", "crypto", true],
  ["XXBTZUSD", "BTC/USD", "crypto", true],
  ["XBTUSDT", "BTC/USDT", "crypto", true],
  ["BTC", "BTC/USD", "crypto", true],
  [" xbt ", "BTC/EUR", "crypto", true],
  ["BTC/EUR", "BTC/USD", "crypto", false],
  ["BTCUSDT", "BTC/USD", "crypto", false],
  ["USD", "BTC/USD", "crypto", false],
  ["", "BTC/USD", "crypto", false],
  [" aapl ", "AAPL", "stock", true],
  ["BRK B", "BRK.B", "stock", true],
  ["BRK", "BRK.B", "stock", false],
  ["GBTC", "G/BTC", "stock", false],
  ["AAPL", "AAPLX/USD", "crypto", false],
] as const)("a plan for «%s» means %s (%s): %s", (planned, ticker, assetType, means) => {
  expect(meansTicker(planned, ticker, assetType)).toBe(means);
});

describe("suggested", () => {
  const row = (date: number, side: "buy" | "sell", direction: "long" | "short", quantity = 1) => ({ date, direction, quantity, side });
  const buy = row(1, "buy", "long");
  const sell = row(2, "sell", "long");
  test.each([
    ["an opening, nothing linked", [], [buy], [true]],
    ["an entry and its exit", [], [buy, sell], [true, true]],
    ["an exit alone", [], [sell], [false]],
    ["an exit of a linked entry", [buy], [sell], [true]],
    ["an exit of what is sold already", [buy, sell], [row(3, "sell", "long")], [false]],
    ["a second exit", [], [buy, sell, row(3, "sell", "long")], [true, true, false]],
    ["a long for a short plan", [row(1, "sell", "short")], [row(2, "buy", "long")], [false]],
    ["a cover for a short plan", [row(1, "sell", "short")], [row(2, "buy", "short")], [true]],
    ["a cover for a long plan", [buy], [row(2, "buy", "short")], [false]],
    [
      "a long for a plan that was both and is short",
      [row(1, "buy", "long"), row(2, "sell", "long"), row(3, "sell", "short")],
      [row(4, "buy", "long")],
      [false],
    ],
    [
      "a short for a plan that was both and is flat",
      [row(1, "buy", "long"), row(2, "sell", "long"), row(3, "sell", "short"), row(4, "buy", "short")],
      [row(5, "sell", "short")],
      [true],
    ],
  ] as const)("%s", (_, linked, pending, expected) => {
    const fits = suggested([...linked], [...pending]);
    expect(pending.map((each) => fits.has(each))).toEqual(expected);
  });
});

test.each([
  [[], { from: null, gaps: [], upTo: null }],
  [[[5, 9]], { from: 5, gaps: [], upTo: 9 }],
  [[[7, 9], [5, 7]], { from: 5, gaps: [], upTo: 9 }],
  [[[1, 9], [2, 3]], { from: 1, gaps: [], upTo: 9 }],
  [[[1, 3], [5, 6], [8, 9]], { from: 1, gaps: [{ end: 5, start: 3 }, { end: 8, start: 6 }], upTo: 9 }],
])("completeness of %j", (intervals, expected) => {
  expect(completeness(intervals.map(([start = 0, end = 0]) => ({ end, start })))).toEqual(expected);
});

test.each([
  [{}, true],
  [{ inboxStatus: "reviewed" }, true],
  [{ inboxStatus: "pending_review" }, false],
] as const)("%j counts: %s", (trade, counts) => {
  expect(countsForAnalytics(trade)).toBe(counts);
});
