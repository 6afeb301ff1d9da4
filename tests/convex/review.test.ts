// What the user decides about rows, and what stands by it: twins, figures, suggestions, news of the broker.
import type { FunctionArgs } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { refreshAllSuggestions } from "../../convex/tradeImport/planChanges";
import { withDirection } from "../../convex/tradeImport/rules/corrections";
import { plannedAgainstUnplanned } from "../../convex/tradeImport/rules/planned";
import { fingerprintOf } from "../../convex/tradeImport/rules/plans";
import { isTwin } from "../../convex/tradeImport/rules/twins";
import type { ImportFlag } from "../../convex/tradeImport/validators";
import {
  ACCOUNT,
  codeOf,
  connect,
  connectGateway,
  execution,
  flexCancel,
  flexFill,
  ibkrFill,
  inboxRows,
  ingest,
  lease,
  plan,
  rows,
  sync,
  T0,
  world,
  type World,
} from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0 });
});
afterEach(() => {
  vi.useRealTimers();
});

const HOUR = 3_600_000;
const inbox = api.tradeImport.inbox;

async function settle(w: World): Promise<void> {
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
}

async function idOf(w: World, id: string): Promise<Id<"trades">> {
  const found = (await rows(w, "trades")).find(({ externalExecutionId }) => externalExecutionId === id);
  if (found === undefined) throw new Error(`no trade ${id}`);
  return found._id;
}

/** By the execution's id. */
function byId<Value>(entries: [string | null | undefined, Value][]): Record<string, Value> {
  return Object.fromEntries(entries.map(([id, value]) => [id ?? "", value]));
}

async function statusOf(w: World) {
  return byId((await rows(w, "trades")).map(({ externalExecutionId: id, inboxStatus }) => [id, inboxStatus]));
}

async function typed(w: World, changes: object = {}) {
  return await w.alice.mutation(api.trades.createTrade, {
    assetType: "crypto" as const,
    date: T0 - HOUR,
    direction: "long" as const,
    price: 30_010,
    quantity: 0.5,
    side: "buy" as const,
    ticker: "BTCUSD",
    ...changes,
  });
}

describe("review of an order", () => {
  const orderId = { accountRef: ACCOUNT, externalOrderId: "O1", provider: "kraken" as const };

  test("decides all its pending fills and no other row, in one call", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    await sync(w, await connect(w.alice), [
      execution("T1", { externalOrderId: "O1", occurredAt: T0 - 4 }),
      execution("T2", { externalOrderId: "O1", occurredAt: T0 - 3 }),
      execution("T3", { externalOrderId: "O2", occurredAt: T0 - 2 }),
      execution("T4", { externalOrderId: "O1", occurredAt: T0 - 1 }),
    ]);
    await w.alice.mutation(inbox.review, { notes: "mine", tradeIds: [await idOf(w, "T1")] });
    expect(await w.alice.mutation(inbox.review, { notes: "all", orderId, tradePlanId })).toEqual({ reviewed: 2 });
    const trades = await rows(w, "trades");
    expect(trades.map(({ inboxStatus, notes, tradePlanId: link }) => [inboxStatus, notes, link])).toEqual([
      ["reviewed", "mine", undefined],
      ["reviewed", "all", tradePlanId],
      ["pending_review", undefined, undefined],
      ["reviewed", "all", tradePlanId],
    ]);
    expect(await w.alice.mutation(inbox.review, { orderId })).toEqual({ reviewed: 0 });
  });

  test("of another owner, or unknown, is not found; one of the two must be said", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1", { externalOrderId: "O1" })]);
    expect(await codeOf(w.bob.mutation(inbox.review, { orderId }))).toBe("not_found");
    expect(await codeOf(w.alice.mutation(inbox.review, { orderId: { ...orderId, externalOrderId: "O9" } }))).toBe("not_found");
    const tradeIds = [await idOf(w, "T1")];
    expect(await codeOf(w.alice.mutation(inbox.review, {}))).toBe("invalid_argument");
    expect(await codeOf(w.alice.mutation(inbox.review, { orderId, tradeIds }))).toBe("invalid_argument");
    expect(await statusOf(w)).toEqual({ T1: "pending_review" });
  });

  test("a plan that does not exist leaves all fills as they were", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    await w.t.run(async (ctx) => await ctx.db.delete("tradePlans", tradePlanId));
    await sync(w, await connect(w.alice), [execution("T1", { externalOrderId: "O1" })]);
    expect(await codeOf(w.alice.mutation(inbox.review, { orderId, tradePlanId }))).toBe("not_found");
    expect(await statusOf(w)).toEqual({ T1: "pending_review" });
  });
});

