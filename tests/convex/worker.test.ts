import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import { LEASE_MS } from "../../convex/tradeImport/rules/lease";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  ACCOUNT,
  claim,
  codeOf,
  connect,
  execution,
  finish,
  ingest,
  lease,
  plan,
  rows,
  sync,
  T0,
  world,
} from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0, toFake: ["Date"] });
});
afterEach(() => {
  vi.useRealTimers();
});

const at = (minutes: number) => T0 + minutes * 60_000;

describe("ingest: exactly once", () => {
  test("A replay finds everything known, in the same job and in the next", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const page = [execution("T1"), execution("T2", { side: "sell" })];
    const held = await lease(w, connectionId);
    expect(await ingest(w, held, 1, page)).toMatchObject({ inserted: 2, known: 0, updated: 0 });
    expect(await ingest(w, held, 2, page)).toMatchObject({ inserted: 0, known: 2, updated: 0 });
    await finish(w, held);
    expect(await sync(w, connectionId, page)).toMatchObject({ inserted: 0, known: 2, updated: 0 });
    expect(await rows(w, "externalExecutions")).toHaveLength(2);
    expect(await rows(w, "trades")).toHaveLength(2);
  });

  test("B1 a row twice in one batch is stored once", async () => {
    const w = world();
    const result = await sync(w, await connect(w.alice), [execution("T1"), execution("T1")]);
    expect(result).toMatchObject({ inserted: 1, known: 1 });
    expect(await rows(w, "trades")).toHaveLength(1);
  });

  test("B2 every order of pages ends in the same state", async () => {
    const page = [
      [execution("T1", { occurredAt: at(-9) }), execution("T2", { occurredAt: at(-8) })],
      [execution("T3", { occurredAt: at(-7), side: "sell" })],
      [execution("T4", { assetClass: "future", occurredAt: at(-6) }), execution("T5", { occurredAt: at(-5) })],
    ] as const;
    const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] as const;
    const ends = [];
    for (const order of orders) {
      const w = world();
      await plan(w);
      const held = await lease(w, await connect(w.alice));
      for (const [index, which] of order.entries()) await ingest(w, held, index + 1, [...page[which]]);
      const trades = await rows(w, "trades");
      ends.push(
        trades
          .map((trade) => [trade.externalExecutionId, trade.side, trade.suggestionReason, trade.inboxStatus])
          .sort((a, b) => String(a[0]).localeCompare(String(b[0]))),
      );
    }
    expect(ends[0]).toEqual([
      ["T1", "buy", "symbol_and_side_match", "pending_review"],
      ["T2", "buy", "symbol_and_side_match", "pending_review"],
      ["T3", "sell", "symbol_and_side_match", "pending_review"],
      ["T5", "buy", "symbol_and_side_match", "pending_review"],
    ]);
    for (const end of ends) expect(end).toEqual(ends[0]);
  });

  test("B6 equal second, price, size and side under two ids are two fills", async () => {
    const w = world();
    const twins = [execution("T1", { ingestionHash: "same" }), execution("T2", { ingestionHash: "same" })];
    expect(await sync(w, await connect(w.alice), twins)).toMatchObject({ inserted: 2 });
    expect(await rows(w, "trades")).toHaveLength(2);
  });

  test("a row without an id is known by its hash, and never matches a row with an id", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const named = execution("T1", { ingestionHash: "h" });
    const nameless = execution(undefined, { ingestionHash: "h" });
    expect(await sync(w, connectionId, [named, nameless])).toMatchObject({ inserted: 2 });
    expect(await sync(w, connectionId, [named, nameless])).toMatchObject({ inserted: 0, known: 2 });
    expect(await rows(w, "externalExecutions")).toHaveLength(2);
  });

  test("two connections of one owner to one account share identity, two owners never do", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1")]);
    expect(await sync(w, await connect(w.alice), [execution("T1")])).toMatchObject({ inserted: 0, known: 1 });
    expect(await sync(w, await connect(w.bob), [execution("T1")])).toMatchObject({ inserted: 1, known: 0 });
  });

  test("trades with equal times are inserted by id, whatever the page's order", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T3"), execution("T1"), execution("T2")]);
    const trades = await rows(w, "trades");
    expect(trades.map((trade) => trade.externalExecutionId)).toEqual(["T1", "T2", "T3"]);
  });

  test("D2 a batch sent again returns its first answer and applies nothing", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    const first = await ingest(w, held, 1, [execution("T1")]);
    vi.setSystemTime(T0 + 1_000);
    expect(await ingest(w, held, 1, [execution("T1")])).toEqual(first);
    await ingest(w, held, 2, [execution("T2")]);
    // A ghost of the first batch, with a coverage that is history by now.
    await ingest(w, held, 1, [execution("T9")], { coverage: [] });
    expect(await rows(w, "trades")).toHaveLength(2);
    const [job] = await rows(w, "importJobs");
    expect(job?.stats).toMatchObject({ inserted: 2, known: 0, pendingReview: 2 });
  });

  test("the largest batch stays inside the limits of a transaction", async () => {
    const w = world();
    await plan(w);
    const held = await lease(w, await connect(w.alice));
    const page = Array.from({ length: 500 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - index }));
    expect(await ingest(w, held, 1, page)).toMatchObject({ inserted: 500 });
    expect(await codeOf(ingest(w, held, 2, [...page, execution("T500")]))).toBe("invalid_row");
  }, 60_000);
});

