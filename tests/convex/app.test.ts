// The stand-in app: the measured figures of the existing one, and what imports must not do to them.
import type { FunctionArgs } from "convex/server";
import { describe, expect, test } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import { calculateTradesWithPL } from "../../convex/lib/plCalculation";
import { connect, execution, plan, rows, sync, world, type World } from "./world";

type NewTrade = FunctionArgs<typeof api.trades.createTrade>;

function trade(words: string, changes: Partial<NewTrade> = {}): Partial<NewTrade> {
  const [side, direction, quantity, price] = words.split(" ");
  return {
    direction: direction as NewTrade["direction"],
    price: Number(price),
    quantity: Number(quantity),
    side: side as NewTrade["side"],
    ...changes,
  };
}

async function enter(w: World, trades: Partial<NewTrade>[]): Promise<Id<"trades">[]> {
  const ids: Id<"trades">[] = [];
  for (const [index, each] of trades.entries()) {
    ids.push(
      await w.alice.mutation(api.trades.createTrade, {
        assetType: "stock",
        date: 1_000 + index,
        direction: "long",
        price: 0,
        quantity: 0,
        side: "buy",
        ticker: "AAPL",
        ...each,
      }),
    );
  }
  return ids;
}

const figures = async (w: World) => ({
  positions: (await w.alice.query(api.positions.getPositions, {})).map(
    ({ averageCost, direction, quantity, ticker }) => `${quantity} ${ticker} ${direction} @ ${averageCost}`,
  ),
  realized: (await w.alice.query(api.analytics.getDashboardStats, {})).totalRealizedPL,
});

describe("measured results of the existing app", () => {
  const crypto = { assetType: "crypto", ticker: "SOL" } as const;
  const stock = { assetType: "stock", ticker: "SOL" } as const;
  const tick = { date: 5 };
  test.each<[string, Partial<NewTrade>[], number, string[]]>([
    ["only a long sell", [trade("sell long 10 200")], 2000, []],
    ["only a cover", [trade("buy short 10 200")], -2000, []],
    [
      "the closing sell stored as short",
      [trade("buy long 10 100"), trade("sell short 10 110")],
      0,
      ["10 AAPL long @ 100", "10 AAPL short @ 110"],
    ],
    ["an oversell as one long sell", [trade("buy long 10 100"), trade("sell long 15 110")], 150, []],
    [
      "the same as two legs",
      [trade("buy long 10 100"), trade("sell long 10 110"), trade("sell short 5 110")],
      100,
      ["5 AAPL short @ 110"],
    ],
    [
      "tickers in two cases",
      [trade("buy long 10 100"), trade("sell long 10 110", { ticker: "aapl" })],
      1100,
      ["10 AAPL long @ 100"],
    ],
    [
      "one ticker in two asset types",
      [trade("buy long 10 100", crypto), trade("buy long 10 10", stock), trade("sell long 10 12", stock)],
      -430,
      ["10 SOL long @ 55"],
    ],
    [
      "float dust",
      [
        trade("buy long 0.1 50000", { assetType: "crypto", ticker: "BTC" }),
        trade("buy long 0.2 50000", { assetType: "crypto", ticker: "BTC" }),
        trade("sell long 0.3 60000", { assetType: "crypto", ticker: "BTC" }),
      ],
      3000.0000000000023,
      [`${0.1 + 0.2 - 0.3} BTC long @ ${15_000 / (0.1 + 0.2)}`],
    ],
    ["equal times, the sell first", [trade("sell long 10 110", tick), trade("buy long 10 100", tick)], 1100, ["0"]],
    [
      "two fills and their order row",
      [trade("buy long 4 100"), trade("buy long 6 100"), trade("buy long 10 100")],
      0,
      ["20 AAPL long @ 100"],
    ],
  ])("%s", async (_, trades, realized, positions) => {
    const w = world();
    await enter(w, trades);
    const result = await figures(w);
    expect(result.realized).toBe(realized);
    expect(result.positions).toEqual(positions.filter((position) => position !== "0"));
  });

  test("equal times in the right order realize 100", () => {
    const base = { date: 5, direction: "long", quantity: 10, ticker: "AAPL" } as const;
    const results = calculateTradesWithPL([
      { ...base, _id: "a", price: 100, side: "buy" },
      { ...base, _id: "b", price: 110, side: "sell" },
    ]);
    expect(results.map(({ realizedPL }) => realizedPL)).toEqual([null, 100]);
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
});

async function everyFigure(w: World, campaignId: Id<"campaigns">, tradePlanId: Id<"tradePlans">) {
  return {
    campaign: await w.alice.query(api.campaigns.getCampaignPL, { campaignId }),
    dashboard: await w.alice.query(api.analytics.getDashboardStats, {}),
    plan: await w.alice.query(api.tradePlans.getTradePlanPL, { tradePlanId }),
    positions: await w.alice.query(api.positions.getPositions, {}),
    status: await w.alice.query(api.campaigns.getCampaignPositionStatus, { campaignId }),
  };
}

describe("imported rows", () => {
  test("count in no figure until they are reviewed", async () => {
    const w = world();
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const tradePlanId = await plan(w, { campaignId });
    await enter(w, [trade("buy long 10 100", { tradePlanId }), trade("sell long 10 110", { tradePlanId })]);
    const before = await everyFigure(w, campaignId, tradePlanId);
    await sync(w, await connect(w.alice), [
      execution("T1"),
      execution("T2", { price: "40010", quantity: "0.25", side: "sell" }),
    ]);
    // Even with a link, which only a person can set.
    const pending = (await rows(w, "trades")).filter(({ inboxStatus }) => inboxStatus === "pending_review");
    for (const { _id } of pending) await w.alice.mutation(api.trades.updateTrade, { tradeId: _id, tradePlanId });
    expect(await everyFigure(w, campaignId, tradePlanId)).toEqual(before);
    expect((await w.alice.query(api.trades.listTrades, {})).map(({ realizedPL }) => realizedPL).sort()).toEqual(
      [null, null, null, 100].sort(),
    );

    const tradeIds = pending.map(({ _id }) => _id);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds, tradePlanId });
    const after = await everyFigure(w, campaignId, tradePlanId);
    expect(after.campaign.realizedPL).toBe(100 + (40010 - 30010) * 0.25);
    expect(after.positions).toMatchObject([{ averageCost: 30010, quantity: 0.25, ticker: "BTC/USD" }]);
    expect(after.dashboard.totalTradeCount).toBe(4);
  });

  test("a campaign takes a direct link only from a trade without a plan, once", async () => {
    const w = world();
    const mine = await w.alice.mutation(api.campaigns.createCampaign, { name: "Mine", thesis: "" });
    const other = await w.alice.mutation(api.campaigns.createCampaign, { name: "Other", thesis: "" });
    const tradePlanId = await plan(w, { campaignId: other });
    await sync(w, await connect(w.alice), [execution("T1"), execution("T2"), execution("T3")]);
    const [direct, planned, both] = (await rows(w, "trades")).map(({ _id }) => _id);
    if (!direct || !planned || !both) throw new Error("no trades");
    await w.alice.mutation(api.tradeImport.inbox.review, { campaignId: mine, tradeIds: [direct] });
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [planned, both], tradePlanId });
    // As another writer could have left it.
    await w.t.run(async (ctx) => {
      await ctx.db.patch("trades", both, { campaignId: mine });
    });
    const count = async (campaignId: Id<"campaigns">) =>
      (await w.alice.query(api.campaigns.getCampaignPL, { campaignId })).tradeCount;
    expect(await count(mine)).toBe(1);
    expect(await count(other)).toBe(2);
  });

  test("another user of the app does not see them", async () => {
    const w = world();
    await enter(w, [trade("buy long 1 1")]);
    await sync(w, await connect(w.alice), [execution("T1")]);
    expect(await w.alice.query(api.trades.listTrades, {})).toHaveLength(2);
    expect(await w.bob.query(api.trades.listTrades, {})).toHaveLength(1);
    expect(await w.t.query(api.trades.listTrades, {})).toHaveLength(1);
  });
});