describe("what a review puts right", () => {
  const row = (side: "buy" | "sell", direction: "long" | "short", importFlags: ImportFlag[]) => ({ direction, importFlags, side });
  test.each([
    ["nothing said", row("sell", "short", ["direction_guessed"]), undefined, {}],
    ["a guess confirmed", row("sell", "short", ["direction_guessed"]), "short", { direction: "short", importFlags: [] }],
    [
      "a sale that closed a long",
      row("sell", "short", ["direction_guessed", "margin"]),
      "long",
      { direction: "long", importFlags: ["margin"] },
    ],
    [
      "a close that was an opening",
      row("sell", "long", ["opening_lot_unknown"]),
      "short",
      { direction: "short", importFlags: [] },
    ],
    [
      "a close that is still one",
      row("sell", "long", ["opening_lot_unknown"]),
      "long",
      { direction: "long", importFlags: ["opening_lot_unknown"] },
    ],
  ] as const)("%s", (_, before, direction, after) => {
    expect(withDirection({ ...before, importFlags: [...before.importFlags] }, direction)).toEqual(after);
  });

  test("a direction put right stays, whatever is derived later", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [ibkrFill("E2", { occurredAt: T0 - 2, side: "sell" })]);
    expect(await rows(w, "trades")).toMatchObject([{ direction: "short", importFlags: ["direction_guessed"] }]);
    await w.alice.mutation(inbox.review, { direction: "short", tradeIds: [await idOf(w, "E2")] });
    await settle(w);
    expect(await rows(w, "trades")).toMatchObject([{ direction: "short", importFlags: [] }]);
    await w.alice.mutation(inbox.review, { direction: "long", tradeIds: [await idOf(w, "E2")] });
    await settle(w);
    // A close of a long position that nobody has seen opened.
    expect(await rows(w, "trades")).toMatchObject([{ direction: "long", importFlags: ["opening_lot_unknown"] }]);
    await sync(w, connectionId, [ibkrFill("E1", { occurredAt: T0 - 3 })]);
    await w.alice.mutation(inbox.review, { tradeIds: [await idOf(w, "E1")] });
    await settle(w);
    const [sale] = await rows(w, "trades");
    expect(sale).toMatchObject({ direction: "long", importFlags: [] });
  });

  test("notes are set, kept and cleared, and not without end", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1")]);
    const tradeIds = [await idOf(w, "T1")];
    const notesAfter = async (notes?: string | null) => {
      await w.alice.mutation(inbox.review, { notes, tradeIds });
      return (await rows(w, "trades"))[0]?.notes;
    };
    expect(await notesAfter("first")).toBe("first");
    expect(await notesAfter()).toBe("first");
    expect(await notesAfter(null)).toBeUndefined();
    expect(await codeOf(notesAfter("x".repeat(10_001)))).toBe("invalid_argument");
  });

  test.each(["=HYPERLINK(\"http://x\")", "<script>alert(1)</script>", "a\u202Egpj.exe"])(
    "F10 «%s» in notes and symbols is stored and returned as the text it is",
    async (text) => {
      const w = world();
      await sync(w, await connect(w.alice), [execution("T1", { rawSymbol: text })]);
      await w.alice.mutation(inbox.review, { notes: text, tradeIds: [await idOf(w, "T1")] });
      expect(await inboxRows(w.alice, { status: "reviewed" })).toMatchObject([{ notes: text, rawSymbol: text }]);
    },
  );

  test("F10 a symbol without end is refused by name, and a reject of it is cut", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    const endless = "x".repeat(1_000_000);
    for (const changes of [{ symbol: endless }, { rawSymbol: endless }, { externalOrderId: endless }]) {
      expect(await codeOf(ingest(w, held, 1, [execution("T1", changes)]))).toBe("invalid_row");
    }
    await ingest(w, held, 1, [], { rejects: [{ fingerprint: "F", rawPayload: endless, reason: `bad\n${endless}` }] });
    const [reject] = await rows(w, "importRejects");
    expect(reject?.rawPayload.length).toBe(131_072);
    expect(reject?.reason).toBe("bad");
  });

  test("F5 one foreign or missing id in a bulk leaves all of it unchanged", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1")]);
    await sync(w, await connect(w.bob), [execution("T9")]);
    const [mine, theirs] = [await idOf(w, "T1"), await idOf(w, "T9")];
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    await w.t.run(async (ctx) => await ctx.db.delete("campaigns", campaignId));
    const before = await rows(w, "trades");
    expect(await codeOf(w.alice.mutation(inbox.review, { tradeIds: [mine, theirs] }))).toBe("not_found");
    expect(await codeOf(w.alice.mutation(inbox.review, { campaignId, tradeIds: [mine] }))).toBe("not_found");
    expect(await codeOf(w.alice.mutation(inbox.dismiss, { tradeIds: [mine, theirs] }))).toBe("not_found");
    expect(await codeOf(w.alice.mutation(inbox.acknowledge, { tradeIds: [mine, theirs] }))).toBe("not_found");
    expect(await rows(w, "trades")).toEqual(before);
  });
});

describe("review all as unlinked", () => {
  test("takes what the filter shows, without any link", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [
      execution("T1", { occurredAt: T0 - 3 }),
      execution("T2", { occurredAt: T0 - 2, symbol: "ETH/USD" }),
      execution("T3", { occurredAt: T0 - 1 }),
    ]);
    await w.alice.mutation(api.trades.updateTrade, { tradeId: await idOf(w, "T3"), tradePlanId: await plan(w) });
    const filter = { provider: "kraken" as const, symbol: "btc/usd" };
    expect(await w.alice.mutation(inbox.reviewAllUnlinked, filter)).toMatchObject({ more: false, reviewed: 2 });
    expect(await statusOf(w)).toEqual({ T1: "reviewed", T2: "pending_review", T3: "reviewed" });
    for (const trade of await rows(w, "trades")) expect(trade).not.toHaveProperty("tradePlanId");
  });

  test("goes on from call to call, newest first, and leaves what comes meanwhile", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const fills = Array.from({ length: 250 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - HOUR + index }));
    await sync(w, connectionId, fills);
    const first = await w.alice.mutation(inbox.reviewAllUnlinked, {});
    expect(first).toMatchObject({ more: true, reviewed: 200 });
    expect((await statusOf(w)).T49).toBe("pending_review");
    expect((await statusOf(w)).T50).toBe("reviewed");
    await sync(w, connectionId, [execution("NEW", { occurredAt: T0 })]);
    const second = await w.alice.mutation(inbox.reviewAllUnlinked, { cursor: first.continueCursor });
    expect(second).toMatchObject({ more: false, reviewed: 50 });
    expect((await inboxRows(w.alice)).map(({ externalExecutionId }) => externalExecutionId)).toEqual(["NEW"]);
  });

  test("I3 leaves what a backfill brings meanwhile, older than all that was shown", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const fills = Array.from({ length: 201 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - HOUR + index }));
    await sync(w, connectionId, fills);
    const first = await w.alice.mutation(inbox.reviewAllUnlinked, {});
    await sync(w, connectionId, [execution("OLD", { occurredAt: T0 - 2 * HOUR })]);
    const second = await w.alice.mutation(inbox.reviewAllUnlinked, { cursor: first.continueCursor });
    expect([first.reviewed, second.reviewed, second.more]).toEqual([200, 1, false]);
    expect((await inboxRows(w.alice)).map(({ externalExecutionId }) => externalExecutionId)).toEqual(["OLD"]);
  });

  test.each(["", "nonsense", "nonsense 1"])("«%s» is no cursor", async (cursor) => {
    const w = world();
    expect(await codeOf(w.alice.mutation(inbox.reviewAllUnlinked, { cursor }))).toBe("invalid_argument");
  });

  test("leaves another owner's rows alone, and rows outside the dates", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1", { occurredAt: T0 - 2 }), execution("T2", { occurredAt: T0 - 1 })]);
    await sync(w, await connect(w.bob), [execution("T9", { occurredAt: T0 - 2 })]);
    expect(await w.alice.mutation(inbox.reviewAllUnlinked, { from: T0 - 2, to: T0 - 1 })).toMatchObject({ reviewed: 1 });
    expect(await statusOf(w)).toEqual({ T1: "reviewed", T2: "pending_review", T9: "pending_review" });
  });
});