describe("ingest: what a row becomes", () => {
  test("a spot buy becomes a pending trade with the broker's facts and no link", async () => {
    const w = world();
    const planId = await plan(w, { instrumentSymbol: "xbtusd" });
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1", { flags: ["margin"] })]);
    const [trade] = await rows(w, "trades");
    const [stored] = await rows(w, "externalExecutions");
    const [job] = await rows(w, "importJobs");
    expect(trade).toEqual({
      _creationTime: expect.any(Number) as number,
      _id: stored?.tradeIds[0],
      assetType: "crypto",
      brokerAccountRef: ACCOUNT,
      currency: "USD",
      date: T0 - 3_600_000,
      direction: "long",
      executionId: stored?._id,
      externalExecutionId: "T1",
      externalOrderId: "OORDER-1",
      fee: 0.26,
      feeCurrency: "USD",
      importFlags: ["margin"],
      importJobId: job?._id,
      inboxStatus: "pending_review",
      ownerId: "https://clerk.example|alice",
      price: 30010,
      quantity: 0.5,
      side: "buy",
      source: "kraken",
      suggestedTradePlanId: planId,
      suggestionReason: "symbol_and_side_match",
      ticker: "BTC/USD",
    });
  });

  test("classes and kinds the journal has no place for are held with a reason, once", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const page = [
      execution("T1", { assetClass: "option" }),
      execution("T2", { assetClass: "other", flags: ["unresolved_symbol"] }),
      execution("T3", { kind: "expiry", price: "0", quantity: "0" }),
    ];
    expect(await sync(w, connectionId, page)).toMatchObject({ held: 3, inserted: 0 });
    expect(await sync(w, connectionId, page)).toMatchObject({ held: 0, known: 3 });
    const stored = await rows(w, "externalExecutions");
    expect(stored.map(({ heldReason, state }) => [state, heldReason])).toEqual([
      ["held", "asset_class_not_supported"],
      ["held", "asset_class_not_supported"],
      ["held", "kind_not_supported"],
    ]);
    expect(await rows(w, "trades")).toHaveLength(0);
  });

  test("a held row becomes a trade once its class is known", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1", { assetClass: "other", flags: ["unresolved_symbol"] })]);
    expect(await sync(w, connectionId, [execution("T1")])).toMatchObject({ inserted: 0, updated: 1 });
    const [stored] = await rows(w, "externalExecutions");
    expect(stored).toMatchObject({ state: "live" });
    expect(stored?.heldReason).toBeUndefined();
    expect(await rows(w, "trades")).toHaveLength(1);
  });

  test("B11 news of the broker reach the numbers; the user's decision stays and is marked", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const planId = await plan(w);
    await sync(w, connectionId, [execution("T1"), execution("T2", { side: "sell" })]);
    const [reviewed] = await rows(w, "trades");
    if (reviewed === undefined) throw new Error("no trade");
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [reviewed._id], tradePlanId: planId });
    await w.alice.mutation(api.trades.updateTrade, { notes: "mine", tradeId: reviewed._id });

    const news = [execution("T1", { fee: "0.3" }), execution("T2", { revision: 2, quantity: "0.25", side: "sell" })];
    expect(await sync(w, connectionId, news)).toMatchObject({ known: 0, updated: 2 });
    expect(await sync(w, connectionId, news)).toMatchObject({ known: 2, updated: 0 });
    const [first, second] = await rows(w, "trades");
    expect(first).toMatchObject({
      fee: 0.3,
      importFlags: ["changed_by_broker"],
      inboxStatus: "reviewed",
      notes: "mine",
      tradePlanId: planId,
    });
    expect(second).toMatchObject({ importFlags: [], inboxStatus: "pending_review", quantity: 0.25 });
    // The mark stays until its owner has seen it, also when the next view says nothing new.
    await sync(w, connectionId, [execution("T1", { conid: "1", fee: "0.3", revision: 2 })]);
    expect((await rows(w, "trades"))[0]).toMatchObject({ importFlags: ["changed_by_broker"] });
  });

  test("B10 a lower revision changes nothing", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1", { price: "2", revision: 2 })]);
    expect(await sync(w, connectionId, [execution("T1", { price: "1", revision: 1 })])).toMatchObject({ known: 1 });
    const [trade] = await rows(w, "trades");
    expect(trade?.price).toBe(2);
  });

  test("a field that the broker takes back is gone", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1")]);
    const without: Execution = execution("T1", { revision: 2 });
    delete without.feeCurrency;
    delete without.externalOrderId;
    await sync(w, connectionId, [without]);
    const [stored] = await rows(w, "externalExecutions");
    const [trade] = await rows(w, "trades");
    for (const row of [stored, trade]) {
      expect(row).not.toHaveProperty("feeCurrency");
      expect(row).not.toHaveProperty("externalOrderId");
    }
  });

  test("D9 a row that its owner deleted or dismissed does not come back", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1"), execution("T2")]);
    const [first, second] = await rows(w, "trades");
    if (!first || !second) throw new Error("no trades");
    await w.alice.mutation(api.trades.deleteTrade, { tradeId: first._id });
    await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [second._id] });
    await sync(w, connectionId, [execution("T1"), execution("T2")]);
    await sync(w, connectionId, [execution("T1", { revision: 2 }), execution("T2", { revision: 2 })]);
    expect(await rows(w, "trades")).toHaveLength(0);
    expect(await rows(w, "externalExecutions")).toHaveLength(2);
  });

  test.each<[string, Partial<Execution>]>([
    ["exponent", { price: "3e4" }],
    ["NaN", { quantity: "NaN" }],
    ["thousands", { price: "1,234.5" }],
    ["empty", { fee: "" }],
    ["beyond float64", { price: `1${"0".repeat(400)}` }],
    ["zero fill", { quantity: "0.000" }],
    ["negative fill", { quantity: "-1" }],
    ["time", { occurredAt: Number.NaN }],
    ["empty id", { externalExecutionId: "" }],
  ])("D4 a row with a wrong value is refused with the whole batch: %s", async (_, changes) => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    expect(await codeOf(ingest(w, held, 1, [execution("T1"), execution("T2", changes)]))).toBe("invalid_row");
    expect(await rows(w, "externalExecutions")).toHaveLength(0);
  });

  test("B15 decimals are stored to the last digit", async () => {
    const w = world();
    const exact = { fee: "-0.000000000000000001", price: "123456789012345678901234567890.123456789", quantity: "1" };
    await sync(w, await connect(w.alice), [execution("T1", exact)]);
    expect((await rows(w, "externalExecutions"))[0]).toMatchObject(exact);
  });

  test("C11 rows and credentials of another account are refused", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    const { fence, jobId } = held;
    const rebind = w.worker.mutation(api.tradeImport.worker.bindAccount, { accountRef: "OTHER", fence, jobId });
    expect(await codeOf(rebind)).toBe("other_account");
    expect(await codeOf(ingest(w, held, 1, [execution("T1", { accountRef: "OTHER" })]))).toBe("other_account");
    expect(await codeOf(ingest(w, held, 1, [execution("T1", { provider: "ibkr" })]))).toBe("other_account");
    expect(await rows(w, "externalExecutions")).toHaveLength(0);
  });
});

