// Directions through the journal: in any order of arrival, beside typed and edited trades, corrected and healed.
import type { FunctionArgs } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { storeBatch } from "../../convex/tradeImport/ingestion";
import { touchPendingPositions } from "../../convex/tradeImport/positions";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  connect,
  connectGateway,
  execution,
  finish,
  flexCancel,
  flexFill,
  IBKR_ACCOUNT,
  ibkrFill,
  inboxRows,
  ingest,
  lease,
  plan,
  rows,
  settlePositions,
  sync,
  T0,
  world,
  type World,
} from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0, toFake: ["Date"] });
});
afterEach(() => {
  vi.useRealTimers();
});

const at = (minutes: number) => T0 - 600_000_000 + minutes * 60_000;

/** `E1 sell 10 @ 110` of a share, so many minutes after the beginning. */
function fill(text: string, minutes: number, changes: Partial<Execution> = {}): Execution {
  const [id = "", side, quantity = "", , price = "100"] = text.split(" ");
  const occurredAt = at(minutes);
  return ibkrFill(id, { fee: "0", occurredAt, price, quantity, side: side === "buy" ? "buy" : "sell", ...changes });
}

/** The same of a coin. */
function coin(text: string, minutes: number, changes: Partial<Execution> = {}): Execution {
  const { externalExecutionId, occurredAt, price, quantity, side } = fill(text, minutes);
  return execution(externalExecutionId, { fee: "0", occurredAt, price, quantity, side, ...changes });
}

type NewTrade = FunctionArgs<typeof api.trades.createTrade>;

async function typed(w: World, text: string, minutes: number, changes: Partial<NewTrade> = {}): Promise<Id<"trades">> {
  const [side, direction, quantity, price] = text.split(" ");
  return await w.alice.mutation(api.trades.createTrade, {
    assetType: "stock",
    date: at(minutes),
    direction: direction as NewTrade["direction"],
    price: Number(price),
    quantity: Number(quantity),
    side: side as NewTrade["side"],
    ticker: "AAPL",
    ...changes,
  });
}

const MARKS: Readonly<Record<string, string>> = { direction_guessed: "?", opening_lot_unknown: "!" };

/** `E1 long sell 10` with `?` for a guess and `!` for an unknown opening, in the order of time, id and leg. */
async function told(w: World, wanted: (trade: Doc<"trades">) => boolean = () => true): Promise<string[]> {
  const trades = (await rows(w, "trades")).filter((trade) => trade.ownerId !== undefined && wanted(trade));
  const key = (trade: Doc<"trades">) => `${trade.date} ${trade.externalExecutionId} ${trade.leg ?? 1}`;
  return trades
    .sort((a, b) => (key(a) < key(b) ? -1 : 1))
    .map(({ direction, externalExecutionId, importFlags, quantity, side }) => {
      const marks = (importFlags ?? []).flatMap((flag) => MARKS[flag] ?? []);
      return `${externalExecutionId} ${direction} ${side} ${quantity}${marks.join("")}`;
    });
}

async function tradeOf(w: World, id: string, leg?: number): Promise<Doc<"trades">> {
  const found = (await rows(w, "trades")).filter((trade) => trade.externalExecutionId === id && trade.leg === leg);
  const [trade] = found;
  if (trade === undefined || found.length > 1) throw new Error(`${found.length} rows of ${id}`);
  return trade;
}

async function review(w: World, ...trades: Doc<"trades">[]): Promise<void> {
  await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: trades.map(({ _id }) => _id) });
}

async function reviewAll(w: World): Promise<void> {
  await review(w, ...(await rows(w, "trades")).filter(({ inboxStatus }) => inboxStatus === "pending_review"));
}

const realized = async (w: World) => (await w.alice.query(api.analytics.getDashboardStats, {})).totalRealizedPL;
const held = async (w: World) =>
  (await w.alice.query(api.positions.getPositions, {})).map(({ direction, quantity, ticker }) => `${quantity} ${ticker} ${direction}`);

async function imported(...executions: Execution[]) {
  const w = world();
  const connectionId = executions[0]?.provider === "kraken" ? await connect(w.alice) : await connectGateway(w.alice);
  await sync(w, connectionId, executions);
  return { connectionId, w };
}