describe("acknowledge", () => {
  test("B10 clears the news of a correction and keeps everything else", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1")]);
    const tradeIds = [await idOf(w, "T1")];
    await w.alice.mutation(inbox.review, { tradeIds, tradePlanId });
    await sync(w, connectionId, [execution("T1", { price: "30020", revision: 2 })]);
    expect(await rows(w, "trades")).toMatchObject([{ importFlags: ["changed_by_broker"], price: 30_020 }]);
    expect(await w.alice.mutation(inbox.acknowledge, { tradeIds })).toEqual({ acknowledged: 1, dismissed: 0 });
    expect(await rows(w, "trades")).toMatchObject([
      { importFlags: [], inboxStatus: "reviewed", price: 30_020, tradePlanId },
    ]);
  });

  async function cancelled() {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    await sync(w, connectionId, [flexFill("E1")]);
    const tradeIds = [await idOf(w, "E1")];
    await w.alice.mutation(inbox.review, { tradeIds, tradePlanId });
    await sync(w, connectionId, [flexCancel("E1", "X-9")]);
    return { connectionId, tradeIds, tradePlanId, w };
  }

  test("B8 a cancelled row stays to be seen until then, counts in nothing, and leaves the journal with it", async () => {
    const { connectionId, tradeIds, w } = await cancelled();
    const [row] = await inboxRows(w.alice, { status: "reviewed" });
    expect(row?.flags).toEqual(expect.arrayContaining(["changed_by_broker", "voided_by_broker"]));
    expect(await w.alice.query(api.positions.getPositions, {})).toEqual([]);
    expect(await w.alice.mutation(inbox.acknowledge, { tradeIds })).toEqual({ acknowledged: 1, dismissed: 1 });
    expect(await rows(w, "trades")).toEqual([]);
    expect(await inboxRows(w.alice, { status: "dismissed" })).toHaveLength(1);
    await sync(w, connectionId, [flexFill("E1"), flexCancel("E1", "X-9")]);
    expect(await rows(w, "trades")).toEqual([]);
  });

  test("B9 booked again after that, it is back as it was decided, and says that it changed", async () => {
    const { connectionId, tradeIds, tradePlanId, w } = await cancelled();
    await w.alice.mutation(inbox.acknowledge, { tradeIds });
    await sync(w, connectionId, [flexFill("E1", { fee: "0", price: "192.27", revision: 2, transactionId: "X-E1-2" })]);
    await settle(w);
    expect(await rows(w, "trades")).toMatchObject([
      { importFlags: ["changed_by_broker"], inboxStatus: "reviewed", price: 192.27, tradePlanId },
    ]);
    expect(await w.alice.query(api.positions.getPositions, {})).toMatchObject([{ quantity: 5, ticker: "AAPL" }]);
  });

  test("it can be brought back by hand too, cancelled as it is", async () => {
    const { tradeIds, tradePlanId, w } = await cancelled();
    await w.alice.mutation(inbox.acknowledge, { tradeIds });
    const [row] = await inboxRows(w.alice, { status: "dismissed" });
    if (row === undefined) throw new Error("no row");
    await w.alice.mutation(inbox.restore, { executionIds: [row.executionId] });
    expect(await rows(w, "trades")).toMatchObject([{ importFlags: ["voided_by_broker"], tradePlanId }]);
    expect(await w.alice.query(api.positions.getPositions, {})).toEqual([]);
  });

  test("B10 of a reversal that a correction made one trade, the leg that is no more leaves alone", async () => {
    const w = world();
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    const connectionId = await connectGateway(w.alice);
    const sale = (quantity: string, revision: number) =>
      ibkrFill("E2", { occurredAt: T0 - 1, quantity, revision, side: "sell" });
    await sync(w, connectionId, [ibkrFill("E1", { occurredAt: T0 - 2, quantity: "10" }), sale("15", 1)]);
    const tradeIds = (await rows(w, "trades")).map(({ _id }) => _id);
    await w.alice.mutation(inbox.review, { tradeIds, tradePlanId });
    await sync(w, connectionId, [sale("8", 2)]);
    await settle(w);
    const ended = (await rows(w, "trades")).filter(({ importFlags }) => importFlags?.includes("voided_by_broker"));
    expect(ended).toMatchObject([{ leg: 2 }]);
    const all = { tradeIds: (await rows(w, "trades")).map(({ _id }) => _id) };
    expect(await w.alice.mutation(inbox.acknowledge, all)).toEqual({ acknowledged: 3, dismissed: 0 });
    await settle(w);
    const left = [
      { externalExecutionId: "E1", quantity: 10, tradePlanId },
      { externalExecutionId: "E2", importFlags: [], inboxStatus: "reviewed", quantity: 8, tradePlanId },
    ];
    expect(await rows(w, "trades")).toMatchObject(left);
    expect(await w.alice.query(api.positions.getPositions, {})).toMatchObject([{ direction: "long", quantity: 2 }]);
    expect(await inboxRows(w.alice, { status: "dismissed" })).toEqual([]);
    const executions = await rows(w, "externalExecutions");
    expect(executions.map(({ state, tradeIds: ids }) => [state, ids.length])).toEqual([["live", 1], ["live", 1]]);

    // The execution can be dismissed and brought back as any other one.
    const [, { executionId } = {}] = await rows(w, "trades");
    if (executionId === undefined) throw new Error("no execution");
    await w.alice.mutation(inbox.dismiss, { tradeIds: executions[1]?.tradeIds ?? [] });
    await w.alice.mutation(inbox.restore, { executionIds: [executionId] });
    await settle(w);
    expect(await rows(w, "trades")).toMatchObject(left);
  });

  test("what was dismissed as such does not come back with a rebooking", async () => {
    const { connectionId, tradeIds, w } = await cancelled();
    await w.alice.mutation(inbox.dismiss, { tradeIds });
    await sync(w, connectionId, [flexFill("E1", { fee: "0", revision: 2, transactionId: "X-E1-2" })]);
    expect(await rows(w, "trades")).toEqual([]);
  });
});