describe("ingest: rejects", () => {
  const reject = { fingerprint: "f1", rawPayload: "{broken", reason: "side is missing" };

  test("a reject is recorded once and resolved by its execution", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    const named = { ...reject, externalExecutionId: "T1" };
    expect(await ingest(w, held, 1, [], { rejects: [named] })).toMatchObject({ known: 0, rejected: 1 });
    expect(await ingest(w, held, 2, [], { rejects: [named] })).toMatchObject({ known: 1, rejected: 0 });
    expect((await rows(w, "importRejects"))[0]).not.toHaveProperty("resolvedAt");
    vi.setSystemTime(T0 + 5_000);
    await ingest(w, held, 3, [execution("T1"), execution("T2")]);
    expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: T0 + 5_000 }]);
    expect(await ingest(w, held, 4, [], { rejects: [named] })).toMatchObject({ known: 1, rejected: 0 });
  });

  test("B2 the other way round ends the same", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    await ingest(w, held, 1, [execution("T1")]);
    await ingest(w, held, 2, [], { rejects: [{ ...reject, externalExecutionId: "T1" }] });
    expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: T0 }]);
  });

  test("a reject without an id, or of another one, stays open", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    await ingest(w, held, 1, [], {
      rejects: [reject, { ...reject, externalExecutionId: "T2", fingerprint: "f2" }],
    });
    await ingest(w, held, 2, [execution("T1")]);
    for (const stored of await rows(w, "importRejects")) expect(stored).not.toHaveProperty("resolvedAt");
    expect((await w.alice.query(api.tradeImport.inbox.counts, {})).rejects).toBe(2);
  });
});

