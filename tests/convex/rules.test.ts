import { describe, expect, test } from "vitest";
import { accountRefOf, hasTwin, otherAccounts } from "../../convex/tradeImport/rules/accounts";
import { countsForAnalytics } from "../../convex/tradeImport/rules/analytics";
import { isVoided } from "../../convex/tradeImport/rules/cancels";
import { completeness } from "../../convex/tradeImport/rules/completeness";
import { checkAuth, maskedKey } from "../../convex/tradeImport/rules/credentials";
import { isDecimal, isPositive } from "../../convex/tradeImport/rules/decimal";
import { deriveHealth, type HealthFacts } from "../../convex/tradeImport/rules/health";
import { mayWrite } from "../../convex/tradeImport/rules/lease";
import { FLAT, legsOf } from "../../convex/tradeImport/rules/direction";
import { materialise, tradesOf } from "../../convex/tradeImport/rules/materialise";
import { decideClaim, hasSynced, servesRequest, statusAfter } from "../../convex/tradeImport/rules/schedule";
import { suggested } from "../../convex/tradeImport/rules/suggestion";
import { meansTicker, tickerOf } from "../../convex/tradeImport/rules/symbols";
import { earlierRevisions, MAX_VIEWS, mergeViews, sameFacts, viewsAfter } from "../../convex/tradeImport/rules/views";
import type { Id } from "../../convex/_generated/dataModel";
import type { Auth, Execution, Health, View } from "../../convex/tradeImport/validators";
import { confirmCancel, execution, flexCancel, flexFill, ibkrFill } from "./world";

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
  const idle = {
    leaseExpiresAt: undefined,
    nextSyncAt: now + 1,
    problem: undefined,
    requestedAt: undefined,
    status: "active" as const,
    waitUntil: undefined,
  };
  const problem = { action: "Log in.", code: "login_needed", sentence: "Nobody is logged in." };
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
    expect(decideClaim({ ...idle, ...changes }, { early: false, mode }, now)).toEqual(expected);
  });

  test.each([
    ["nobody was logged in", { problem, status: "needs_reauth" }, granted("scheduled")],
    ["nobody was logged in, and no problem is known", { status: "needs_reauth" }, granted("scheduled")],
    ["another session owned the login", { problem }, granted("scheduled")],
    ["in error", { problem, status: "error" }, granted("scheduled")],
    ["due", { nextSyncAt: now }, granted("scheduled")],
    ["well and not due", {}, notDue],
    ["a pause the broker asked for", { problem, waitUntil: now + 1 }, notDue],
    ["such a pause, and nobody logged in", { problem, status: "needs_reauth", waitUntil: now + 1 }, notDue],
    ["such a pause is over", { problem, waitUntil: now }, granted("scheduled")],
    ["held", { leaseExpiresAt: now + 1, problem }, held],
    ["disconnected", { problem, status: "disconnected" }, gone],
  ] as const)("early: %s", (_, changes, expected) => {
    expect(decideClaim({ ...idle, ...changes }, { early: true, mode: "scheduled" }, now)).toEqual(expected);
  });

  test.each([
    ["nobody logged in", { problem, status: "needs_reauth" }],
    ["another session owns the login", { problem }],
  ] as const)("not early, %s: its time is waited for", (_, changes) => {
    expect(decideClaim({ ...idle, ...changes }, { early: false, mode: "scheduled" }, now)).toEqual(notDue);
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
  ["error", "partial", "gap", "active"],
  ["needs_reauth", "partial", "gap", "active"],
  ["needs_reauth", "failed", "session_in_use", "active"],
  ["needs_reauth", "partial", "session_in_use", "active"],
  ["active", "failed", "session_in_use", "active"],
  ["error", "failed", "session_in_use", "error"],
  ["active", "failed", "maintenance", "active"],
  ["needs_reauth", "failed", "maintenance", "needs_reauth"],
  ["error", "failed", "maintenance", "error"],
] as const)("a connection that is %s is after %s (%s) %s", (before, status, reason, after) => {
  expect(statusAfter(before, { reason, status })).toBe(after);
});