type Was = FunctionArgs<typeof inbox.reopen>["rows"][number];

/** A row as a client that undoes a review says it was. */
function saidBefore({ _id: tradeId, campaignId, direction, importFlags, notes, tradePlanId }: Doc<"trades">): Was {
  return {
    campaignId: campaignId ?? null,
    direction,
    flags: importFlags ?? [],
    notes: notes ?? null,
    status: "pending_review",
    tradeId,
    tradePlanId: tradePlanId ?? null,
  };
}

/** All that is stored of trades and executions once everything rests. */
async function stored(w: World) {
  await settle(w);
  return { executions: await rows(w, "externalExecutions"), trades: await rows(w, "trades") };
}

/** The same without what a row cannot keep while it is away. */
async function recreated(w: World) {
  const { executions, trades } = await stored(w);
  return {
    executions: executions.map(({ tradeIds, ...execution }) => ({ ...execution, trades: tradeIds.length })),
    trades: trades
      .map(({ _creationTime: _at, _id, ...trade }) => trade)
      .sort((a, b) => a.date - b.date || (a.leg ?? 0) - (b.leg ?? 0)),
  };
}

describe("a review taken back", () => {
  const [direction, status] = ["long", "pending_review"] as const;
  const aapl = (w: World) => plan(w, { instrumentSymbol: "AAPL", name: "Fruit" });
  /** The sale closes what was bought and goes short; the last one may close anything. */
  const fills = [
    ibkrFill("E1", { occurredAt: T0 - 5, quantity: "5" }),
    ibkrFill("E2", { occurredAt: T0 - 4, quantity: "8", side: "sell" }),
    ibkrFill("E3", { occurredAt: T0 - 3, quantity: "2", side: "sell", symbol: "MSFT" }),
    ibkrFill("E4", { occurredAt: T0 - 2, openClose: "close", quantity: "1", side: "sell", symbol: "TSLA" }),
  ];

  test.each<[string, (w: World, ids: Id<"trades">[]) => Promise<object>]>([
    ["as it is", () => Promise.resolve({})],
    ["with a plan and notes", async (w) => ({ notes: "mine", tradePlanId: await aapl(w) })],
    [
      "with a campaign",
      async (w) => ({ campaignId: await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" }) }),
    ],
    ["as long", () => Promise.resolve({ direction: "long" as const })],
    ["as short", () => Promise.resolve({ direction: "short" as const })],
  ])("%s leaves every document as it was before", async (_, decision) => {
    const w = world();
    await sync(w, await connectGateway(w.alice), fills);
    await aapl(w);
    await w.alice.mutation(inbox.refreshSuggestions, {});
    const ids = (await rows(w, "trades")).map(({ _id }) => _id);
    const review = await decision(w, ids);
    await w.alice.mutation(inbox.refreshSuggestions, {});
    const before = await stored(w);
    expect(before.trades.map(({ importFlags, leg }) => [leg, importFlags])).toEqual([
      [undefined, []],
      [1, []],
      [2, ["direction_guessed"]],
      [undefined, ["direction_guessed"]],
      [undefined, ["opening_lot_unknown"]],
    ]);
    await w.alice.mutation(inbox.review, { ...review, tradeIds: ids });
    expect((await stored(w)).trades).not.toEqual(before.trades);
    const was = before.trades.map(saidBefore);
    expect(await w.alice.mutation(inbox.reopen, { rows: was })).toEqual({ reopened: 5 });
    expect(await stored(w)).toEqual(before);
  });

  test("of one leg alone, where the other stays reviewed, says again that it was a guess", async () => {
    const w = world();
    await sync(w, await connectGateway(w.alice), fills.slice(0, 2));
    const [bought, closed, opened] = (await rows(w, "trades")).map(({ _id }) => _id);
    if (!bought || !closed || !opened) throw new Error("no legs");
    await w.alice.mutation(inbox.review, { tradeIds: [bought, closed] });
    const before = await stored(w);
    await w.alice.mutation(inbox.review, { direction: "short", tradeIds: [opened] });
    expect((await stored(w)).trades[2]).toMatchObject({ importFlags: [], inboxStatus: "reviewed" });
    await w.alice.mutation(inbox.reopen, { rows: before.trades.slice(2).map(saidBefore) });
    expect(await stored(w)).toEqual(before);
  });

  test("gives a row back the link and the notes that it had, and figures forget it", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    await sync(w, await connect(w.alice), [execution("T1")]);
    const tradeId = await idOf(w, "T1");
    await w.alice.mutation(inbox.review, { notes: "second", tradeIds: [tradeId] });
    expect(await w.alice.query(api.positions.getPositions, {})).toHaveLength(1);
    const row = { campaignId: null, direction, flags: [], notes: "first", status, tradeId, tradePlanId };
    await w.alice.mutation(inbox.reopen, { rows: [row] });
    expect(await rows(w, "trades")).toMatchObject([{ inboxStatus: "pending_review", notes: "first", tradePlanId }]);
    expect(await w.alice.query(api.positions.getPositions, {})).toEqual([]);
  });

  test("is all or nothing: one row that is gone, undone already or contradictory leaves all reviewed", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const [lostPlan, lostCampaign] = [
      await plan(w),
      await w.alice.mutation(api.campaigns.createCampaign, { name: "D", thesis: "" }),
    ];
    await w.t.run(async (ctx) => {
      await ctx.db.delete("tradePlans", lostPlan);
      await ctx.db.delete("campaigns", lostCampaign);
    });
    await sync(w, await connect(w.alice), [execution("T1"), execution("T2"), execution("T3"), execution("T4")]);
    await sync(w, await connect(w.bob), [execution("T9")]);
    await w.alice.mutation(inbox.review, { tradeIds: [await idOf(w, "T1"), await idOf(w, "T2"), await idOf(w, "T4")] });
    await w.bob.mutation(inbox.review, { tradeIds: [await idOf(w, "T9")] });
    const of = async (id: string, changes: Partial<Was> = {}): Promise<Was> => {
      const tradeId = await idOf(w, id);
      return { campaignId: null, direction, flags: [], notes: null, status, tradeId, tradePlanId: null, ...changes };
    };
    const [fine, gone] = [await of("T1"), await of("T4")];
    await w.alice.mutation(api.trades.deleteTrade, { tradeId: gone.tradeId });
    const before = await stored(w);
    const refused = async (...rest: Was[]) => await codeOf(w.alice.mutation(inbox.reopen, { rows: [fine, ...rest] }));
    expect(await refused(gone)).toBe("not_found");
    expect(await refused(await of("T9"))).toBe("not_found");
    expect(await refused(await of("T2", { tradePlanId: lostPlan }))).toBe("not_found");
    expect(await refused(await of("T2", { campaignId: lostCampaign }))).toBe("not_found");
    expect(await refused(await of("T3"))).toBe("conflict");
    expect(await refused(await of("T2", { campaignId, tradePlanId }))).toBe("conflict");
    expect(await refused(await of("T2", { notes: "x".repeat(10_001) }))).toBe("invalid_argument");
    expect(await refused(fine)).toBe("invalid_argument");
    expect(await codeOf(w.alice.mutation(inbox.reopen, { rows: [] }))).toBe("invalid_argument");
    expect(await stored(w)).toEqual(before);
    await w.alice.mutation(inbox.reopen, { rows: [fine] });
    expect(await codeOf(w.alice.mutation(inbox.reopen, { rows: [fine] }))).toBe("conflict");
  });

  test("takes as many rows as a review, and no more", async () => {
    const w = world();
    const many = Array.from({ length: 201 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - HOUR + index }));
    await sync(w, await connect(w.alice), many);
    const before = await stored(w);
    const was = before.trades.map(saidBefore);
    const tradeIds = was.map(({ tradeId }) => tradeId);
    await w.alice.mutation(inbox.review, { tradeIds: tradeIds.slice(0, 200) });
    await w.alice.mutation(inbox.review, { tradeIds: tradeIds.slice(200) });
    expect(await codeOf(w.alice.mutation(inbox.reopen, { rows: was }))).toBe("invalid_argument");
    await w.alice.mutation(inbox.reopen, { rows: was.slice(0, 200) });
    await w.alice.mutation(inbox.reopen, { rows: was.slice(200) });
    expect(await stored(w)).toEqual(before);
  });
});