describe("coverage and progress", () => {
  const covered = { end: at(-1), source: "kraken_trades" as const, start: at(-60) };

  test("are stored with the rows and handed to the next lease", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    expect(held).toMatchObject({ coverage: [], extras: {} });
    await ingest(w, held, 1, [execution("T1")], {
      coverage: [covered],
      extras: { note: "a" },
      progress: { rows: 1, total: 9 },
    });
    await finish(w, held);
    expect(await lease(w, connectionId)).toMatchObject({ coverage: [covered], extras: { note: "a" } });
  });

  test("I2 a refused batch moves no coverage", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    await codeOf(ingest(w, held, 1, [execution("T1", { price: "x" })], { coverage: [covered] }));
    expect(await rows(w, "importCursorState")).toHaveLength(0);
  });
});

describe("the lease", () => {
  test("E3 one worker at a time", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await lease(w, connectionId);
    expect(await claim(w, connectionId, "manual")).toEqual({ granted: false, reason: "held" });
  });

  test("E4 a worker that lost its lease can write nothing", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const old = await lease(w, connectionId);
    vi.setSystemTime(T0 + LEASE_MS);
    const taken = await lease(w, connectionId);
    expect(taken.fence).toBe(old.fence + 1);
    expect(await codeOf(ingest(w, old, 1, [execution("T1")]))).toBe("lease_lost");
    expect(await codeOf(ingest(w, { fence: taken.fence, jobId: old.jobId }, 1, []))).toBe("lease_lost");
    expect(await codeOf(ingest(w, { fence: old.fence, jobId: taken.jobId }, 1, []))).toBe("lease_lost");
    expect(await finish(w, old)).toEqual({ status: "failed" });
    expect(await rows(w, "externalExecutions")).toHaveLength(0);
    const jobs = await rows(w, "importJobs");
    expect(jobs).toMatchObject([
      { finishedAt: T0 + LEASE_MS, reason: "lease_lost", status: "failed" },
      { status: "running" },
    ]);
    expect(await ingest(w, taken, 1, [execution("T1")])).toMatchObject({ inserted: 1 });
  });

  test("an expired lease that nobody took still counts, and is extended", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    vi.setSystemTime(T0 + LEASE_MS + 1);
    expect(await ingest(w, held, 1, [])).toMatchObject({ expiresAt: T0 + 2 * LEASE_MS + 1 });
  });

  test("is extended only when less than half is left", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    vi.setSystemTime(T0 + LEASE_MS / 2);
    expect(await ingest(w, held, 1, [])).toMatchObject({ expiresAt: T0 + LEASE_MS });
    vi.setSystemTime(T0 + LEASE_MS / 2 + 1);
    expect(await ingest(w, held, 2, [])).toMatchObject({ expiresAt: T0 + (3 * LEASE_MS) / 2 + 1 });
  });

  test("D9 disconnecting ends the running job", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId });
    expect(await codeOf(ingest(w, held, 1, [execution("T1")]))).toBe("lease_lost");
    expect(await claim(w, connectionId, "manual")).toEqual({ granted: false, reason: "disconnected" });
    expect(await rows(w, "importJobs")).toMatchObject([{ reason: "cancelled", status: "failed" }]);
    expect(await w.worker.query(api.tradeImport.worker.watch, {})).toEqual([]);
  });

  test.each(["", "nonsense", "0;brokerageConnections"])("no id at all is unknown: «%s»", async (connectionId) => {
    expect(await claim(world(), connectionId)).toEqual({ granted: false, reason: "unknown" });
  });
});

