import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import { LEASE_MS } from "../../convex/tradeImport/rules/lease";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  ACCOUNT,
  bind,
  claim,
  codeOf,
  connect,
  connectGateway,
  execution,
  finish,
  flexCancel,
  flexFill,
  GATEWAY,
  IBKR_ACCOUNT,
  ibkrFill,
  inboxRows,
  ingest,
  lease,
  plan,
  rows,
  sync,
  T0,
  unbound,
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
    // While a reject waits, each row is looked for among the rejects too.
    const reject = { externalExecutionId: "T499", fingerprint: "f", rawPayload: "{", reason: "r" };
    await ingest(w, held, 0, [], { rejects: [reject] });
    const page = Array.from({ length: 500 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - index }));
    expect(await ingest(w, held, 1, page)).toMatchObject({ inserted: 500 });
    expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: T0 }]);
    expect(await codeOf(ingest(w, held, 2, [...page, execution("T500")]))).toBe("invalid_row");
  }, 60_000);
});

test("the largest batches of Flex stay inside the limits of a transaction, on top of stored rows", async () => {
  const w = world();
  await plan(w, { instrumentSymbol: "AAPL" });
  const held = await lease(w, await connectGateway(w.alice), "manual", IBKR_ACCOUNT);
  const reject = { externalExecutionId: "E499", fingerprint: "f", rawPayload: "{", reason: "r" };
  await ingest(w, held, 1, [], { rejects: [reject, { ...reject, externalExecutionId: "E500", fingerprint: "g" }] });
  // About as long as the row of an activity statement with all its attributes.
  const rawPayload = JSON.stringify({ row: "x".repeat(2_500) });
  const page = (fill: (id: string, changes: Partial<Execution>) => Execution, changes: Partial<Execution> = {}) =>
    Array.from({ length: 500 }, (_, index) =>
      fill(`E${index}`, { occurredAt: T0 - 1_000 * (index + 1), rawPayload, ...changes }),
    );
  const confirmed = { source: "ibkr_flex_confirm", transactionId: undefined } as const;
  expect(await ingest(w, held, 2, page(flexFill, confirmed))).toMatchObject({ inserted: 500 });
  const cancelled = page((id, changes) => flexCancel(id, `C-${id}`, changes));
  expect(await ingest(w, held, 3, page(flexFill))).toMatchObject({ updated: 500 });
  expect(await ingest(w, held, 4, cancelled)).toMatchObject({ held: 0, updated: 500 });
  const anew = page((id, changes) => flexFill(id, { ...changes, revision: 2, transactionId: `X-${id}-2` }));
  expect(await ingest(w, held, 5, anew)).toMatchObject({ updated: 500 });
  const states = (await rows(w, "externalExecutions")).map(({ kind, state }) => `${kind} ${state}`);
  expect([...new Set(states)].sort()).toEqual(["cancel live", "fill live"]);
}, 60_000);

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

  test("B10 a correction replaces the numbers and keeps what they were", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const original = ibkrFill("0000e0d5.6576fd38.01", { rawPayload: "{\"n\":1}" });
    await sync(w, connectionId, [original]);
    const [pending] = await rows(w, "trades");
    if (pending === undefined) throw new Error("no trade");
    const planId = await plan(w, { instrumentSymbol: "AAPL" });
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [pending._id], tradePlanId: planId });

    vi.setSystemTime(at(15));
    const corrected = { ...original, price: "192.3", quantity: "4", rawPayload: "{\"n\":2}", revision: 2 };
    expect(await sync(w, connectionId, [corrected])).toMatchObject({ inserted: 0, updated: 1 });
    expect(await sync(w, connectionId, [original, corrected])).toMatchObject({ known: 2, updated: 0 });

    const jobs = await rows(w, "importJobs");
    const [stored, ...others] = await rows(w, "externalExecutions");
    expect(others).toEqual([]);
    expect(stored).toMatchObject({ importJobId: jobs[0]?._id, price: "192.3", quantity: "4", revision: 2 });
    expect(stored?.views).toEqual([
      { ...corrected, importJobId: jobs[1]?._id, seenAt: at(15) },
      { ...original, importJobId: jobs[0]?._id, seenAt: stored?._creationTime },
    ]);
    expect(await rows(w, "trades")).toMatchObject([
      {
        importFlags: ["changed_by_broker"],
        inboxStatus: "reviewed",
        price: 192.3,
        quantity: 4,
        tradePlanId: planId,
      },
    ]);
  });

  test("B10 both revisions in one batch, in any order, are one row with its history", async () => {
    const first = ibkrFill("E1", { price: "1" });
    const second = { ...first, price: "2", revision: 2 };
    const third = { ...first, price: "3", revision: 3 };
    for (const batch of [[first, second, third], [third, second, first], [second, third, first]]) {
      const w = world();
      expect(await sync(w, await connectGateway(w.alice), batch)).toMatchObject({ inserted: 1, known: 0, updated: 2 });
      const [stored] = await rows(w, "externalExecutions");
      expect(stored?.price).toBe("3");
      expect(stored?.views?.map(({ price, revision }) => [revision, price])).toEqual([[3, "3"], [2, "2"], [1, "1"]]);
      expect((await inboxRows(w.alice))[0]?.history).toMatchObject([
        { price: "1", revision: 1 },
        { price: "2", revision: 2 },
      ]);
      expect(await rows(w, "trades")).toMatchObject([{ price: 3 }]);
    }
  });

  test("B10 a correction to another side is one trade of that side", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [ibkrFill("E1")]);
    await sync(w, connectionId, [ibkrFill("E1", { revision: 2, side: "sell" })]);
    expect(await rows(w, "trades")).toMatchObject([{ side: "sell" }]);
    expect((await rows(w, "externalExecutions"))[0]?.views).toMatchObject([{ side: "sell" }, { side: "buy" }]);
  });

  test("a fill of Interactive Brokers becomes a trade whose direction is a guess", async () => {
    const w = world();
    await sync(w, await connectGateway(w.alice), [ibkrFill("E1")]);
    const [trade] = await rows(w, "trades");
    expect(trade).toMatchObject({
      assetType: "stock",
      brokerAccountRef: IBKR_ACCOUNT,
      importFlags: [],
      source: "ibkr",
      ticker: "AAPL",
    });
    expect(trade).not.toHaveProperty("currency");
    expect(await inboxRows(w.alice)).toMatchObject([{ currency: null, flags: [], side: "buy" }]);
  });

  test("B16 an expiry has no side, is held, and may be corrected", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const expiry = ibkrFill("E1", { assetClass: "future_option", fee: "0", kind: "expiry", price: "0", side: undefined });
    expect(await sync(w, connectionId, [expiry])).toMatchObject({ held: 1, inserted: 0 });
    expect(await sync(w, connectionId, [{ ...expiry, quantity: "2", revision: 2 }])).toMatchObject({ updated: 1 });
    const [stored] = await rows(w, "externalExecutions");
    expect(stored).toMatchObject({ heldReason: "kind_not_supported", quantity: "2", state: "held" });
    expect(stored).not.toHaveProperty("side");
    expect(stored?.views).toMatchObject([{ quantity: "2", revision: 2 }, { quantity: "5", revision: 1 }]);
    expect(await rows(w, "trades")).toHaveLength(0);
  });

  test("a held fill that turns out to be an expiry has no side any more", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [ibkrFill("E1", { assetClass: "option", side: "sell" })]);
    const expiry = ibkrFill("E1", { assetClass: "option", kind: "expiry", revision: 2, side: undefined });
    expect(await sync(w, connectionId, [expiry])).toMatchObject({ updated: 1 });
    const [stored] = await rows(w, "externalExecutions");
    expect(stored).toMatchObject({ heldReason: "kind_not_supported", kind: "expiry", state: "held" });
    expect(stored?.views?.map(({ side }) => side)).toEqual([undefined, "sell"]);
    expect(stored).not.toHaveProperty("side");
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
    ["a fill without a side", { side: undefined }],
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

  test("a reject that names no account waits for its own connection", async () => {
    const w = world();
    const own = await connect(w.alice);
    const held = await lease(w, own);
    await ingest(w, held, 1, [], { rejects: [{ ...reject, externalExecutionId: "T1" }] });
    await finish(w, held);
    await sync(w, await connect(w.alice), [execution("T1")]);
    expect((await rows(w, "importRejects"))[0]).not.toHaveProperty("resolvedAt");
    await sync(w, own, [execution("T1")]);
    expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: T0 }]);
  });

  describe("B18 a row of another account of the login", () => {
    const OTHER = "U7654321";
    const foreign = { ...reject, accountRef: " u7654321", externalExecutionId: "E9" };

    async function seen(w: ReturnType<typeof world>) {
      const held = await lease(w, await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT }), "manual", IBKR_ACCOUNT);
      expect(await ingest(w, held, 1, [ibkrFill("E1")], { rejects: [foreign] })).toMatchObject({ rejected: 1 });
      return held;
    }

    test("waits for the account to be connected, and is resolved by its row there", async () => {
      const w = world();
      const held = await seen(w);
      // The same id in one's own account is another execution.
      await ingest(w, held, 2, [ibkrFill("E9")]);
      const [open] = await rows(w, "importRejects");
      expect(open).toMatchObject({ accountRef: OTHER });
      expect(open).not.toHaveProperty("resolvedAt");
      vi.setSystemTime(at(1));
      const other = await connectGateway(w.alice, { accountRef: OTHER });
      await sync(w, other, [ibkrFill("E8", { accountRef: OTHER })]);
      expect((await rows(w, "importRejects"))[0]).not.toHaveProperty("resolvedAt");
      await sync(w, other, [ibkrFill("E9", { accountRef: OTHER })]);
      expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: at(1) }]);
      expect((await w.alice.query(api.tradeImport.inbox.counts, {})).rejects).toBe(0);
    });

    test("is resolved at once where the account's connection was first", async () => {
      const w = world();
      const other = await connectGateway(w.alice, { accountRef: OTHER });
      await sync(w, other, [ibkrFill("E9", { accountRef: OTHER })]);
      await seen(w);
      expect(await rows(w, "importRejects")).toMatchObject([{ resolvedAt: T0 }]);
    });

    test("is nothing to another owner with that account", async () => {
      const w = world();
      await seen(w);
      const bobs = await connectGateway(w.bob, { accountRef: OTHER });
      await sync(w, bobs, [ibkrFill("E9", { accountRef: OTHER })]);
      expect((await rows(w, "importRejects"))[0]).not.toHaveProperty("resolvedAt");
    });
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

  test("says whose connection it is and which other accounts its owner has connected", async () => {
    const w = world();
    const own = await connectGateway(w.alice, { accountRef: "U2" });
    await connectGateway(w.alice, { accountRef: "u3" });
    await connectGateway(w.alice, { accountRef: "U1" }, "https://localhost:5001");
    const gone = await connectGateway(w.alice, { accountRef: "U8" });
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId: gone });
    await connectGateway(w.bob, { accountRef: "U9" });
    await sync(w, await connect(w.alice), []);
    expect((await unbound(w, own)).connection).toMatchObject({
      accountRef: "U2",
      auth: { baseUrl: GATEWAY, kind: "ibkr_gateway" },
      otherAccounts: ["U1", "U3"],
      ownerId: "https://clerk.example|alice",
      provider: "ibkr",
    });
  });

  test("binds an account of Interactive Brokers in upper case", async () => {
    const w = world();
    const held = await unbound(w, await connectGateway(w.alice));
    expect(await bind(w, held, " u1234567 ")).toEqual({ accountRef: IBKR_ACCOUNT });
    expect(await bind(w, held, "U1234567")).toEqual({ accountRef: IBKR_ACCOUNT });
    expect(await codeOf(bind(w, held, "U7654321"))).toBe("other_account");
    expect(await codeOf(bind(w, held, " "))).toBe("other_account");
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ accountRef: IBKR_ACCOUNT }]);
  });

  test("binds no account twice to one login", async () => {
    const w = world();
    const named = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const held = await unbound(w, await connectGateway(w.alice));
    expect(await codeOf(bind(w, held, IBKR_ACCOUNT))).toBe("other_account");
    expect((await rows(w, "brokerageConnections"))[1]).not.toHaveProperty("accountRef");
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId: named });
    expect(await bind(w, held, IBKR_ACCOUNT)).toEqual({ accountRef: IBKR_ACCOUNT });
  });

  test.each([
    ["through another gateway", "https://localhost:5001"],
    ["of another owner", GATEWAY],
  ])("binds an account a second time %s", async (_, baseUrl) => {
    const w = world();
    await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const user = baseUrl === GATEWAY ? w.bob : w.alice;
    const held = await unbound(w, await connectGateway(user, {}, baseUrl));
    expect(await bind(w, held, IBKR_ACCOUNT)).toEqual({ accountRef: IBKR_ACCOUNT });
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

  const notDue = { granted: false, reason: "not_due" };

  test("C1 an ended login waits for a person; a claim comes early once the worker has seen one", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const problem = { action: "Log in.", code: "login_needed", sentence: "Nobody is logged in.", url: GATEWAY };
    await finish(w, await unbound(w, connectionId), { problem, reason: "auth", status: "blocked_reauth" });
    vi.setSystemTime(at(60));
    expect(await claim(w, connectionId)).toEqual(notDue);
    expect(await w.alice.query(api.tradeImport.connections.list, { now: at(60) })).toMatchObject([
      { health: { action: "Log in.", sentence: "Nobody is logged in.", since: T0, state: "needs_reauth", url: GATEWAY } },
    ]);
    expect(await w.alice.query(api.tradeImport.jobs.list, { paginationOpts: { cursor: null, numItems: 1 } })).toMatchObject({
      page: [{ errorSummary: problem, status: "blocked_reauth" }],
    });
    const early = await claim(w, connectionId, "scheduled", true);
    expect(early).toMatchObject({ granted: true, lease: { connection: { status: "needs_reauth" }, mode: "scheduled" } });
    if (!early.granted) throw new Error("not granted");
    await finish(w, early.lease);
    const [state] = await rows(w, "connectionSyncState");
    expect(state).not.toHaveProperty("problem");
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ lastSyncAt: at(60), status: "active" }]);
    expect(await claim(w, connectionId, "scheduled", true)).toEqual(notDue);
  });

  test.each([
    ["maintenance", "A reset."],
    ["unavailable", "The gateway is away."],
    ["rate_limited", "A pause."],
  ] as const)("C1 what a person must do outlasts a job that ends in %s", async (reason, sentence) => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const login = { action: "Log in.", code: "login_needed", sentence: "Nobody is logged in.", url: GATEWAY };
    await finish(w, await unbound(w, connectionId), { problem: login, reason: "auth", status: "blocked_reauth" });
    vi.setSystemTime(at(60));
    const asked = await claim(w, connectionId, "manual");
    if (!asked.granted) throw new Error("not granted");
    await finish(w, asked.lease, { problem: { action: "", code: "other", sentence }, reason, status: "failed" });
    expect(await w.alice.query(api.tradeImport.connections.list, { now: at(60) })).toMatchObject([
      { health: { sentence: "Nobody is logged in.", since: T0, state: "needs_reauth", url: GATEWAY }, problem: login },
    ]);
    expect(await w.alice.query(api.tradeImport.jobs.list, { paginationOpts: { cursor: null, numItems: 1 } })).toMatchObject({
      page: [{ errorSummary: { sentence }, status: "failed" }],
    });
  });

  test("C2 another session ends the wait for a login, shows as its own state, and clears", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const login = { action: "Log in.", code: "login_needed", sentence: "Nobody is logged in.", url: GATEWAY };
    await finish(w, await unbound(w, connectionId), { problem: login, reason: "auth", status: "blocked_reauth" });
    const beat = { startedAt: T0, version: "1.0", workerId: "w1" };
    await w.worker.mutation(api.tradeImport.worker.beat, beat);
    const problem = { action: "Log out there.", code: "session_in_use", sentence: "In use elsewhere." };
    const outcome = { problem, reason: "session_in_use", status: "failed" } as const;
    await finish(w, await unbound(w, connectionId), outcome, 300_000);
    const health = async () => (await w.alice.query(api.tradeImport.connections.list, { now: T0 }))[0]?.health;
    expect(await health()).toEqual({
      action: "Log out there.",
      sentence: "In use elsewhere.",
      since: T0,
      state: "in_use_elsewhere",
      until: at(5),
    });
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ status: "active" }]);
    expect((await rows(w, "connectionSyncState"))[0]).not.toHaveProperty("requestedAt");
    expect(await claim(w, connectionId)).toEqual(notDue);
    const early = await claim(w, connectionId, "scheduled", true);
    if (!early.granted) throw new Error("not granted");
    await finish(w, early.lease);
    expect(await health()).toMatchObject({ state: "ok" });
  });

  test("A6 no early claim shortens a pause the broker asked for", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const problem = { action: "", code: "rate_limited", sentence: "Too many calls." };
    await finish(w, await unbound(w, connectionId), { problem, reason: "rate_limited", status: "failed" });
    vi.setSystemTime(at(15) - 1);
    expect(await claim(w, connectionId, "scheduled", true)).toEqual(notDue);
    vi.setSystemTime(at(15));
    expect(await claim(w, connectionId, "scheduled", true)).toMatchObject({ granted: true });
  });

  test("E10 a gap that the broker no longer remembers is shown while the connection goes on", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const problem = { action: "Import a statement.", code: "gap", sentence: "Two days are missing." };
    await w.worker.mutation(api.tradeImport.worker.beat, { startedAt: T0, version: "1.0", workerId: "w1" });
    await finish(w, await unbound(w, connectionId), { problem, reason: "gap", status: "partial" });
    expect(await w.alice.query(api.tradeImport.connections.list, { now: T0 })).toMatchObject([
      { health: { action: "Import a statement.", sentence: "Two days are missing.", state: "degraded" }, lastSyncAt: T0 },
    ]);
  });

  test("the breaker is there to be seen", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const breaker = async () => (await w.alice.query(api.tradeImport.connections.list, {}))[0]?.breaker;
    expect(await breaker()).toEqual({ failures: 0, phase: "closed", until: null });
    const held = await lease(w, connectionId);
    await w.worker.mutation(api.tradeImport.worker.finish, {
      breaker: { failures: 5, openedAt: T0, phase: "open", until: at(30) },
      counts: { errors: 1, fetched: 0, remembered: 0, skipped: 0 },
      fence: held.fence,
      jobId: held.jobId,
      nextSyncIn: 1_800_000,
      outcome: { reason: "unavailable", status: "failed" },
    });
    expect(await breaker()).toEqual({ failures: 5, phase: "open", until: at(30) });
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

test("A15 a login's session is kept up by the worker that got the last lease of any of its connections", async () => {
  const w = world();
  const first = await connectGateway(w.alice, { accountRef: "U1110001" });
  const second = await connectGateway(w.alice, { accountRef: "U1110002" });
  const elsewhere = await connectGateway(w.alice, {}, "https://localhost:5001");
  const keepers = async () => {
    const watched = await w.worker.query(api.tradeImport.worker.watch, {});
    return [first, second, elsewhere].map((id) => watched.find(({ connectionId }) => connectionId === id)?.keptBy);
  };
  expect(await keepers()).toEqual([undefined, undefined, undefined]);
  await finish(w, await unbound(w, first));
  expect(await keepers()).toEqual(["w1", "w1", undefined]);
  const args = { connectionId: second, mode: "manual" as const, workerId: "w2" };
  expect(await w.worker.mutation(api.tradeImport.worker.claim, args)).toMatchObject({ granted: true });
  expect(await keepers()).toEqual(["w2", "w2", undefined]);
});

test("a beat is one row a worker", async () => {
  const w = world();
  for (const workerId of ["w1", "w2", "w1"]) {
    const beat = { startedAt: T0, version: "1.0", workerId };
    expect(await w.worker.mutation(api.tradeImport.worker.beat, beat)).toEqual({ serverNow: T0 });
  }
  expect(await rows(w, "workerHeartbeats")).toHaveLength(2);
});