describe("a dismissal taken back", () => {
  async function executionIdsOf(w: World, ...ids: string[]) {
    const found = await rows(w, "externalExecutions");
    return found.flatMap(({ _id, externalExecutionId }) => (ids.includes(externalExecutionId ?? "") ? _id : []));
  }

  async function journalOf(w: World) {
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [
      ibkrFill("E1", { occurredAt: T0 - 6 }),
      ibkrFill("E2", { occurredAt: T0 - 5, quantity: "8", side: "sell" }),
      ibkrFill("E3", { occurredAt: T0 - 4, quantity: "2", side: "sell", symbol: "MSFT" }),
      ibkrFill("E4", { occurredAt: T0 - 3 }),
      ibkrFill("E5", { occurredAt: T0 - 2 }),
    ]);
    await w.alice.mutation(inbox.review, { notes: "mine", tradeIds: [await idOf(w, "E1")], tradePlanId });
    await w.alice.mutation(inbox.review, { campaignId, direction: "long", tradeIds: [await idOf(w, "E3")] });
    await w.alice.mutation(api.trades.updateTrade, { price: 191.5, tradeId: await idOf(w, "E4") });
    return { campaignId, connectionId, tradePlanId };
  }

  test("brings every row back as it was: link, notes, status, legs and what its user put right", async () => {
    const w = world();
    await journalOf(w);
    const before = await recreated(w);
    const tradeIds = (await rows(w, "trades")).map(({ _id }) => _id);
    await w.alice.mutation(inbox.dismiss, { tradeIds });
    expect((await stored(w)).trades).toEqual([]);
    const executionIds = (await rows(w, "externalExecutions")).map(({ _id }) => _id);
    expect(await w.alice.mutation(inbox.restore, { executionIds })).toEqual({ restored: 5 });
    expect(await recreated(w)).toEqual(before);
    expect(before.trades.map(({ inboxStatus }) => inboxStatus)).toEqual(
      expect.arrayContaining(["pending_review", "reviewed"]),
    );
  });

  test.each(["E1", "E2", "E3", "E4", "E5"])("of %s alone leaves the others as they were too", async (id) => {
    const w = world();
    await journalOf(w);
    const before = await recreated(w);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, id)] });
    await settle(w);
    await w.alice.mutation(inbox.restore, { executionIds: await executionIdsOf(w, id) });
    expect(await recreated(w)).toEqual(before);
  });

  test("leaves out a link to what is gone", async () => {
    const w = world();
    const { campaignId, tradePlanId } = await journalOf(w);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, "E1"), await idOf(w, "E3")] });
    await w.t.run(async (ctx) => {
      await ctx.db.delete("tradePlans", tradePlanId);
      await ctx.db.delete("campaigns", campaignId);
    });
    await w.alice.mutation(inbox.restore, { executionIds: await executionIdsOf(w, "E1", "E3") });
    const back = (await rows(w, "trades")).filter(({ inboxStatus }) => inboxStatus === "reviewed");
    expect(back).toMatchObject([{ notes: "mine" }, { direction: "long" }]);
    for (const trade of back) {
      expect(trade).not.toHaveProperty("tradePlanId");
      expect(trade).not.toHaveProperty("campaignId");
      expect(trade).not.toHaveProperty("suggestedTradePlanId");
    }
  });

  test("D9 no sync does it, and what the broker corrected meanwhile is news then", async () => {
    const w = world();
    const { connectionId, tradePlanId } = await journalOf(w);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, "E1"), await idOf(w, "E4")] });
    const news = { currency: "USD", feeCurrency: "USD", source: "ibkr_flex_activity" as const };
    await sync(w, connectionId, [
      ibkrFill("E1", { ...news, occurredAt: T0 - 6, price: "192.5", quantity: "6", revision: 2 }),
      ibkrFill("E4", { ...news, fee: "1.02", occurredAt: T0 - 3, price: "192.7", revision: 2 }),
    ]);
    await settle(w);
    const away = (await rows(w, "trades")).map(({ externalExecutionId }) => externalExecutionId);
    expect(away).not.toContain("E1");
    expect(away).not.toContain("E4");
    await w.alice.mutation(inbox.restore, { executionIds: await executionIdsOf(w, "E1", "E4") });
    await settle(w);
    const back = byId((await rows(w, "trades")).map((trade) => [trade.externalExecutionId, trade]));
    expect(back.E1).toMatchObject({
      currency: "USD",
      importFlags: ["changed_by_broker"],
      inboxStatus: "reviewed",
      notes: "mine",
      price: 192.5,
      quantity: 6,
      tradePlanId,
    });
    const legs = (await rows(w, "trades")).flatMap(({ externalExecutionId: id, direction, fee, price, quantity }) =>
      id === "E2" || id === "E4" ? [[id, direction, quantity, fee, price]] : [],
    );
    // Of 8 sold, 6 were held; of 5 bought, 2 close what was sold beyond that.
    expect(legs.sort()).toEqual([
      ["E2", "long", 6, 0.7575, 192.26],
      ["E2", "short", 2, 0.2525, 192.26],
      ["E4", "long", 3, 0.612, 192.7],
      ["E4", "short", 2, 0.408, 192.7],
    ]);
  });

  test("a mark that a statement added meanwhile says which way a pending row goes", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [ibkrFill("E1", { side: "sell" })]);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, "E1")] });
    await sync(w, connectionId, [flexFill("E1", { openClose: "close", side: "sell" })]);
    const executionIds = await executionIdsOf(w, "E1");
    await w.alice.mutation(inbox.restore, { executionIds });
    const now = [{ currency: "USD", direction: "long", importFlags: ["opening_lot_unknown"], inboxStatus: "pending_review" }];
    expect(await rows(w, "trades")).toMatchObject(now);
    await settle(w);
    expect(await rows(w, "trades")).toMatchObject(now);
  });

  test("B8 B9 a reviewed row that was cancelled meanwhile comes back cancelled, one booked again comes back alive", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [flexFill("E1", { occurredAt: T0 - 2 }), flexFill("E2", { occurredAt: T0 - 1 })]);
    await w.alice.mutation(inbox.review, { notes: "mine", tradeIds: [await idOf(w, "E1"), await idOf(w, "E2")] });
    await sync(w, connectionId, [flexCancel("E2", "C2")]);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, "E1"), await idOf(w, "E2")] });
    await sync(w, connectionId, [
      flexCancel("E1", "C1"),
      flexFill("E2", { occurredAt: T0 - 1, revision: 2, transactionId: "X-E2-2" }),
    ]);
    await settle(w);
    expect(await rows(w, "trades")).toEqual([]);
    await w.alice.mutation(inbox.restore, { executionIds: await executionIdsOf(w, "E1", "E2") });
    await settle(w);
    const back = byId((await rows(w, "trades")).map((trade) => [trade.externalExecutionId, trade]));
    expect(back.E1).toMatchObject({
      importFlags: ["changed_by_broker", "voided_by_broker"],
      inboxStatus: "reviewed",
      notes: "mine",
    });
    expect(back.E2).toMatchObject({ importFlags: ["changed_by_broker"], inboxStatus: "reviewed", notes: "mine" });
    expect(await w.alice.query(api.positions.getPositions, {})).toMatchObject([{ quantity: 5, ticker: "AAPL" }]);
  });

  test("of what was dismissed before dismissals were kept brings it back to be reviewed", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1")]);
    await w.alice.mutation(inbox.dismiss, { tradeIds: [await idOf(w, "T1")] });
    const executionIds = await executionIdsOf(w, "T1");
    await w.t.run(async (ctx) => {
      for (const id of executionIds) await ctx.db.patch("externalExecutions", id, { dismissal: undefined });
    });
    await w.alice.mutation(inbox.restore, { executionIds });
    expect(await statusOf(w)).toEqual({ T1: "pending_review" });
  });
});