describe("an import in the order of time", () => {
  test("opens, closes and turns round", async () => {
    const { w } = await imported(
      fill("E1 buy 10", 1),
      fill("E2 sell 4", 2),
      fill("E3 sell 10", 3, { fee: "1" }),
      fill("E4 buy 1", 4),
      fill("E5 buy 5", 5),
    );
    expect(await told(w)).toEqual([
      "E1 long buy 10",
      "E2 long sell 4",
      "E3 long sell 6",
      "E3 short sell 4?",
      "E4 short buy 1",
      "E5 short buy 3",
      "E5 long buy 2",
    ]);
    expect([await tradeOf(w, "E3", 1), await tradeOf(w, "E3", 2)]).toMatchObject([
      { fee: 0.6, inboxStatus: "pending_review", leg: 1, quantity: 6 },
      { fee: 0.4, inboxStatus: "pending_review", leg: 2, quantity: 4 },
    ]);
    expect(await rows(w, "importPositions")).toMatchObject([{ ticker: "AAPL" }]);
    expect((await rows(w, "importPositions"))[0]).not.toHaveProperty("dirtyFrom");
  });

  test("goes on where the last one ended", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1));
    await sync(w, connectionId, [fill("E2 sell 10", 2)]);
    await sync(w, connectionId, [fill("E3 sell 10", 3)]);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10", "E3 short sell 10?"]);
  });

  test("the broker's marks come before what is known", async () => {
    const { w } = await imported(
      fill("E1 sell 10", 1, { openClose: "open" }),
      fill("E2 buy 15", 2, { openClose: "close_open" }),
      fill("E3 buy 5", 3, { openClose: "open" }),
      fill("E4 sell 12", 4, { openClose: "close" }),
    );
    expect(await told(w)).toEqual([
      "E1 short sell 10",
      "E2 short buy 10",
      "E2 long buy 5",
      "E3 long buy 5",
      "E4 long sell 10",
      "E4 long sell 2!",
    ]);
  });

  test("coins are never short, but on margin", async () => {
    const { w } = await imported(
      coin("T1 sell 0.3", 1),
      coin("T2 buy 0.1", 2),
      coin("T3 buy 0.2", 3),
      coin("T4 sell 0.3", 4),
      coin("T5 sell 0.1", 5, { flags: ["margin", "position_open"], openClose: "open" }),
      coin("T6 buy 0.1", 6, { flags: ["margin", "position_close"], openClose: "close" }),
    );
    expect(await told(w)).toEqual([
      "T1 long sell 0.3!",
      "T2 long buy 0.1",
      "T3 long buy 0.2",
      "T4 long sell 0.3",
      "T5 short sell 0.1",
      "T6 short buy 0.1",
    ]);
  });

  test("accounts and asset types are kept apart", async () => {
    const w = world();
    const sell = (account: string) => fill(`${account} sell 10`, 2, { accountRef: account });
    const first = await connectGateway(w.alice, { accountRef: "U1" });
    await sync(w, first, [fill("E1 buy 10", 1, { accountRef: "U1" })]);
    await sync(w, await connectGateway(w.alice, { accountRef: "U2" }), [sell("U2")]);
    await sync(w, first, [sell("U1")]);
    await sync(w, await connectGateway(w.bob), [fill("B1 sell 10", 3)]);
    const sol = { symbol: "AAPL" };
    await sync(w, await connect(w.alice), [coin("T1 sell 10", 4, sol)]);
    expect(await told(w)).toEqual([
      "E1 long buy 10",
      "U1 long sell 10",
      "U2 short sell 10?",
      "B1 short sell 10?",
      "T1 long sell 10!",
    ]);
  });

  test("equal times are ordered by id, in one batch and in two", async () => {
    const both = [fill("A2 sell 10", 1), fill("A1 buy 10", 1)];
    const { w } = await imported(...both);
    expect(await told(w)).toEqual(["A1 long buy 10", "A2 long sell 10"]);
    for (const order of [both, both.toReversed()]) {
      const apart = world();
      const connectionId = await connectGateway(apart.alice);
      for (const each of order) await sync(apart, connectionId, [each]);
      await settlePositions(apart);
      expect(await told(apart)).toEqual(["A1 long buy 10", "A2 long sell 10"]);
      await reviewAll(apart);
      // The app sorts by time alone, so the row inserted first comes first.
      expect([await realized(apart), await held(apart)]).toEqual([0, []]);
    }
  });

  test("what the journal has no place for moves nothing", async () => {
    const { w } = await imported(
      fill("E1 buy 10", 1, { assetClass: "option" }),
      fill("X1 buy 10", 2, { kind: "assignment" }),
      fill("E2 sell 10", 3),
    );
    expect(await told(w)).toEqual(["E2 short sell 10?"]);
  });

  test("rows without an id are ordered by their hash, before those with one", async () => {
    const unnamed = (hash: string, text: string) => {
      const { externalExecutionId: _id, ...row } = fill(text, 1);
      return { ...row, ingestionHash: hash };
    };
    const all = [fill("E1 sell 3", 1), unnamed("b", "- sell 7"), unnamed("a", "- buy 10")];
    for (const order of [all, all.toReversed()]) {
      const w = world();
      const connectionId = await connectGateway(w.alice);
      for (const each of order) await sync(w, connectionId, [each]);
      await settlePositions(w);
      expect((await told(w)).sort()).toEqual(["E1 long sell 3", "undefined long buy 10", "undefined long sell 7"]);
    }
  });
});

