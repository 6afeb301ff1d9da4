// The measured results of the existing app (reference existing-app 5), by the stand-in's own functions; then what
// the same fills come to when they are imported.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import { calculateTradesPL, calculateTradesWithPL } from "../../convex/lib/plCalculation";
import type { Execution } from "../../convex/tradeImport/validators";
import { enter, figures, trade, type NewTrade } from "./journal";
import {
  connect,
  connectGateway,
  execution,
  flexCancel,
  flexFill,
  ibkrFill,
  inboxRows,
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

const btc = { assetType: "crypto", ticker: "BTC" } as const;

type Case = [name: string, trades: Partial<NewTrade>[], results: (number | null)[], positions: string[]];

const measured: Case[] = [
  ["only: sell long 10 @ 200", [trade("sell long 10 200")], [2000], []],
  ["only: buy short (cover) 10 @ 200", [trade("buy short 10 200")], [-2000], []],
  [
    "buy 10 @ 100, then the closing sell 10 @ 110 stored as short",
    [trade("buy long 10 100"), trade("sell short 10 110")],
    [null, null],
    ["10 AAPL long @ 100", "10 AAPL short @ 110"],
  ],
  [
    "buy long 10 @ 100, sell 15 @ 110 stored as one long sell",
    [trade("buy long 10 100"), trade("sell long 15 110")],
    [null, 150],
    [],
  ],
  [
    "same, stored as long sell 10 + short sell 5",
    [trade("buy long 10 100"), trade("sell long 10 110"), trade("sell short 5 110")],
    [null, 100, null],
    ["5 AAPL short @ 110"],
  ],
  [
    "buy AAPL 10 @ 100, sell aapl 10 @ 110",
    [trade("buy long 10 100"), trade("sell long 10 110", { ticker: "aapl" })],
    [null, 1100],
    ["10 AAPL long @ 100"],
  ],
  [
    "crypto SOL buy 10 @ 100, stock SOL buy 10 @ 10, stock SOL sell 10 @ 12",
    [
      trade("buy long 10 100", { assetType: "crypto", ticker: "SOL" }),
      trade("buy long 10 10", { ticker: "SOL" }),
      trade("sell long 10 12", { ticker: "SOL" }),
    ],
    [null, null, -430],
    ["10 SOL long @ 55"],
  ],
  [
    "crypto buys 0.1 + 0.2 @ 50000, sell 0.3 @ 60000",
    [trade("buy long 0.1 50000", btc), trade("buy long 0.2 50000", btc), trade("sell long 0.3 60000", btc)],
    [null, null, 3000.0000000000023],
    ["5.551115123125783e-17 BTC long @ 49999.99999999999"],
  ],
  [
    "buy and sell 10 with the same millisecond, sell inserted first",
    [trade("sell long 10 110", { date: 5 }), trade("buy long 10 100", { date: 5 })],
    [1100, null],
    [],
  ],
  [
    "two fills 4 + 6 and their order row 10, all stored",
    [trade("buy long 4 100"), trade("buy long 6 100"), trade("buy long 10 100")],
    [null, null, null],
    ["20 AAPL long @ 100"],
  ],
];

describe("as measured in the existing app", () => {
  test.each(measured)("%s", async (_, trades, results, positions) => {
    const w = world();
    const ids = await enter(w, trades);
    const realized = results.flatMap((result) => result ?? []);
    const total = realized.reduce((sum, result) => sum + result, 0);
    expect(await figures(w.alice)).toEqual({ positions, realized: total });

    const listed = await w.alice.query(api.trades.listTrades, {});
    expect(ids.map((id) => listed.find(({ _id }) => _id === id)?.realizedPL)).toEqual(results);
    expect(listed.map(({ date }) => date)).toEqual(listed.map(({ date }) => date).sort((a, b) => b - a));
    for (const [index, tradeId] of ids.entries()) {
      expect((await w.alice.query(api.trades.getTrade, { tradeId }))?.realizedPL).toBe(results[index]);
    }

    const wins = realized.filter((result) => result > 0);
    const losses = realized.filter((result) => result < 0);
    const stats = await w.alice.query(api.analytics.getDashboardStats, {});
    expect(stats).toMatchObject({
      avgLoss: losses.length === 0 ? null : losses[0],
      avgWin: wins.length === 0 ? null : wins[0],
      totalTradeCount: trades.length,
      winRate: realized.length === 0 ? null : wins.length / realized.length,
    });
  });

  test.each(measured)("%s: the same by plan and by campaign", async (_, trades, results) => {
    const w = world();
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const tradePlanId = await plan(w, { campaignId });
    await enter(w, trades.map((each) => ({ ...each, tradePlanId })));
    const realized = results.flatMap((result) => result ?? []);
    const summary = {
      losingTrades: realized.filter((result) => result < 0).length,
      realizedPL: realized.reduce((sum, result) => sum + result, 0),
      tradeCount: trades.length,
      winningTrades: realized.filter((result) => result > 0).length,
    };
    expect(await w.alice.query(api.tradePlans.getTradePlanPL, { tradePlanId })).toEqual(summary);
    expect(await w.alice.query(api.campaigns.getCampaignPL, { campaignId })).toEqual(summary);
    const status = await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId });
    expect(status.realizedPL).toBe(summary.realizedPL);
    const linked = await w.alice.query(api.trades.getTradesByTradePlan, { tradePlanId });
    expect(linked.map(({ realizedPL }) => realizedPL)).toEqual(results);
    expect(await w.alice.query(api.tradePlans.getTradesByTradePlan, { tradePlanId })).toEqual(linked);
  });

  test("equal times in the right order realize 100", () => {
    const base = { date: 5, direction: "long", quantity: 10, ticker: "AAPL" } as const;
    const trades = [
      { ...base, _id: "a", price: 100, side: "buy" as const },
      { ...base, _id: "b", price: 110, side: "sell" as const },
    ];
    expect([...calculateTradesPL(trades)]).toEqual([["a", null], ["b", 100]]);
    expect(calculateTradesWithPL(trades).map(({ realizedPL }) => realizedPL)).toEqual([null, 100]);
  });

  test("a campaign hides quantities up to 0.0001 and counts only its plans' trades", async () => {
    const w = world();
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const tradePlanId = await plan(w, { campaignId });
    await enter(w, [
      trade("buy long 0.3 100", { tradePlanId }),
      trade("sell long 0.2999 110", { tradePlanId }),
      trade("sell long 10 110", { ticker: "OTHER" }),
    ]);
    const status = await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId });
    expect(status).toMatchObject({ isFullyClosed: true, positions: [] });
    expect(status.realizedPL).toBeCloseTo(2.999, 9);
  });

  test("the year begins on 1 January UTC", async () => {
    const w = world();
    const newYear = Date.UTC(2026, 0, 1);
    await enter(w, [
      trade("buy long 10 100", { date: newYear - 9 }),
      trade("sell long 5 110", { date: newYear - 1 }),
      trade("sell long 5 120", { date: newYear }),
    ]);
    expect(await w.alice.query(api.analytics.getDashboardStats, {})).toMatchObject({
      totalRealizedPL: 150,
      totalRealizedPLYTD: 100,
    });
  });
});