describe("twins", () => {
  const imported = {
    assetType: "crypto" as const,
    date: Date.UTC(2026, 1, 16, 9),
    price: 200,
    quantity: 0.3,
    side: "buy" as const,
    ticker: "BTC/USD",
  };
  test.each<[string, Partial<typeof imported> | object, boolean]>([
    ["the same", {}, true],
    ["a plain coin", { ticker: "btc" }, true],
    ["Kraken's spelling", { ticker: "XBTUSD" }, true],
    ["another currency", { ticker: "BTC/EUR" }, false],
    ["a stock of that name", { assetType: "stock" }, false],
    ["the other side", { side: "sell" }, false],
    ["a float's sum", { quantity: 0.1 + 0.2 }, true],
    ["a little more", { quantity: 0.300001 }, false],
    ["half a percent above", { price: 201 }, true],
    ["half a percent below", { price: 199 }, true],
    ["more than that", { price: 201.01 }, false],
    ["the first moment of the day before", { date: Date.UTC(2026, 1, 15) }, true],
    ["two days before", { date: Date.UTC(2026, 1, 15) - 1 }, false],
    ["the last moment of the day after", { date: Date.UTC(2026, 1, 18) - 1 }, true],
    ["two days after", { date: Date.UTC(2026, 1, 18) }, false],
  ])("%s: %s", (_, changes, expected) => {
    expect(isTwin(imported, { ...imported, ...changes })).toBe(expected);
  });

  test("are pointed out at pending rows; nothing merges by itself", async () => {
    const w = world();
    const twin = await typed(w);
    await typed(w, { quantity: 0.4 });
    await typed(w, { date: T0 - 80 * HOUR });
    await sync(w, await connect(w.alice), [execution("T1"), execution("T2", { symbol: "ETH/USD" })]);
    const seen = async () =>
      byId((await inboxRows(w.alice)).map(({ externalExecutionId: id, twins }) => [id, twins]));
    expect(await seen()).toEqual({
      T1: [{ date: T0 - HOUR, price: 30_010, quantity: 0.5, tradeId: twin }],
      T2: [],
    });
    expect(await rows(w, "trades")).toHaveLength(5);
    await w.alice.mutation(api.trades.deleteTrade, { tradeId: twin });
    expect(await seen()).toEqual({ T1: [], T2: [] });
  });

  test("a reviewed row has none, and an imported row is nobody's", async () => {
    const w = world();
    await typed(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1"), execution("T2")]);
    await w.alice.mutation(inbox.review, { tradeIds: [await idOf(w, "T1")] });
    expect(await inboxRows(w.alice, { status: "reviewed" })).toMatchObject([{ twins: [] }]);
    expect((await inboxRows(w.alice))[0]?.twins).toHaveLength(1);
  });
});

describe("planned against unplanned", () => {
  test("sums what has a plan and what has none", () => {
    const trades = [{ _id: "a", tradePlanId: "p" }, { _id: "b", tradePlanId: "p" }, { _id: "c" }, { _id: "d" }];
    const results = new Map<string, number | null>([["a", null], ["b", 5], ["c", -2], ["d", 0]]);
    expect(plannedAgainstUnplanned(trades, results)).toEqual({
      planned: { losingTrades: 0, realizedPL: 5, tradeCount: 2, winningTrades: 1 },
      unplanned: { losingTrades: 1, realizedPL: -2, tradeCount: 2, winningTrades: 0 },
    });
  });

  test("over the journal: pending rows in neither, a campaign is no plan, and results are the app's", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const connectionId = await connect(w.alice);
    const fill = (id: string, at: number, price: string, side: "buy" | "sell", symbol: string) =>
      execution(id, { occurredAt: T0 - at, price, quantity: "2", side, symbol });
    await sync(w, connectionId, [
      fill("P1", 9, "100", "buy", "BTC/USD"),
      fill("P2", 8, "130", "sell", "BTC/USD"),
      fill("U1", 7, "50", "buy", "ETH/USD"),
      fill("U2", 6, "45", "sell", "ETH/USD"),
      fill("N1", 5, "7", "buy", "SOL/USD"),
    ]);
    await w.alice.mutation(inbox.review, { tradeIds: [await idOf(w, "P1"), await idOf(w, "P2")], tradePlanId });
    await w.alice.mutation(inbox.review, { campaignId, tradeIds: [await idOf(w, "U1"), await idOf(w, "U2")] });
    await typed(w, { date: T0 - 4, price: 1, ticker: "AAPL", assetType: "stock" });
    await settle(w);
    const planned = { losingTrades: 0, realizedPL: 60, tradeCount: 2, winningTrades: 1 };
    expect(await w.alice.query(api.tradeImport.analytics.planned, {})).toEqual({
      planned,
      unplanned: { losingTrades: 1, realizedPL: -10, tradeCount: 3, winningTrades: 0 },
    });
    const stats = await w.alice.query(api.analytics.getDashboardStats, {});
    expect(stats.totalRealizedPL).toBe(50);
    // The range chooses trades; what they cost comes from the whole journal.
    expect(await w.alice.query(api.tradeImport.analytics.planned, { from: T0 - 8, to: T0 - 6 })).toEqual({
      planned: { ...planned, tradeCount: 1 },
      unplanned: { losingTrades: 0, realizedPL: 0, tradeCount: 1, winningTrades: 0 },
    });
    // Bob sees the typed trades, as in the app, and none of hers.
    expect(await w.bob.query(api.tradeImport.analytics.planned, {})).toMatchObject({
      planned: { tradeCount: 0 },
      unplanned: { tradeCount: 1 },
    });
  });
});