describe("history that comes late", () => {
  test("rows in review follow it, and their suggestions too", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 10", 2));
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    await typed(w, "buy long 10 90", 0, { ticker: "OTHER" });
    await sync(w, connectionId, [fill("E3 buy 3", 3)]);
    expect(await told(w)).toEqual(["E2 short sell 10?", "E3 short buy 3"]);
    await sync(w, connectionId, [fill("E1 buy 10", 1)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10", "E3 long buy 3"]);
    const suggested = (await inboxRows(w.alice)).map(({ suggestion }) => suggestion?.tradePlanId);
    expect(suggested).toEqual([tradePlanId, tradePlanId, tradePlanId]);
  });

  test("a row becomes two and one again, with what its user wrote on it", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 10", 2, { fee: "1" }));
    await sync(w, connectionId, [fill("E1 buy 4", 1)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 4", "E2 long sell 4", "E2 short sell 6?"]);
    expect([(await tradeOf(w, "E2", 1)).fee, (await tradeOf(w, "E2", 2)).fee]).toEqual([0.4, 0.6]);
    await w.alice.mutation(api.trades.updateTrade, { notes: "mine", tradeId: (await tradeOf(w, "E2", 2))._id });
    await sync(w, connectionId, [fill("E0 buy 6", 0)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E0 long buy 6", "E1 long buy 4", "E2 long sell 10"]);
    expect(await tradeOf(w, "E2")).toMatchObject({ fee: 1, notes: "mine", quantity: 10 });
    expect((await rows(w, "externalExecutions")).map(({ tradeIds }) => tradeIds.length)).toEqual([1, 1, 1]);
  });

  test("a leg that comes late stands before what follows at the same moment", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 15 @ 110", 2), fill("E3 buy 5 @ 100", 2));
    await sync(w, connectionId, [fill("E1 buy 10 @ 100", 1)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10", "E2 short sell 5?", "E3 short buy 5"]);
    await reviewAll(w);
    // 10 x 10 on the long side, 5 x 10 on the short side.
    expect([await realized(w), await held(w)]).toEqual([150, []]);
  });

  test("a reviewed or edited row stays as it is; a doubt is told and goes with its cause", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 10", 2), fill("E3 buy 4", 3), fill("E4 sell 1", 4));
    expect(await told(w)).toEqual(["E2 short sell 10?", "E3 short buy 4", "E4 short sell 1?"]);
    await review(w, await tradeOf(w, "E3"));
    await w.alice.mutation(api.trades.updateTrade, { direction: "long", tradeId: (await tradeOf(w, "E4"))._id });
    await sync(w, connectionId, [fill("E1 buy 10", 1)]);
    await settlePositions(w);
    // The reviewed cover closes a short position that nobody has any more.
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10", "E3 short buy 4!?", "E4 long sell 1!?"]);
    await sync(w, connectionId, [flexCancel("E1", "C1"), flexFill("E1", { fee: "0", occurredAt: at(1), quantity: "10" })]);
    await settlePositions(w);
    expect(await told(w, ({ externalExecutionId }) => externalExecutionId !== "E1")).toEqual([
      "E2 short sell 10?",
      "E3 short buy 4!",
      "E4 long sell 1!?",
    ]);
  });

  test("a row that its user deleted moves nothing and does not come back", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2));
    await w.alice.mutation(api.trades.deleteTrade, { tradeId: (await tradeOf(w, "E1"))._id });
    await sync(w, connectionId, [fill("E0 buy 1", 0)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E0 long buy 1", "E2 long sell 1", "E2 short sell 9?"]);
  });

  test("dismissed rows move nothing, restored ones do", async () => {
    const { w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2));
    const { executionId } = await tradeOf(w, "E1");
    await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [(await tradeOf(w, "E1"))._id] });
    await settlePositions(w);
    expect(await told(w)).toEqual(["E2 short sell 10?"]);
    if (executionId === undefined) throw new Error("no execution");
    await w.alice.mutation(api.tradeImport.inbox.restore, { executionIds: [executionId] });
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10"]);
  });
});

describe("typed trades", () => {
  test("count with every account of their ticker and type", async () => {
    const w = world();
    await typed(w, "buy long 10 90", 1);
    await typed(w, "buy long 10 90", 1, { assetType: "crypto" });
    await typed(w, "buy long 10 90", 1, { ticker: "aapl" });
    const sale = (account: string) => fill(`${account} sell 15`, 2, { accountRef: account });
    for (const account of ["U1", "U2"]) {
      await sync(w, await connectGateway(w.alice, { accountRef: account }), [sale(account)]);
    }
    expect(await told(w)).toEqual(["U1 long sell 10", "U1 short sell 5?", "U2 long sell 10", "U2 short sell 5?"]);
  });

  test("between two fills, and at the moment of one, come before it", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [fill("E1 buy 1", 1)]);
    await typed(w, "buy long 4 90", 2);
    await typed(w, "buy long 5 90", 3);
    await typed(w, "buy long 9 90", 4);
    await sync(w, connectionId, [fill("E2 sell 10", 3)]);
    expect(await told(w)).toEqual(["E1 long buy 1", "E2 long sell 10"]);
  });

  test("that come, change or go are noticed within the hour, by rows in review and reviewed ones", async () => {
    const { w } = await imported(coin("T1 sell 10 @ 120", 2), coin("T2 sell 10 @ 130", 3));
    await review(w, await tradeOf(w, "T1"));
    const look = async () => {
      vi.setSystemTime(Date.now() + 3_600_000);
      const touched = await w.t.run(async (ctx) => await touchPendingPositions(ctx));
      await settlePositions(w);
      return [touched, await told(w), await realized(w)];
    };
    expect(await look()).toEqual([0, ["T1 long sell 10!", "T2 long sell 10!"], 0]);
    const tradeId = await typed(w, "buy long 20 100", 1, { assetType: "crypto", ticker: "BTC/USD" });
    expect(await look()).toEqual([1, ["T1 long sell 10", "T2 long sell 10"], 200]);
    expect(await look()).toEqual([0, ["T1 long sell 10", "T2 long sell 10"], 200]);
    await w.alice.mutation(api.trades.updateTrade, { quantity: 15, tradeId });
    expect(await look()).toEqual([1, ["T1 long sell 10", "T2 long sell 5", "T2 long sell 5!"], 200]);
    await w.alice.mutation(api.trades.deleteTrade, { tradeId });
    expect(await look()).toEqual([1, ["T1 long sell 10!", "T2 long sell 10!"], 0]);
  });

  test("a row that was edited is noticed within the day", async () => {
    const { w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2));
    await w.alice.mutation(api.trades.updateTrade, { quantity: 4, tradeId: (await tradeOf(w, "E1"))._id });
    const look = async (hours: number) => {
      vi.setSystemTime(Date.now() + hours * 3_600_000);
      await w.t.run(async (ctx) => await touchPendingPositions(ctx));
      await settlePositions(w);
      return await told(w);
    };
    expect(await look(1)).toEqual(["E1 long buy 4", "E2 long sell 10"]);
    expect(await look(24)).toEqual(["E1 long buy 4", "E2 long sell 4", "E2 short sell 6?"]);
  });
});