/** All that is scheduled has run: directions are final. */
async function settle(w: World) {
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
}

async function reviewAll(w: World, link: { campaignId?: Id<"campaigns">; tradePlanId?: Id<"tradePlans"> | null } = {}) {
  const tradeIds = (await inboxRows(w.alice)).flatMap(({ tradeId }) => tradeId ?? []);
  await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds, ...link });
}

const at = (minutes: number) => T0 - 3_600_000 + minutes * 60_000;

/** `"sell 10 110"` of AAPL at Interactive Brokers, minutes into the hour. */
function stock(id: string, words: string, minutes: number, changes: Partial<Execution> = {}): Execution {
  return ibkrFill(id, { ...fillOf(words), occurredAt: at(minutes), ...changes });
}

/** The same of SOL/USD at Kraken. */
function coin(id: string, words: string, minutes: number, changes: Partial<Execution> = {}): Execution {
  return execution(id, { ...fillOf(words), occurredAt: at(minutes), rawSymbol: "SOLUSD", symbol: "SOL/USD", ...changes });
}

function fillOf(words: string): Pick<Execution, "price" | "quantity" | "side"> {
  const [side, quantity = "", price = ""] = words.split(" ");
  return { price, quantity, side: side === "buy" ? "buy" : "sell" };
}

/** Imported, settled, and reviewed as unlinked. */
async function imported(fills: Execution[]): Promise<World> {
  const w = world();
  const kraken = fills.filter(({ provider }) => provider === "kraken");
  const ibkr = fills.filter(({ provider }) => provider === "ibkr");
  if (kraken.length > 0) await sync(w, await connect(w.alice), kraken);
  if (ibkr.length > 0) await sync(w, await connectGateway(w.alice), ibkr);
  await settle(w);
  await reviewAll(w);
  return w;
}