describe("suggestions and plans that change later", () => {
  const suggestions = async (w: World) =>
    byId((await inboxRows(w.alice)).map(({ externalExecutionId: id, suggestion }) => [id, suggestion?.name ?? null]));
  const refresh = async (w: World) => (await w.alice.mutation(inbox.refreshSuggestions, {})).refreshed;

  test("a plan created later reaches pending rows, and where nothing changed nothing is done", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [
      execution("ENTRY", { occurredAt: T0 - 2 }),
      execution("EXIT", { occurredAt: T0 - 1, side: "sell" }),
    ]);
    expect(await refresh(w)).toBe(true);
    expect(await suggestions(w)).toEqual({ ENTRY: null, EXIT: null });
    const tradePlanId = await plan(w, { instrumentSymbol: "xbt-usd" });
    expect(await refresh(w)).toBe(true);
    expect(await suggestions(w)).toEqual({ ENTRY: "Breakout", EXIT: "Breakout" });
    const before = await rows(w, "importSuggestionState");
    vi.setSystemTime(T0 + 1);
    expect(await refresh(w)).toBe(false);
    expect(await rows(w, "importSuggestionState")).toEqual(before);
    for (const trade of await rows(w, "trades")) {
      expect(trade.suggestedTradePlanId).toBe(tradePlanId);
      expect(trade).not.toHaveProperty("tradePlanId");
      expect(trade).not.toHaveProperty("campaignId");
    }
  });

  test("a second plan, a renamed one and a closed one take the suggestion back", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    await sync(w, await connect(w.alice), [execution("T1")]);
    expect(await suggestions(w)).toEqual({ T1: "Breakout" });
    const second = await plan(w, { name: "Second" });
    await refresh(w);
    expect(await suggestions(w)).toEqual({ T1: null });
    await w.alice.mutation(api.tradePlans.updateTradePlan, { instrumentSymbol: "ETH/USD", tradePlanId });
    await refresh(w);
    expect(await suggestions(w)).toEqual({ T1: "Second" });
    await w.alice.mutation(api.tradePlans.updateTradePlanStatus, { status: "closed", tradePlanId: second });
    // Even before anything is refreshed.
    expect(await suggestions(w)).toEqual({ T1: null });
    expect((await inboxRows(w.alice))[0]?.suggestionReason).toBe("none");
    await refresh(w);
    expect((await rows(w, "trades"))[0]).not.toHaveProperty("suggestedTradePlanId");
  });

  test("an exit of a short matches the short's plan, by direction and not by side", async () => {
    const w = world();
    await plan(w, { instrumentSymbol: " aapl " });
    const margin = { openClose: "open" as const };
    await sync(w, await connectGateway(w.alice), [
      ibkrFill("SHORT", { occurredAt: T0 - 3, side: "sell", ...margin }),
      ibkrFill("COVER", { occurredAt: T0 - 2, openClose: "close", side: "buy" }),
      ibkrFill("LONG", { occurredAt: T0 - 1, quantity: "9", ...margin }),
    ]);
    expect(await suggestions(w)).toMatchObject({ COVER: "Breakout", SHORT: "Breakout" });
  });

  test("a reviewed row keeps what it was decided to be", async () => {
    const w = world();
    await sync(w, await connect(w.alice), [execution("T1")]);
    await w.alice.mutation(inbox.review, { tradeIds: [await idOf(w, "T1")] });
    const before = await rows(w, "trades");
    await plan(w);
    await refresh(w);
    expect(await rows(w, "trades")).toEqual(before);
  });

  const suggestionOf = async (w: World, id: string) =>
    byId((await inboxRows(w.alice)).map((row) => [row.externalExecutionId, row.suggestion?.name ?? null]))[id];

  test("a pending row that has its plan already is evidence for it once", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1", { occurredAt: T0 - 9 })]);
    await w.alice.mutation(api.trades.updateTrade, { tradeId: await idOf(w, "T1"), tradePlanId });
    const sale = (id: string, occurredAt: number) => execution(id, { occurredAt, side: "sell" });
    await sync(w, connectionId, [sale("T2", T0 - 8), sale("T3", T0 - 7)]);
    expect([await suggestionOf(w, "T1"), await suggestionOf(w, "T2"), await suggestionOf(w, "T3")]).toEqual([
      null,
      "Breakout",
      null,
    ]);
  });

  test("what another user linked to a plan is no evidence", async () => {
    const w = world();
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    await sync(w, await connectGateway(w.bob), [ibkrFill("B1", { side: "sell" })]);
    await w.bob.mutation(inbox.review, { tradeIds: [await idOf(w, "B1")], tradePlanId });
    await sync(w, await connectGateway(w.alice), [ibkrFill("E1", {})]);
    expect(await suggestionOf(w, "E1")).toBe("Breakout");
  });

  test("a bulk over many instruments looks at all that is linked to each plan", async () => {
    const w = world();
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    const connectionId = await connectGateway(w.alice);
    const alternating = Array.from({ length: 41 }, (_, index) =>
      ibkrFill(`A${100 + index}`, { occurredAt: T0 - HOUR + index, side: index % 2 === 0 ? "buy" : "sell" }),
    );
    await sync(w, connectionId, alternating);
    const linked = (await rows(w, "trades")).map(({ _id }) => _id);
    await w.alice.mutation(inbox.review, { tradeIds: linked, tradePlanId });
    // The last of 41 has opened what X and Y close.
    const exit = (id: string, quantity: string) => ibkrFill(id, { occurredAt: T0 - 1, quantity, side: "sell" });
    const others = Array.from({ length: 199 }, (_, index) => ibkrFill(`S${index}`, { symbol: `S${index}` }));
    await sync(w, connectionId, [exit("X", "2"), exit("Y", "3"), ...others]);
    await settle(w);
    const suggested = async () => {
      const [row] = (await rows(w, "trades")).filter(({ externalExecutionId }) => externalExecutionId === "Y");
      return row?.suggestedTradePlanId;
    };
    expect(await suggested()).toBe(tradePlanId);
    for (let index = 0; index < 5; index += 1) await plan(w, { instrumentSymbol: `S${index}`, name: `Plan ${index}` });
    const tradeIds = (await rows(w, "trades"))
      .filter(({ externalExecutionId: id, inboxStatus }) => inboxStatus === "pending_review" && id !== "Y")
      .map(({ _id }) => _id);
    await w.alice.mutation(inbox.review, { tradeIds, tradePlanId: null });
    await settle(w);
    expect(await suggested()).toBe(tradePlanId);
  });

  test("for all owners at once, many instruments in steps", async () => {
    const w = world();
    const symbols = Array.from({ length: 11 }, (_, index) => `C${String(index).padStart(2, "0")}`);
    const fills = symbols.map((symbol, index) => execution(`T${index}`, { occurredAt: T0 - 100 + index, symbol: `${symbol}/USD` }));
    await sync(w, await connect(w.alice), fills);
    await sync(w, await connect(w.bob), fills);
    for (const instrumentSymbol of symbols) await plan(w, { instrumentSymbol: `${instrumentSymbol}/USD` });
    await w.t.run(async (ctx) => await refreshAllSuggestions(ctx));
    await settle(w);
    const trades = await rows(w, "trades");
    expect(trades).toHaveLength(22);
    expect(trades.filter(({ suggestedTradePlanId }) => suggestedTradePlanId === undefined)).toEqual([]);
    expect(await w.alice.mutation(inbox.refreshSuggestions, {})).toEqual({ refreshed: false });
    // The steps can be called again at any time and change nothing.
    await w.t.mutation(internal.tradeImport.planChanges.nextOwners, { after: "" });
    await settle(w);
    expect(await rows(w, "trades")).toEqual(trades);
  });

  test("the fingerprint knows which plans and what for, not their order", () => {
    const a = { _id: "1", instrumentSymbol: "BTC" };
    const b = { _id: "2", instrumentSymbol: "ETH" };
    expect(fingerprintOf([a, b])).toBe(fingerprintOf([b, a]));
    const others = [[], [a], [b], [a, { ...b, instrumentSymbol: "SOL" }], [a, { ...b, _id: "3" }]];
    expect(new Set([[a, b], ...others].map(fingerprintOf)).size).toBe(6);
  });
});