describe("a close whose opening is not known", () => {
  test("never counts as profit; a later backfill heals it", async () => {
    const { connectionId, w } = await imported(coin("T2 sell 10 @ 200", 2));
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const tradePlanId = await plan(w, { campaignId });
    const sale = await tradeOf(w, "T2");
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [sale._id], tradePlanId });
    const figures = async () => ({
      campaign: await w.alice.query(api.campaigns.getCampaignPL, { campaignId }),
      listed: (await w.alice.query(api.trades.listTrades, {})).map(({ realizedPL }) => realizedPL),
      plan: (await w.alice.query(api.tradePlans.getTradePlanPL, { tradePlanId })).realizedPL,
      positions: await held(w),
      realized: await realized(w),
      status: (await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId })).realizedPL,
    });
    const nothing = { losingTrades: 0, realizedPL: 0, tradeCount: 0, winningTrades: 0 };
    expect(await figures()).toEqual({
      campaign: nothing, listed: [null], plan: 0, positions: [], realized: 0, status: 0,
    });
    await sync(w, connectionId, [coin("T1 buy 10 @ 150", 1)]);
    await settlePositions(w);
    // Bought, but not reviewed: the sale would still be all profit.
    expect(await figures()).toEqual({
      campaign: nothing, listed: [null, null], plan: 0, positions: [], realized: 0, status: 0,
    });
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [(await tradeOf(w, "T1"))._id], tradePlanId });
    expect(await figures()).toEqual({
      campaign: { losingTrades: 0, realizedPL: 500, tradeCount: 2, winningTrades: 1 },
      listed: [500, null],
      plan: 500,
      positions: [],
      realized: 500,
      status: 500,
    });
    expect(await tradeOf(w, "T2")).toMatchObject({ _id: sale._id, importFlags: [], inboxStatus: "reviewed", tradePlanId });
  });

  test("a sale of shares is a short position until history says otherwise", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 10 @ 200", 2));
    await sync(w, connectionId, [fill("E1 buy 10 @ 150", 1)]);
    await settlePositions(w);
    await reviewAll(w);
    expect([await realized(w), await held(w)]).toEqual([500, []]);
  });

  test("of which a part is known counts that part", async () => {
    const { w } = await imported(coin("T1 buy 4 @ 100", 1), coin("T2 sell 10 @ 200", 2));
    await reviewAll(w);
    expect([await realized(w), await held(w)]).toEqual([400, []]);
  });

  test("a dismissed purchase takes the profit of its sale along at once, a restored one brings it back", async () => {
    const { w } = await imported(coin("T1 buy 10 @ 100", 1), coin("T2 sell 10 @ 110", 2));
    await reviewAll(w);
    expect([await realized(w), await held(w)]).toEqual([100, []]);
    const { _id: tradeId, executionId } = await tradeOf(w, "T1");
    if (executionId === undefined) throw new Error("no execution");
    await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [tradeId] });
    expect([await told(w), await realized(w)]).toEqual([["T2 long sell 10!"], 0]);
    await w.alice.mutation(api.tradeImport.inbox.restore, { executionIds: [executionId] });
    expect([await told(w), await realized(w)]).toEqual([["T1 long buy 10", "T2 long sell 10"], 100]);
  });

  test("a sale reviewed before its purchase counts with it", async () => {
    const { w } = await imported(fill("E1 buy 10 @ 100", 1), fill("E2 sell 10 @ 110", 2));
    await review(w, await tradeOf(w, "E2"));
    expect([await told(w), await realized(w)]).toEqual([["E1 long buy 10", "E2 long sell 10!"], 0]);
    await review(w, await tradeOf(w, "E1"));
    expect([await told(w), await realized(w)]).toEqual([["E1 long buy 10", "E2 long sell 10"], 100]);
  });
});