describe("as imported", () => {
  test("a long sell alone is not pure profit, and a backfill of its opening makes it right", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [coin("T2", "sell 10 200", 30)]);
    await settle(w);
    await reviewAll(w);
    expect(await rows(w, "trades")).toMatchObject([
      { direction: "long", importFlags: ["opening_lot_unknown"], inboxStatus: "reviewed" },
    ]);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 0 });

    await sync(w, connectionId, [coin("T1", "buy 10 150", 10)]);
    await settle(w);
    await reviewAll(w);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 500 });
  });

  test("a cover alone is not pure loss", async () => {
    const w = await imported([stock("F1", "buy 10 200", 10, { openClose: "close" })]);
    expect(await rows(w, "trades")).toMatchObject([{ direction: "short", importFlags: ["opening_lot_unknown"] }]);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 0 });
  });

  test("a closing sell closes, and opens nothing", async () => {
    const w = await imported([stock("F1", "buy 10 100", 10), stock("F2", "sell 10 110", 20)]);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 100 });
  });

  test("a sale of more than is open becomes two legs", async () => {
    const w = await imported([stock("F1", "buy 10 100", 10), stock("F2", "sell 15 110", 20)]);
    expect(await figures(w.alice)).toEqual({ positions: ["5 AAPL short @ 110"], realized: 100 });
    expect((await rows(w, "trades")).flatMap(({ leg }) => leg ?? []).sort()).toEqual([1, 2]);
  });

  test("B17 a ticker in two spellings is one", async () => {
    const w = await imported([
      stock("F1", "buy 10 100", 10),
      stock("F2", "sell 10 110", 20, { rawSymbol: " aapl ", symbol: " aapl " }),
    ]);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 100 });
  });

  test("a coin and a share of one name do not pool", async () => {
    const w = await imported([
      coin("T1", "buy 10 100", 10),
      stock("F1", "buy 10 10", 20, { symbol: "SOL" }),
      stock("F2", "sell 10 12", 30, { symbol: "SOL" }),
    ]);
    expect(await figures(w.alice)).toEqual({ positions: ["10 SOL/USD long @ 100"], realized: 20 });
  });

  test("B15 binary rounding splits no fill: 0.1 + 0.7 is 0.8", async () => {
    expect(0.1 + 0.7).toBeLessThan(0.8);
    const w = await imported([
      coin("T1", "buy 0.1 50000", 10),
      coin("T2", "buy 0.7 50000", 20),
      coin("T3", "sell 0.8 60000", 30),
    ]);
    const sale = (await rows(w, "trades")).filter(({ side }) => side === "sell");
    expect(sale).toMatchObject([{ direction: "long", importFlags: [], quantity: 0.8 }]);
    expect((await figures(w.alice)).realized).toBeCloseTo(8000, 6);
  });

  test("fills of one instant are inserted in the order of their ids", async () => {
    const w = await imported([stock("F2", "sell 10 110", 10), stock("F1", "buy 10 100", 10)]);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 100 });
  });

  test("B7 two fills and their statement are two fills", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [stock("F1", "buy 4 100", 10), stock("F2", "buy 6 100", 20)]);
    await sync(w, connectionId, [
      flexFill("F1", { ...fillOf("buy 4 100"), occurredAt: at(10) }),
      flexFill("F2", { ...fillOf("buy 6 100"), occurredAt: at(20) }),
    ]);
    await settle(w);
    await reviewAll(w);
    expect(await figures(w.alice)).toEqual({ positions: ["10 AAPL long @ 100"], realized: 0 });
  });

  test("B8 a row that the broker cancelled counts no more", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const fill = (id: string, words: string, minutes: number) => flexFill(id, { ...fillOf(words), occurredAt: at(minutes) });
    await sync(w, connectionId, [fill("F1", "buy 10 100", 10), fill("F2", "buy 10 300", 20), fill("F3", "sell 10 110", 30)]);
    await settle(w);
    await reviewAll(w);
    expect(await figures(w.alice)).toEqual({ positions: ["10 AAPL long @ 200"], realized: -900 });
    await sync(w, connectionId, [flexCancel("F2", "C1", { occurredAt: at(40) })]);
    await settle(w);
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 100 });
  });

  test("rows in review count in no figure, whatever they are linked to", async () => {
    const w = world();
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", status: "closed", thesis: "" });
    const tradePlanId = await plan(w, { campaignId, instrumentSymbol: "AAPL" });
    await sync(w, await connectGateway(w.alice), [stock("F1", "buy 10 100", 10), stock("F2", "sell 4 110", 20)]);
    await settle(w);
    const pending = (await rows(w, "trades")).map(({ _id }) => _id);
    // As another writer could have linked them.
    await w.t.run(async (ctx) => {
      for (const _id of pending) await ctx.db.patch("trades", _id, { tradePlanId });
    });
    const nothing = { losingTrades: 0, realizedPL: 0, tradeCount: 0, winningTrades: 0 };
    expect(await figures(w.alice)).toEqual({ positions: [], realized: 0 });
    expect(await w.alice.query(api.tradePlans.getTradePlanPL, { tradePlanId })).toEqual(nothing);
    expect(await w.alice.query(api.campaigns.getCampaignPL, { campaignId })).toEqual(nothing);
    expect(await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId })).toEqual({
      isFullyClosed: false,
      positions: [],
      realizedPL: 0,
    });
    expect(await w.alice.query(api.analytics.getDashboardStats, {})).toMatchObject({
      totalTradeCount: 0,
      winningCampaignCount: 0,
    });
    // They are listed, without a result.
    const shown = [
      ...(await w.alice.query(api.trades.listTrades, {})),
      ...(await w.alice.query(api.trades.getTradesByTradePlan, { tradePlanId })),
      ...(await w.alice.query(api.tradePlans.getTradesByTradePlan, { tradePlanId })),
    ];
    for (const tradeId of pending) {
      const one = await w.alice.query(api.trades.getTrade, { tradeId });
      if (one !== null) shown.push(one);
    }
    expect(shown.map(({ realizedPL }) => realizedPL)).toEqual(Array(8).fill(null));

    await reviewAll(w, { tradePlanId });
    expect(await figures(w.alice)).toEqual({ positions: ["6 AAPL long @ 100"], realized: 40 });
    expect(await w.alice.query(api.campaigns.getCampaignPL, { campaignId })).toMatchObject({ realizedPL: 40, tradeCount: 2 });
    expect(await w.alice.query(api.analytics.getDashboardStats, {})).toMatchObject({ winningCampaignCount: 1 });
  });

  test("rows in review do not change the result of typed trades", async () => {
    const w = world();
    const [, sale] = await enter(w, [trade("buy long 10 100", { date: at(0) }), trade("sell long 10 110", { date: at(30) })]);
    await sync(w, await connectGateway(w.alice), [stock("F1", "buy 10 300", 10)]);
    await settle(w);
    const results = async () => [
      (await w.alice.query(api.trades.listTrades, {})).find(({ _id }) => _id === sale)?.realizedPL,
      (await figures(w.alice)).realized,
    ];
    expect(await results()).toEqual([100, 100]);
    await reviewAll(w);
    expect(await results()).toEqual([-900, -900]);
  });

  test("a campaign linked directly has the trade once in each roll-up, and not at all beside a plan", async () => {
    const w = world();
    const campaign = async (name: string) =>
      await w.alice.mutation(api.campaigns.createCampaign, { name, status: "closed", thesis: "" });
    const [direct, planned] = [await campaign("direct"), await campaign("planned")];
    const tradePlanId = await plan(w, { campaignId: planned, instrumentSymbol: "AAPL" });
    await sync(w, await connectGateway(w.alice), [stock("F1", "buy 10 100", 10), stock("F2", "sell 4 110", 20)]);
    await settle(w);
    await reviewAll(w, { campaignId: direct });
    const of = async (campaignId: Id<"campaigns">) => {
      const { realizedPL, tradeCount } = await w.alice.query(api.campaigns.getCampaignPL, { campaignId });
      const { positions } = await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId });
      return { open: positions.map(({ quantity }) => quantity), realizedPL, tradeCount };
    };
    const winning = async () => (await w.alice.query(api.analytics.getDashboardStats, {})).winningCampaignCount;
    const all = { open: [6], realizedPL: 40, tradeCount: 2 };
    const none = { open: [], realizedPL: 0, tradeCount: 0 };
    expect([await of(direct), await of(planned), await winning()]).toEqual([all, none, 1]);

    // As another writer could have left it: the plan wins.
    await w.t.run(async (ctx) => {
      for (const { _id } of await ctx.db.query("trades").collect()) await ctx.db.patch("trades", _id, { tradePlanId });
    });
    expect([await of(direct), await of(planned), await winning()]).toEqual([none, all, 1]);

    // Through the app's own function the direct link goes when a plan comes.
    const tradeIds = (await rows(w, "trades")).map(({ _id }) => _id);
    for (const tradeId of tradeIds) await w.alice.mutation(api.trades.updateTrade, { tradeId, tradePlanId });
    expect((await rows(w, "trades")).map(({ campaignId }) => campaignId)).toEqual([undefined, undefined]);
  });
});