test("a trade somebody types is manual, and its plan can be cleared", async () => {
  const w = world();
  const tradePlanId = await plan(w);
  const [tradeId] = await enter(w, [trade("buy long 1 1", { tradePlanId })]);
  if (!tradeId) throw new Error("no trade");
  expect(await rows(w, "trades")).toMatchObject([{ source: "manual", tradePlanId }]);
  await w.alice.mutation(api.trades.updateTrade, { notes: "n", tradeId });
  expect(await rows(w, "trades")).toMatchObject([{ notes: "n", tradePlanId }]);
  await w.alice.mutation(api.trades.updateTrade, { tradeId, tradePlanId: null });
  expect((await rows(w, "trades"))[0]).not.toHaveProperty("tradePlanId");
});

describe("plan status", () => {
  const all = ["active", "closed", "idea", "watching"] as const;
  const moves = {
    active: ["watching", "closed"],
    closed: ["idea", "watching", "active"],
    idea: ["watching", "active", "closed"],
    watching: ["idea", "active", "closed"],
  };
  test.each(all.flatMap((from) => all.filter((to) => to !== from).map((to) => [from, to] as const)))(
    "%s to %s",
    async (from, to) => {
      const w = world();
      const tradePlanId = await plan(w, { status: from });
      const move = w.alice.mutation(api.tradePlans.updateTradePlanStatus, { status: to, tradePlanId });
      if (moves[from].includes(to)) await move;
      else await expect(move).rejects.toThrow("cannot move");
      expect((await rows(w, "tradePlans"))[0]?.status).toBe(moves[from].includes(to) ? to : from);
    },
  );

  test("a plan of a closed campaign cannot be reopened", async () => {
    const w = world();
    const campaign = { name: "C", status: "closed" as const, thesis: "" };
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, campaign);
    const tradePlanId = await plan(w, { campaignId, status: "closed" });
    const move = w.alice.mutation(api.tradePlans.updateTradePlanStatus, { status: "idea", tradePlanId });
    await expect(move).rejects.toThrow("closed campaign");
  });
});