describe("what the broker says anew", () => {
  test("a correction of the quantity reaches the rows behind it", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2), fill("E3 buy 1", 3));
    await sync(w, connectionId, [fill("E1 buy 6", 1, { revision: 2 })]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 6", "E2 long sell 6", "E2 short sell 4?", "E3 short buy 1"]);
    await sync(w, connectionId, [fill("E2 sell 5", 2, { revision: 2 })]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 6", "E2 long sell 5", "E3 long buy 1"]);
    expect((await rows(w, "trades")).length).toBe(3);
  });

  test("a correction of the time moves it among the others", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2));
    await sync(w, connectionId, [fill("E1 buy 10", 3, { revision: 2 })]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E2 short sell 10?", "E1 short buy 10"]);
    await sync(w, connectionId, [fill("E1 buy 10", 0, { revision: 3 })]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10"]);
  });

  test("a correction of the symbol moves it to another position", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 10", 2), fill("M1 sell 10", 2, { symbol: "MSFT" }));
    await sync(w, connectionId, [fill("E1 buy 10", 1, { revision: 2, symbol: "MSFT" })]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 short sell 10?", "M1 long sell 10"]);
  });

  test("a cancel and a rebooking of a reversal's opening", async () => {
    const opening = flexFill("E1", { fee: "0", occurredAt: at(1), quantity: "10" });
    const { connectionId, w } = await imported(opening, fill("E2 sell 15", 2));
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 long sell 10", "E2 short sell 5?"]);
    await sync(w, connectionId, [flexCancel("E1", "C1")]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 10", "E2 short sell 15?"]);
    await sync(w, connectionId, [{ ...opening, quantity: "12", revision: 2, transactionId: "X-E1-2" }]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long buy 12", "E2 long sell 12", "E2 short sell 3?"]);
  });

  test("a statement's mark ends a guess; a reviewed row is doubted", async () => {
    const { connectionId, w } = await imported(fill("E1 sell 10", 1), fill("E2 sell 5", 2));
    await review(w, await tradeOf(w, "E2"));
    const marked = (id: string, quantity: string, minutes: number) =>
      flexFill(id, { fee: "0", occurredAt: at(minutes), openClose: "close", price: "100", quantity, side: "sell" });
    await sync(w, connectionId, [marked("E1", "10", 1), marked("E2", "5", 2)]);
    await settlePositions(w);
    expect(await told(w)).toEqual(["E1 long sell 10!", "E2 short sell 5?"]);
  });

  test("a reviewed reversal that shrinks keeps its first leg; the other says that it is no more", async () => {
    const { connectionId, w } = await imported(fill("E1 buy 10", 1), fill("E2 sell 15", 2), fill("E3 sell 2", 3));
    await review(w, await tradeOf(w, "E1"), await tradeOf(w, "E2", 1), await tradeOf(w, "E2", 2));
    const shrunk = fill("E2 sell 8", 2, { revision: 2 });
    await sync(w, connectionId, [shrunk]);
    await settlePositions(w);
    const expected = [
      { externalExecutionId: "E1", importFlags: [] },
      { externalExecutionId: "E2", importFlags: ["changed_by_broker"], quantity: 8 },
      { externalExecutionId: "E2", importFlags: ["direction_guessed", "changed_by_broker", "voided_by_broker"], quantity: 5 },
      { direction: "long", externalExecutionId: "E3", importFlags: [] },
    ];
    expect(await rows(w, "trades")).toMatchObject(expected);
    expect(await held(w)).toEqual(["2 AAPL long"]);

    // Taken back and imported again, it is the same.
    const [job] = await rows(w, "importJobs");
    if (job === undefined) throw new Error("no job");
    await w.alice.mutation(api.tradeImport.jobs.undo, { includeReviewed: true, jobId: job._id });
    await settlePositions(w);
    expect(await rows(w, "trades")).toEqual([]);
    await sync(w, connectionId, [fill("E1 buy 10", 1), shrunk, fill("E3 sell 2", 3)]);
    await settlePositions(w);
    expect(await rows(w, "trades")).toMatchObject(expected);
    expect(await held(w)).toEqual(["2 AAPL long"]);
  });
});

/** Numbers that look like chance and are the same in each run. */
function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