test.each([
  ["succeeded", "none", true],
  ["partial", "bad_records", true],
  ["partial", "gap", true],
  ["partial", "session_in_use", false],
  ["partial", "maintenance", false],
  ["partial", "unavailable", false],
  ["failed", "gap", false],
  ["failed", "session_in_use", false],
  ["blocked_reauth", "auth", false],
] as const)("a job that is %s (%s) has synced: %s", (status, reason, synced) => {
  expect(hasSynced({ reason, status })).toBe(synced);
});

test.each([
  ["none", 1, true],
  ["session_in_use", 1, true],
  ["maintenance", 1, true],
  ["auth", 1, true],
  ["cancelled", 1, false],
  ["lease_lost", 1, false],
  ["session_in_use", 2, false],
] as const)("a job that ended with %s serves a request at version %s: %s", (reason, authVersion, serves) => {
  expect(servesRequest({ authVersion: 1, reason }, authVersion)).toBe(serves);
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
    ["a gap nobody can fill", { ...broken, reason: "gap" }, now, { action: "Do it.", sentence: "It broke.", since: 7, state: "degraded" }],
    [
      "another session owns the login",
      { ...broken, reason: "session_in_use" },
      now,
      { action: "Do it.", sentence: "It broke.", since: 7, state: "in_use_elsewhere", until: well.nextSyncAt },
    ],
    ["such a session, and no worker", { ...broken, lastBeatAt: null, reason: "session_in_use" }, now, { state: "worker_offline" }],
    ["such a session for long", { ...broken, lastSyncAt: 1, reason: "session_in_use" }, now, { state: "in_use_elsewhere" }],
    ["nobody logged in", { problem: { ...problem, url: "https://localhost:5000" }, status: "needs_reauth" }, now, { state: "needs_reauth", url: "https://localhost:5000" }],
    ["a problem with an address", { problem: { ...problem, url: "https://localhost:5000" }, reason: "rejected" }, now, { state: "degraded", url: "https://localhost:5000" }],
    ["a problem without one", { ...broken, reason: "rejected" }, now, { state: "degraded", url: undefined }],
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

test.each<[Parameters<typeof countsForAnalytics>[0], boolean]>([
  [{}, true],
  [{ inboxStatus: "reviewed" }, true],
  [{ inboxStatus: "pending_review" }, false],
  [{ importFlags: ["changed_by_broker"], inboxStatus: "reviewed" }, true],
  [{ importFlags: ["changed_by_broker", "voided_by_broker"], inboxStatus: "reviewed" }, false],
])("%j counts: %s", (trade, counts) => {
  expect(countsForAnalytics(trade)).toBe(counts);
});

describe("checkAuth", () => {
  test.each([
    ["https://localhost:5000", "https://localhost:5000"],
    [" https://localhost:5000/\n", "https://localhost:5000"],
    ["HTTPS://Gateway.Example:5000", "https://gateway.example:5000"],
    ["https://gateway.example:443/", "https://gateway.example"],
    ["http://localhost:5000", "http://localhost:5000"],
    ["http://LOCALHOST:5000/", "http://localhost:5000"],
    ["http://127.0.0.1:5000", "http://127.0.0.1:5000"],
    ["http://127.255.0.9", "http://127.255.0.9"],
    ["http://[::1]:5000", "http://[::1]:5000"],
    ["https://[2001:DB8::1]:5000", "https://[2001:db8::1]:5000"],
    ["https://10.0.0.7:5000", "https://10.0.0.7:5000"],
  ])("F7 a gateway at «%s» is stored as %s", (baseUrl, stored) => {
    const kind = "ibkr_gateway";
    expect(checkAuth({ baseUrl, kind })).toEqual({ ok: true, value: { baseUrl: stored, kind } });
  });

  test.each([
    ["", "empty"],
    ["  ", "empty"],
    ["localhost:5000", "nothing else"],
    ["https://", "nothing else"],
    ["https://:5000", "nothing else"],
    ["https:localhost:5000", "nothing else"],
    ["https://localhost:99999", "nothing else"],
    ["https://local host:5000", "nothing else"],
    ["ftp://localhost:5000", "nothing else"],
    ["file:///etc/passwd", "nothing else"],
    ["https://localhost:5000/v1/api", "nothing else"],
    ["https://localhost:5000//", "nothing else"],
    ["https://localhost:5000?x=1", "nothing else"],
    ["https://localhost:5000/?", "nothing else"],
    ["https://localhost:5000#top", "nothing else"],
    ["https://me:secret@localhost:5000", "nothing else"],
    ["https://localhost:5000\\v1", "nothing else"],
    ["https://localhost:5000@evil.example", "nothing else"],
    ["http://gateway.example:5000", "https"],
    ["http://10.0.0.7:5000", "https"],
    ["http://127.0.0.1.example:5000", "https"],
    ["http://localhost.example:5000", "https"],
    ["http://[2001:db8::1]:5000", "https"],
  ])("F7 a gateway at «%s» is refused: %s", (baseUrl, word) => {
    const checked = checkAuth({ baseUrl, kind: "ibkr_gateway" });
    expect(checked).toEqual({ message: expect.stringContaining(word) as string, ok: false });
  });

  const oauth = {
    accessToken: "a1b2c3d4",
    accessTokenSecret: "c2VjcmV0LXNlY3JldA==",
    consumerKey: "ABCDEFGHI",
    kind: "ibkr_oauth",
  } as const;
  const pem = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----";

  test.each<[string, Partial<Auth>, object]>([
    ["as it is", {}, oauth],
    ["in small letters, with spaces about", { consumerKey: " abcdefghi\n" }, oauth],
    ["the broker's test consumer", { consumerKey: "TESTCONS", realm: "test_realm" }, { ...oauth, consumerKey: "TESTCONS", realm: "test_realm" }],
    ["a token with line ends", { accessToken: "\na1b2c3d4\n", accessTokenSecret: "c2VjcmV0\r\nLXNlY3JldA==\n" }, oauth],
    ["a realm", { realm: " limited_poa " }, { ...oauth, realm: "limited_poa" }],
    ["empty fields are absent ones", { dhParam: "", encryptionKey: " ", realm: "", signatureKey: "\n" }, oauth],
    [
      "keys of its own",
      { dhParam: pem, encryptionKey: pem, signatureKey: `\n${pem}\n` },
      { ...oauth, dhParam: pem, encryptionKey: pem, signatureKey: pem },
    ],
  ])("OAuth, accepted: %s", (_, changes, value) => {
    expect(checkAuth({ ...oauth, ...changes } as Auth)).toEqual({ ok: true, value });
  });

  test.each<[string, Partial<Auth>, string]>([
    ["no consumer key", { consumerKey: "" }, "nine letters"],
    ["eight letters", { consumerKey: "ABCDEFGH" }, "nine letters"],
    ["ten letters", { consumerKey: "ABCDEFGHIJ" }, "nine letters"],
    ["a digit", { consumerKey: "ABCDEFGH1" }, "nine letters"],
    ["a letter of another alphabet", { consumerKey: "ÄBCDEFGHI" }, "nine letters"],
    ["no token", { accessToken: " " }, "access token is"],
    ["a token with a space inside", { accessToken: "a1b2 c3d4" }, "access token is"],
    ["no secret", { accessTokenSecret: " " }, "token secret"],
    ["a cut secret", { accessTokenSecret: "c2VjcmV0LXNlY3JldA=" }, "token secret"],
    ["a secret that is no base64", { accessTokenSecret: "secret-secret_12" }, "token secret"],
    ["a realm there is not", { realm: "LIMITED_POA" }, "limited_poa"],
    ["a signature key that is a path", { signatureKey: "keys/private_signature.pem" }, "private_signature.pem"],
    ["an encryption key without its first line", { encryptionKey: "MIIE" }, "private_encryption.pem"],
    ["a prime as hex", { dhParam: "00fd" }, "dhparam.pem"],
  ])("OAuth, refused: %s", (_, changes, word) => {
    const checked = checkAuth({ ...oauth, ...changes } as Auth);
    expect(checked).toEqual({ message: expect.stringContaining(word) as string, ok: false });
  });

  test.each<[Auth, string]>([
    [{ apiKey: "canary-key-1234567890abcd", apiSecret: "s", kind: "kraken" }, "…abcd"],
    [{ baseUrl: "https://localhost:5000", kind: "ibkr_gateway" }, "https://localhost:5000"],
    [oauth, "…FGHI"],
  ])("%j is recognised by its hint", (auth, hint) => {
    expect(maskedKey(auth)).toBe(hint);
  });
});

describe("accounts", () => {
  test.each([
    ["ibkr", " u1234567 ", "U1234567"],
    ["kraken", " AA11 n84g ", "AA11 n84g"],
  ] as const)("of %s: «%s» is %s", (provider, text, accountRef) => {
    expect(accountRefOf(provider, text)).toBe(accountRef);
  });

  const gateway = (_id: string, accountRef: string | undefined, changes: object = {}) => ({
    _id,
    accountRef,
    auth: { baseUrl: "https://localhost:5000", kind: "ibkr_gateway" } as Auth,
    provider: "ibkr" as const,
    status: "active" as const,
    ...changes,
  });
  const oauth = (consumerKey: string) => ({
    auth: { accessToken: "t", accessTokenSecret: "s", consumerKey, kind: "ibkr_oauth" } as Auth,
  });
  const kraken = {
    auth: { apiKey: "k", apiSecret: "s", kind: "kraken" } as Auth,
    provider: "kraken" as const,
  };

  test("others are sorted, each once, of the same broker, connected, and not one's own", () => {
    const own = gateway("own", "U2");
    const all = [
      own,
      gateway("a", "U3"),
      gateway("b", "U1", { status: "needs_reauth" }),
      gateway("c", "U3", oauth("ABCDEFGHI")),
      gateway("d", "U2", oauth("ABCDEFGHI")),
      gateway("e", undefined),
      gateway("f", "U9", { auth: undefined, status: "disconnected" }),
      gateway("g", "AA11", kraken),
    ];
    expect(otherAccounts(own, all)).toEqual(["U1", "U3"]);
  });

  test.each([
    ["the same gateway and account", gateway("a", "U1"), gateway("b", "U1"), true],
    ["the same gateway by its other name", gateway("a", "U1", { auth: { baseUrl: "https://127.0.0.1:5000", kind: "ibkr_gateway" } }), gateway("b", "U1"), true],
    ["the same gateway by its third name", gateway("a", "U1", { auth: { baseUrl: "https://[::1]:5000", kind: "ibkr_gateway" } }), gateway("b", "U1"), true],
    ["a host that only begins like it", gateway("a", "U1", { auth: { baseUrl: "https://127.0.0.11:5000", kind: "ibkr_gateway" } }), gateway("b", "U1"), false],
    ["the same gateway, no account either time", gateway("a", undefined), gateway("b", undefined), true],
    ["another account", gateway("a", "U1"), gateway("b", "U2"), false],
    ["an account that is not known yet", gateway("a", undefined), gateway("b", "U1"), false],
    ["another gateway", gateway("a", "U1", { auth: { baseUrl: "https://localhost:5001", kind: "ibkr_gateway" } }), gateway("b", "U1"), false],
    ["the connection itself", gateway("a", "U1"), gateway("a", "U1"), false],
    ["a disconnected one", gateway("a", "U1"), gateway("b", "U1", { auth: undefined, status: "disconnected" }), false],
    ["one that needs a login", gateway("a", "U1"), gateway("b", "U1", { status: "needs_reauth" }), true],
    ["another kind", gateway("a", "U1"), gateway("b", "U1", oauth("ABCDEFGHI")), false],
    ["the same consumer", gateway("a", "U1", oauth("ABCDEFGHI")), gateway("b", "U1", oauth("ABCDEFGHI")), true],
    ["another consumer", gateway("a", "U1", oauth("ABCDEFGHI")), gateway("b", "U1", oauth("ABCDEFGHJ")), false],
    ["two keys of Kraken", gateway("a", "AA11", kraken), gateway("b", "AA11", kraken), false],
  ])("a twin: %s", (_, candidate, other, twin) => {
    expect(hasTwin(candidate, [other])).toBe(twin);
  });
});

/** In every order; the views of one execution are few. */
function orders<Item>(items: Item[]): Item[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, index) => orders(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}

describe("mergeViews", () => {
  const live = (changes: Partial<Execution> = {}) => ibkrFill("E1", changes);
  const confirmed = (changes: Partial<Execution> = {}) =>
    flexFill("E1", { source: "ibkr_flex_confirm", transactionId: undefined, ...changes });
  const booked = (changes: Partial<Execution> = {}) => flexFill("E1", changes);

  test.each<[string, Execution[], Partial<Execution>]>([
    ["a live fill alone is what it says", [live()], live()],
    [
      "B7 Flex adds what the live API does not say, and its fee holds",
      [live({ conid: "265598", fee: "1.01" }), booked({ conid: undefined, fee: "0.98" })],
      { conid: "265598", currency: "USD", fee: "0.98", multiplier: "1", source: "ibkr_flex_activity", tradeId: "T-E1" },
    ],
    [
      "B7 a confirmation knows more than the live API, an activity statement more than both",
      [live({ price: "1" }), confirmed({ price: "2" }), booked({ price: "3" })],
      { price: "3", source: "ibkr_flex_activity", transactionId: "X-E1" },
    ],
    [
      "B7 a confirmation says what the activity statement leaves out",
      [confirmed({ openClose: "close" }), booked({ openClose: undefined })],
      { openClose: "close", source: "ibkr_flex_activity" },
    ],
    [
      "B10 a correction that only the live API knows keeps the currency that Flex told of the original",
      [live(), booked(), live({ price: "193", revision: 2 })],
      { currency: "USD", fee: "1.01", multiplier: "1", price: "193", revision: 2, source: "ibkr_live" },
    ],
    [
      "a field that its source takes back is gone, also for the sources that never said it",
      [live(), booked(), booked({ currency: undefined, revision: 2 }), live({ revision: 3 })],
      { currency: undefined, revision: 3, source: "ibkr_live" },
    ],
    [
      "B10 a correction turns the side round",
      [booked({ side: "buy" }), live({ revision: 2, side: "sell" })],
      { side: "sell" },
    ],
    [
      "a side is not carried over to what has none",
      [booked({ side: "buy" }), live({ kind: "expiry", revision: 2, side: undefined })],
      { kind: "expiry", side: undefined },
    ],
    [
      "B9 a rebooking says no commission: the original's stays",
      [booked({ fee: "1.25", feeCurrency: "CAD" }), booked({ fee: "0", feeCurrency: undefined, revision: 2 })],
      { fee: "1.25", feeCurrency: "CAD", revision: 2 },
    ],
    [
      "B9 the nearest revision that charged is the one",
      [booked({ fee: "1.25" }), booked({ fee: "-0.5", revision: 2 }), booked({ fee: "0.00", revision: 3 })],
      { fee: "-0.5", revision: 3 },
    ],
    [
      "B9 the original's commission is what the best source says of it",
      [live({ fee: "1.3" }), booked({ fee: "1.25" }), booked({ fee: "0", revision: 2 })],
      { fee: "1.25" },
    ],
    ["B11 no fee of the best source is no fee", [live({ fee: "0.5" }), booked({ fee: "0" })], { fee: "0" }],
    [
      "a date without a time gives way to the moment that another source knows",
      [live({ occurredAt: 90_000 }), booked({ flags: ["no_time_of_day"], occurredAt: 0 })],
      { flags: [], occurredAt: 90_000, source: "ibkr_flex_activity" },
    ],
    [
      "a date without a time stays one where nobody knows more",
      [booked({ flags: ["no_time_of_day"], occurredAt: 0 })],
      { flags: ["no_time_of_day"], occurredAt: 0 },
    ],
    [
      "the hour that the clocks repeat is settled by the live API, and is better than a date",
      [
        live({ occurredAt: 90_000 }),
        confirmed({ flags: ["ambiguous_time"], occurredAt: 80_000 }),
        booked({ flags: ["no_time_of_day", "margin"], occurredAt: 0 }),
      ],
      { flags: ["margin"], occurredAt: 90_000 },
    ],
    [
      "a doubtful hour is better than a date and stays doubtful",
      [
        confirmed({ flags: ["ambiguous_time"], occurredAt: 80_000 }),
        booked({ flags: ["no_time_of_day"], occurredAt: 0 }),
      ],
      { flags: ["ambiguous_time"], occurredAt: 80_000 },
    ],
  ])("%s, in every order", (_, views, expected) => {
    const merged = orders(views).map(mergeViews);
    for (const [fact, value] of Object.entries(expected)) {
      expect([fact, merged[0]?.[fact as keyof Execution]]).toEqual([fact, value]);
    }
    for (const other of merged) expect(other).toEqual(merged[0]);
  });

  test("what is kept of a view's coming and going is not part of what it says", () => {
    const seen: View = { ...live(), importJobId: "job" as Id<"importJobs">, seenAt: 7 };
    expect(mergeViews([seen])).toEqual(live());
  });
});

describe("viewsAfter", () => {
  const view = (changes: Partial<Execution>): View => ({
    ...ibkrFill("E1", changes),
    importJobId: "job" as Id<"importJobs">,
    seenAt: 7,
  });

  test("a second word of one source on one revision replaces the first", () => {
    const views = [{ fee: "0" }, { fee: "2", source: "ibkr_flex_activity" as const }, { fee: "1" }];
    const after = views.map(view).reduce<View[]>(viewsAfter, []);
    expect(after.map(({ fee, source }) => [source, fee])).toEqual([["ibkr_flex_activity", "2"], ["ibkr_live", "1"]]);
  });

  test("the best are kept, whichever came first", () => {
    const all = Array.from({ length: MAX_VIEWS + 3 }, (_, index) => view({ revision: index + 1 }));
    for (const order of [all, all.toReversed()]) {
      const kept = order.reduce<View[]>(viewsAfter, []).map(({ revision }) => revision);
      expect(kept).toEqual([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4]);
    }
  });
});

test("B10 the history is what was said before, oldest first, each as the best source told it", () => {
  const views = [
    ibkrFill("E1", { price: "1" }),
    flexFill("E1", { fee: "1.25", price: "1.5" }),
    flexFill("E1", { fee: "0", price: "2", revision: 2 }),
    ibkrFill("E1", { price: "3", revision: 4 }),
  ];
  for (const order of orders(views)) {
    expect(earlierRevisions(order).map(({ fee, price, revision }) => [revision, price, fee])).toEqual([
      [1, "1.5", "1.25"],
      [2, "2", "1.25"],
    ]);
  }
});

test("two views say the same only if every fact and flag is the same", () => {
  const fill = flexFill("E1", { flags: ["margin", "liquidation"] });
  expect(sameFacts(fill, { ...fill, flags: ["liquidation", "margin"], rawPayload: "[]", source: "ibkr_live" })).toBe(true);
  for (const changes of [{ flags: [] }, { fee: "0" }, { transactionId: "2" }, { tradeId: undefined }, { occurredAt: 1 }]) {
    expect(sameFacts(fill, { ...fill, ...changes })).toBe(false);
  }
});

describe("isVoided", () => {
  const original = flexFill("E1");
  const rebooked = flexFill("E1", { revision: 2, transactionId: "X-E1-2" });
  const seenLive = ibkrFill("E1");
  const confirmed = flexFill("E1", { source: "ibkr_flex_confirm", transactionId: undefined });
  const cancel = flexCancel("E1", "C1");
  const second = flexCancel("E1", "C2", { cancels: "tx:X-E1-2" });
  const nameless = flexCancel("E1", "C3", { cancels: "trade:T-E1" });

  test.each<[string, Execution[], Execution[], boolean]>([
    ["no cancel", [original], [], false],
    ["nothing known of it but a revision 0", [ibkrFill("E1", { revision: 0 })], [], false],
    ["B8 its booking", [original], [cancel], true],
    ["B8 its booking, the cancel without a trade id", [original], [{ ...cancel, tradeId: undefined }], true],
    ["B8 its trade, in a confirmation", [confirmed], [confirmCancel("E1")], true],
    ["B8 its trade, in a confirmation, the booking known", [original], [confirmCancel("E1")], true],
    ["B8 its booking, known by its trade", [seenLive, confirmed], [cancel], true],
    ["a fill of which no booking is known", [seenLive], [cancel, confirmCancel("E1")], false],
    ["another trade", [original], [flexCancel("E2", "C1"), confirmCancel("E2")], false],
    ["B9 the booking before the last", [original, rebooked], [cancel], false],
    ["B9 the booking before the last, which is not known", [rebooked], [cancel, confirmCancel("E1")], false],
    ["B9 one booking of two, in a confirmation", [original, rebooked], [confirmCancel("E1")], false],
    ["B9 one cancel in two kinds of statement", [original, rebooked], [cancel, confirmCancel("E1")], false],
    ["B9 one cancel, the rebooking seen live only", [original, ibkrFill("E1", { revision: 2 })], [cancel, confirmCancel("E1")], false],
    ["the rebooking", [original, rebooked], [second], true],
    ["both bookings", [original, rebooked], [cancel, second], true],
    ["both bookings, the last one seen live only", [original, ibkrFill("E1", { revision: 2 })], [cancel, second], true],
    ["both bookings, in confirmations", [original, rebooked], [confirmCancel("E1"), confirmCancel("E1", 2)], true],
    ["both bookings, the second not yet in the activity statement", [original, rebooked], [cancel, confirmCancel("E1"), confirmCancel("E1", 2)], true],
    ["a booking, by its trade's id alone", [original], [nameless], true],
    ["B9 a rebooking that has no id in common but the trade's", [flexFill("tx:R", { tradeId: "T-E1", transactionId: "R" })], [cancel], false],
  ])("%s, in every order", (_, views, cancels, expected) => {
    for (const seen of orders(views)) {
      for (const said of orders(cancels)) expect(isVoided(seen, said)).toBe(expected);
    }
  });
});

describe("materialise", () => {
  test.each<[string, Execution, string[]]>([
    ["a fill of Interactive Brokers", ibkrFill("E1"), []],
    ["a spot fill of Kraken", execution("T1"), []],
    ["a margin fill of Kraken", execution("T1", { flags: ["margin", "liquidation"] }), ["margin", "liquidation"]],
    ["a token", execution("T1", { assetClass: "tokenized" }), ["tokenized"]],
  ])("%s is flagged", (_, fill, flags) => {
    const { place } = materialise(fill);
    if (place === null) throw new Error("held");
    const legs = legsOf({ ...fill, side: place.side }, FLAT);
    expect(tradesOf(fill, place, legs)).toMatchObject([{ importFlags: flags }]);
  });

  test("a cancel becomes no trade", () => {
    expect(materialise(flexCancel("E1", "C1"))).toEqual({ heldReason: "original_not_seen", place: null });
  });

  test("B16 an expiry has no side and becomes no trade", () => {
    expect(materialise(ibkrFill("E1", { kind: "expiry", price: "0", side: undefined }))).toEqual({
      heldReason: "kind_not_supported",
      place: null,
    });
  });
});