describe("finish", () => {
  const auth = {
    apiKey: "another-key-1234",
    apiSecret: "bmV3LXNlY3JldC1uZXctc2VjcmV0LW5ldw==",
    kind: "kraken" as const,
  };

  test("ends the job with its counts and is safe to repeat", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    await ingest(w, held, 1, [execution("T1"), execution("T2", { assetClass: "cfd" })], {
      rejects: [{ fingerprint: "f", rawPayload: "", reason: "r" }],
    });
    const args = {
      breaker: { failures: 0, phase: "closed" as const },
      counts: { errors: 1, fetched: 8, remembered: 5, skipped: 2 },
      fence: held.fence,
      jobId: held.jobId,
      nextSyncIn: 900_000,
      outcome: { reason: "bad_records" as const, status: "partial" as const },
      window: { end: T0, start: at(-60) },
    };
    expect(await w.worker.mutation(api.tradeImport.worker.finish, args)).toEqual({ status: "partial" });
    vi.setSystemTime(T0 + 1_000);
    expect(await w.worker.mutation(api.tradeImport.worker.finish, { ...args, nextSyncIn: 1 })).toEqual({
      status: "partial",
    });
    const [job] = await rows(w, "importJobs");
    expect(job).toMatchObject({ finishedAt: T0, reason: "bad_records", windowEnd: T0, windowStart: at(-60) });
    // I4: fetched = inserted + updated + known + held + rejected.
    expect(job?.stats).toEqual({
      errors: 1,
      fetched: 8,
      held: 1,
      inserted: 1,
      known: 5,
      pendingReview: 1,
      rejected: 1,
      skipped: 2,
      updated: 0,
    });
    expect(await rows(w, "connectionSyncState")).toMatchObject([{ nextSyncAt: at(15) }]);
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ lastSyncAt: T0, status: "active" }]);
  });

  test("C7 refused credentials wait for a person; new ones start a sync", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    const problem = { action: "Make a new key.", code: "invalid_key", sentence: "Kraken does not know the key." };
    await finish(w, held, { problem, reason: "auth", status: "blocked_reauth" });
    vi.setSystemTime(at(60));
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
    expect(await w.alice.query(api.tradeImport.connections.list, {})).toMatchObject([
      { health: { action: "Make a new key.", since: T0, state: "needs_reauth" }, status: "needs_reauth" },
    ]);
    await w.alice.mutation(api.tradeImport.connections.updateCredentials, { auth, connectionId });
    expect(await claim(w, connectionId)).toMatchObject({
      granted: true,
      lease: { connection: { auth, authVersion: 2, status: "active" }, mode: "manual" },
    });
  });

  test("what a job learns about replaced credentials is no news", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    await w.alice.mutation(api.tradeImport.connections.updateCredentials, { auth, connectionId });
    await finish(w, held, { reason: "auth", status: "blocked_reauth" });
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ status: "active" }]);
    expect(await claim(w, connectionId)).toMatchObject({ granted: true });
  });

  test("a problem keeps its beginning while it stands and goes with its cause", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const problem = { action: "", code: "unavailable", sentence: "Kraken does not answer." };
    await finish(w, await lease(w, connectionId), { problem, reason: "unavailable", status: "failed" });
    vi.setSystemTime(at(15));
    await finish(w, await lease(w, connectionId), { problem, reason: "unavailable", status: "failed" });
    expect(await rows(w, "connectionSyncState")).toMatchObject([{ problem, problemSince: T0 }]);
    await finish(w, await lease(w, connectionId));
    const [state] = await rows(w, "connectionSyncState");
    expect(state).not.toHaveProperty("problem");
    expect(state).not.toHaveProperty("problemSince");
  });
});

test("watch lists what could be synced, without credentials", async () => {
  const w = world();
  const connectionId = await connect(w.alice);
  expect(await w.worker.query(api.tradeImport.worker.watch, {})).toEqual([
    { authVersion: 1, connectionId, kind: "kraken", label: "Main", nextSyncAt: T0, status: "active" },
  ]);
});

test("a beat is one row a worker", async () => {
  const w = world();
  for (const workerId of ["w1", "w2", "w1"]) {
    const beat = { startedAt: T0, version: "1.0", workerId };
    expect(await w.worker.mutation(api.tradeImport.worker.beat, beat)).toEqual({ serverNow: T0 });
  }
  expect(await rows(w, "workerHeartbeats")).toHaveLength(2);
});