function shuffled<Item>(items: Item[], random: () => number): Item[] {
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

describe("any arrival ends in the same directions", () => {
  const random = randoms(20260216);
  const pick = <Item>(...items: Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const FILLS = 70;
  const fills = Array.from({ length: FILLS }, (_, index): Execution => {
    const account = pick("U1", "U2");
    const base = fill(`E${Math.floor(random() * 1e6)}-${index} ${pick("buy", "sell")} ${1 + Math.floor(random() * 9)}`, pick(index, index, 40));
    const openClose = random() < 0.15 ? pick("open" as const, "close" as const, "close_open" as const) : undefined;
    return { ...base, accountRef: account, openClose, symbol: pick("AAPL", "AAPL", "MSFT") };
  });
  const typedTrades: [string, number, Partial<NewTrade>][] = [
    ["buy long 6 1", 10, {}],
    ["sell long 2 1", 30, {}],
    ["sell short 5 1", 40, { ticker: "MSFT" }],
  ];

  /** The table of the facts, written down again over whole numbers: nothing of the program is used. */
  function expectedOf(sent: Execution[]): string[] {
    const told: string[] = [];
    for (const account of ["U1", "U2"]) {
      for (const symbol of ["AAPL", "MSFT"]) {
        let [long, short] = [0, 0];
        const say = (row: Execution, direction: string, quantity: number, marks = "") =>
          told.push(`${row.externalExecutionId} ${direction} ${row.side} ${quantity}${marks}`);
        const typedHere = typedTrades.filter(([, , { ticker = "AAPL" }]) => ticker === symbol);
        const steps = [
          ...typedHere.map(([text, minutes]) => ({ id: "", row: null, text, time: at(minutes) })),
          ...sent
            .filter((row) => row.accountRef === account && row.symbol === symbol)
            .map((row) => ({ id: row.externalExecutionId ?? "", row, text: "", time: row.occurredAt })),
        ].sort((a, b) => a.time - b.time || (a.id < b.id ? -1 : 1));
        for (const { row, text } of steps) {
          if (row === null) {
            const [side, direction, quantity] = text.split(" ");
            const change = Number(quantity);
            if (direction === "long") long = side === "buy" ? long + change : Math.max(0, long - change);
            else short = side === "sell" ? short + change : Math.max(0, short - change);
            continue;
          }
          const quantity = Number(row.quantity);
          const isSale = row.side === "sell";
          const [mine, other] = isSale ? (["long", "short"] as const) : (["short", "long"] as const);
          const known = isSale ? long : short;
          const closed = Math.min(known, quantity);
          const rest = quantity - closed;
          const both = long > 0 && short > 0;
          const close = (amount: number) => (isSale ? (long -= amount) : (short -= amount));
          const opens = (amount: number) => (isSale ? (short += amount) : (long += amount));
          switch (row.openClose) {
            case "open":
              say(row, other, quantity);
              opens(quantity);
              break;
            case "close":
              if (closed > 0) say(row, mine, closed);
              if (rest > 0) say(row, mine, rest, "!");
              close(closed);
              break;
            case "close_open":
              if (known === 0) say(row, other, quantity, "!?");
              else if (rest === 0) say(row, mine, quantity, "?");
              else {
                say(row, mine, closed);
                say(row, other, rest);
              }
              close(closed);
              opens(rest);
              break;
            case undefined:
              if (closed > 0) say(row, mine, closed, both ? "?" : "");
              if (rest > 0) say(row, other, rest, isSale || both ? "?" : "");
              close(closed);
              opens(rest);
              break;
          }
        }
      }
    }
    return told.sort();
  }

  async function delivered(order: Execution[], seed: number, between: (w: World) => Promise<void> = async () => {}) {
    const w = world();
    const chance = randoms(seed);
    for (const [text, minutes, changes] of typedTrades) await typed(w, text, minutes, changes);
    const leases = new Map<string, Awaited<ReturnType<typeof lease>>>();
    for (const accountRef of ["U1", "U2"]) {
      const connectionId = await connectGateway(w.alice, { accountRef });
      leases.set(accountRef, await lease(w, connectionId, "manual", accountRef));
    }
    let batch = 0;
    for (let start = 0; start < order.length; ) {
      const end = start + 1 + Math.floor(chance() ** 2 * 30);
      for (const [accountRef, held] of leases) {
        const part = order.slice(start, end).filter((row) => row.accountRef === accountRef);
        if (part.length > 0) await ingest(w, held, (batch += 1), part);
      }
      if (chance() < 0.3) await settlePositions(w);
      await between(w);
      start = end;
    }
    await settlePositions(w);
    return w;
  }

  const inTime = [...fills].sort((a, b) => a.occurredAt - b.occurredAt);
  test.each<[string, Execution[]]>([
    ["as it happened", inTime],
    ["backwards", inTime.toReversed()],
    ...[1, 2, 3, 4, 5, 6].map((seed): [string, Execution[]] => [`shuffled, seed ${seed}`, shuffled(fills, randoms(seed))]),
  ])("%s", async (name, order) => {
    const w = await delivered(order, name.length);
    expect((await told(w)).sort()).toEqual(expectedOf(fills));
    // Rows of one moment were inserted in the order in which they count.
    const inserted = (await rows(w, "trades")).filter(({ date, ownerId }) => ownerId !== undefined && date === at(40));
    const groups = new Map<string, string[]>();
    for (const { brokerAccountRef, externalExecutionId, leg, ticker } of inserted) {
      const key = `${brokerAccountRef} ${ticker}`;
      groups.set(key, [...(groups.get(key) ?? []), `${externalExecutionId} ${leg ?? 1}`]);
    }
    for (const group of groups.values()) expect(group).toEqual([...group].sort());
    for (const row of await rows(w, "importPositions")) expect(row).not.toHaveProperty("dirtyFrom");
  }, 60_000);

  test.each([11, 12, 13])("what a user decided stays, seed %d", async (seed) => {
    const chance = randoms(seed);
    const decided = new Map<string, Partial<Doc<"trades">>>();
    const w = await delivered(shuffled(fills, randoms(seed)), seed, async (current) => {
      const pending = (await rows(current, "trades")).filter(
        ({ inboxStatus, _id }) => inboxStatus === "pending_review" && !decided.has(_id),
      );
      const trade = pending[Math.floor(chance() * pending.length)];
      if (trade === undefined) return;
      const { _id: tradeId, direction, leg, quantity, side } = trade;
      const legOf = leg === undefined ? {} : { leg };
      if (chance() < 0.5) {
        await review(current, trade);
        decided.set(tradeId, { ...legOf, direction, inboxStatus: "reviewed", quantity, side });
      } else {
        const edited = { direction: direction === "long" ? ("short" as const) : ("long" as const), quantity: quantity + 0.5 };
        await current.alice.mutation(api.trades.updateTrade, { ...edited, tradeId });
        decided.set(tradeId, { ...legOf, ...edited, inboxStatus: "pending_review", side });
      }
    });
    expect(decided.size).toBeGreaterThan(5);
    const found = new Map<string, Doc<"trades">>((await rows(w, "trades")).map((trade) => [trade._id, trade]));
    for (const [tradeId, facts] of decided) expect(found.get(tradeId)).toMatchObject(facts);
    // Nothing is left to do: a run over everything changes nothing.
    const before = await told(w);
    await w.t.run(async (ctx) => {
      for (const { _id } of await ctx.db.query("importPositions").collect()) {
        await ctx.db.patch("importPositions", _id, { dirtyFrom: 0, dirtyTo: Number.MAX_SAFE_INTEGER });
      }
    });
    await settlePositions(w);
    expect(await told(w)).toEqual(before);
  }, 60_000);
});

describe("bounded work", () => {
  type Usage = { documentsRead: number; queries: number };

  /** What one batch reads, as Convex counts it, over all that the mutation does. */
  async function usageOf(w: World, connectionId: Id<"brokerageConnections">, executions: Execution[]): Promise<Usage> {
    const { fence, jobId } = await lease(w, connectionId, "manual", executions[0]?.accountRef);
    const usage = await w.t.run(async (ctx) => {
      const connection = await ctx.db.get("brokerageConnections", connectionId);
      const job = await ctx.db.get("importJobs", jobId);
      if (connection === null || job === null) throw new Error("no job");
      const before = await ctx.meta.getTransactionMetrics();
      const fates = await storeBatch(ctx, { asOf: null, connection, job, now: T0 }, executions, []);
      expect(fates.inserted).toBe(executions.length);
      const after = await ctx.meta.getTransactionMetrics();
      return {
        documentsRead: after.documentsRead.used - before.documentsRead.used,
        queries: after.databaseQueries.used - before.databaseQueries.used,
      };
    });
    await finish(w, { fence, jobId });
    return usage;
  }

  const batch = (start: number, count: number, tickers: number) =>
    Array.from({ length: count }, (_, index) => {
      const number = start + index;
      const text = `E${String(number).padStart(6, "0")} ${number % 3 === 0 ? "sell" : "buy"} ${1 + (number % 7)}`;
      return fill(text, number, { symbol: `S${number % tickers}` });
    });

  test.each([["few", 4, 3], ["many", 250, 250]])(
    "500 new rows of %s tickers upon 2,000 stored ones stay inside the limits; reads do not grow",
    async (name, tickers, plans) => {
      const w = world();
      const connectionId = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
      for (let index = 0; index < plans; index += 1) await plan(w, { instrumentSymbol: `S${index}` });
      const used: Usage[] = [];
      let stored = 0;
      for (const count of [500, 50, 450, 500, 500, 50, 500]) {
        used.push(await usageOf(w, connectionId, batch(stored, count, tickers)));
        stored += count;
      }
      const [, upon500, , , , upon2000, last] = used;
      expect(upon2000?.queries).toBe(upon500?.queries);
      // A few rows of a ticker are evidence for its plan; from some dozens on they are looked at elsewhere.
      if (name === "few") expect(upon2000).toEqual(upon500);
      else expect(upon2000?.documentsRead).toBeLessThan((upon500?.documentsRead ?? 0) + 50 * 60);
      // A half of each limit, before what else the mutation does.
      expect(last?.queries).toBeLessThan(2_048);
      expect(last?.documentsRead).toBeLessThan(16_000);
    },
    300_000,
  );

  /** Runs what is scheduled for positions; returns how many steps that took. */
  async function runs(w: World): Promise<number> {
    let steps = 0;
    for (;;) {
      const [dirty] = (await rows(w, "importPositions")).filter(({ dirtyFrom }) => dirtyFrom !== undefined);
      if (dirty === undefined) return steps;
      vi.setSystemTime(Date.now() + 3_001);
      const usage = await w.t.run(async (ctx) => {
        await ctx.runMutation(internal.tradeImport.positions.recompute, { positionId: dirty._id });
        return await ctx.meta.getTransactionMetrics();
      });
      expect(usage.documentsWritten.used).toBeLessThan(1_000);
      expect(usage.databaseQueries.used).toBeLessThan(1_000);
      steps += 1;
    }
  }

  test("late history is derived anew 200 executions at a time, once for many batches", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const history = batch(0, 900, 1).map((row) => ({ ...row, symbol: "AAPL" }));
    const held = await lease(w, connectionId, "backfill", IBKR_ACCOUNT);
    const scheduled = async () =>
      (await w.t.run(async (ctx) => await ctx.db.system.query("_scheduled_functions").collect())).filter(({ name }) =>
        name.includes("recompute"),
      ).length;
    for (let index = 0; index < 9; index += 1) {
      await ingest(w, held, index + 1, history.slice(800 - 100 * index, 900 - 100 * index));
      vi.setSystemTime(Date.now() + 1_000);
    }
    // Each batch moved what the ones before it had derived; one run waits for all of them.
    expect(await scheduled()).toBe(1);
    expect(await rows(w, "importPositions")).toMatchObject([{ dirtyFrom: history[0]?.occurredAt }]);
    expect(await runs(w)).toBe(5);
    expect((await rows(w, "importPositions"))[0]).not.toHaveProperty("dirtyFrom");
    const fresh = world();
    const inOrder = await lease(fresh, await connectGateway(fresh.alice), "backfill", IBKR_ACCOUNT);
    await ingest(fresh, inOrder, 1, history.slice(0, 450));
    await ingest(fresh, inOrder, 2, history.slice(450));
    expect(await rows(fresh, "importPositions")).toMatchObject([{ ticker: "AAPL" }]);
    expect((await rows(fresh, "importPositions"))[0]).not.toHaveProperty("dirtyFrom");
    expect(await told(w)).toEqual(await told(fresh));
  }, 120_000);

  test("more executions of one moment than a step takes", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const held = await lease(w, connectionId, "backfill", IBKR_ACCOUNT);
    const day = batch(0, 450, 1).map((row) => ({ ...row, occurredAt: at(5), symbol: "AAPL" }));
    await ingest(w, held, 1, day);
    const inOrder = await told(w);
    await ingest(w, held, 2, [fill("A buy 7", 1)]);
    expect(await runs(w)).toBe(3);
    const moved = await told(w);
    expect(moved[0]).toBe("A long buy 7");
    expect(moved.slice(1)).not.toEqual(inOrder);
    await ingest(w, held, 3, [fill("B sell 7", 2)]);
    await runs(w);
    expect((await told(w)).slice(2)).toEqual(inOrder);
  }, 120_000);

  test("B2 rows of one moment that two steps derive are inserted in the order in which they count", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const held = await lease(w, connectionId, "backfill", IBKR_ACCOUNT);
    const moment = Array.from({ length: 220 }, (_, index) =>
      fill(`E${100 + index} ${index < 110 ? "buy 10 @ 100" : "sell 10 @ 110"}`, 5),
    );
    await ingest(w, held, 1, moment.slice(110));
    await ingest(w, held, 2, moment.slice(0, 110));
    expect(await runs(w)).toBe(2);
    const inserted = (await rows(w, "trades")).map(({ externalExecutionId }) => externalExecutionId);
    expect(inserted).toEqual(moment.map(({ externalExecutionId }) => externalExecutionId));
    const all = (await rows(w, "trades")).map(({ _id }) => _id);
    for (const tradeIds of [all.slice(0, 110), all.slice(110)]) {
      await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds });
    }
    await runs(w);
    // 110 times ten shares, ten dearer.
    expect([await realized(w), await w.alice.query(api.positions.getPositions, {})]).toEqual([11_000, []]);
  }, 120_000);

  test("the work ends where the position is as it was", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT });
    const held = await lease(w, connectionId, "backfill", IBKR_ACCOUNT);
    await ingest(w, held, 1, batch(10, 450, 1).map((row) => ({ ...row, symbol: "AAPL" })));
    // Bought and sold before all else: nothing behind it changes.
    await ingest(w, held, 2, [fill("A1 buy 7", 1), fill("A2 sell 7", 2)]);
    expect(await runs(w)).toBe(1);
  }, 120_000);

  test("a run that waits goes on by itself, and one that was lost is scheduled again", async () => {
    const { connectionId, w } = await imported(fill("E2 sell 10", 2));
    await sync(w, connectionId, [fill("E1 buy 10", 1)]);
    const position = async () => (await rows(w, "importPositions"))[0];
    const run = async () => {
      const { _id: positionId } = (await position()) as Doc<"importPositions">;
      await w.t.mutation(internal.tradeImport.positions.recompute, { positionId });
    };
    expect(await position()).toMatchObject({ dirtyFrom: at(1), dueAt: T0 + 3_000 });
    vi.setSystemTime(T0 + 2_000);
    await sync(w, connectionId, [fill("E0 buy 1", 0)]);
    vi.setSystemTime(T0 + 3_000);
    await run();
    expect(await position()).toMatchObject({ dirtyFrom: at(0), dueAt: T0 + 5_000 });
    const look = async () => await w.t.run(async (ctx) => await touchPendingPositions(ctx));
    await look();
    expect(await position()).toMatchObject({ dueAt: T0 + 5_000 });
    vi.setSystemTime(T0 + 700_000);
    await look();
    expect(await position()).toMatchObject({ dueAt: T0 + 703_000 });
    await run();
    expect(await told(w)).toEqual(["E0 long buy 1", "E1 long buy 10", "E2 long sell 10"]);
    expect(await position()).not.toHaveProperty("dueAt");
    // A run too many does nothing.
    await run();
    expect(await position()).not.toHaveProperty("dirtyFrom");
  });
});
