// The app around the import: its functions with imported rows in its tables, and what the merge adds to it.
import { makeFunctionReference } from "convex/server";
import { afterEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { WORKER_AUDIENCE, WORKER_ISSUER } from "../../convex/tradeImport/authProvider";
import { importedTradeFields } from "../../convex/tradeImport/tables";
import { vImportFlag } from "../../convex/tradeImport/validators";
import { enter, trade } from "./journal";
import { connect, execution, modules, plan, rows, sync, world, type World } from "./world";

afterEach(() => {
  vi.unstubAllEnvs();
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

describe("one pending row that carries every field of the import", () => {
  type Names = { campaignId: Id<"campaigns">; noteId: Id<"campaignNotes">; tradeId: Id<"trades">; tradePlanId: Id<"tradePlans"> };
  const typed = { assetType: "stock", date: 1, direction: "long", price: 1, quantity: 1, side: "buy", ticker: "AAPL" };
  const planned = { entryConditions: "", exitConditions: "", instrumentSymbol: "X", name: "P", targetConditions: "" };
  const args: Record<string, (names: Names) => Record<string, unknown>> = {
    "analytics:getDashboardStats": () => ({}),
    "campaignNotes:addNote": ({ campaignId }) => ({ campaignId, content: "" }),
    "campaignNotes:getNotesByCampaign": ({ campaignId }) => ({ campaignId }),
    "campaignNotes:updateNote": ({ noteId }) => ({ content: "n", noteId }),
    "campaigns:createCampaign": () => ({ name: "N", thesis: "" }),
    "campaigns:getCampaign": ({ campaignId }) => ({ campaignId }),
    "campaigns:getCampaignPL": ({ campaignId }) => ({ campaignId }),
    "campaigns:getCampaignPositionStatus": ({ campaignId }) => ({ campaignId }),
    "campaigns:listCampaigns": () => ({}),
    "campaigns:listCampaignsByStatus": () => ({ status: "planning" }),
    "campaigns:updateCampaign": ({ campaignId }) => ({ campaignId, name: "N" }),
    "campaigns:updateCampaignStatus": ({ campaignId }) => ({ campaignId, status: "closed" }),
    "portfolioSnapshots:createSnapshot": () => ({ date: 1, source: "manual", totalValue: 1 }),
    "portfolioSnapshots:getLatestSnapshot": () => ({}),
    "portfolioSnapshots:listSnapshots": () => ({}),
    "positions:getPositions": () => ({}),
    "tradePlans:createTradePlan": () => planned,
    "tradePlans:getTradePlan": ({ tradePlanId }) => ({ tradePlanId }),
    "tradePlans:getTradePlanPL": ({ tradePlanId }) => ({ tradePlanId }),
    "tradePlans:getTradesByTradePlan": ({ tradePlanId }) => ({ tradePlanId }),
    "tradePlans:listOpenTradePlans": () => ({}),
    "tradePlans:listStandaloneTradePlans": () => ({}),
    "tradePlans:listTradePlans": () => ({}),
    "tradePlans:listTradePlansByCampaign": ({ campaignId }) => ({ campaignId }),
    "tradePlans:updateTradePlan": ({ tradePlanId }) => ({ name: "N", tradePlanId }),
    "tradePlans:updateTradePlanStatus": ({ tradePlanId }) => ({ status: "closed", tradePlanId }),
    "trades:createTrade": ({ tradePlanId }) => ({ ...typed, tradePlanId }),
    "trades:deleteTrade": ({ tradeId }) => ({ tradeId }),
    "trades:getTrade": ({ tradeId }) => ({ tradeId }),
    "trades:getTradesByTradePlan": ({ tradePlanId }) => ({ tradePlanId }),
    "trades:listTrades": () => ({}),
    "trades:updateTrade": ({ tradeId, tradePlanId }) => ({ ...typed, notes: "n", tradeId, tradePlanId }),
  };

  async function fill(w: World): Promise<Names> {
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const noteId = await w.alice.mutation(api.campaignNotes.addNote, { campaignId, content: "" });
    const tradePlanId = await plan(w, { campaignId });
    await sync(w, await connect(w.alice), [execution("T1")]);
    const [trade] = await rows(w, "trades");
    if (trade === undefined) throw new Error("no trade");
    await w.t.run(async (ctx) => {
      await ctx.db.patch("trades", trade._id, {
        campaignId,
        importFlags: vImportFlag.members.map(({ value }) => value),
        leg: 1,
        notes: "n",
        suggestedTradePlanId: tradePlanId,
        suggestionReason: "symbol_and_side_match",
        tradePlanId,
      });
    });
    const [full] = await rows(w, "trades");
    expect(full).toMatchObject({ inboxStatus: "pending_review" });
    expect(Object.keys(importedTradeFields).filter((field) => full?.[field as keyof Doc<"trades">] === undefined)).toEqual([]);
    return { campaignId, noteId, tradeId: trade._id, tradePlanId };
  }

  type Exported = Partial<{ isMutation: boolean; isPublic: boolean }> | undefined;

  async function appFunctions(): Promise<Map<string, "mutation" | "query">> {
    const kinds = new Map<string, "mutation" | "query">();
    for (const [file, load] of Object.entries(modules)) {
      const path = file.replace(/^.*\/convex\//, "").replace(/\.ts$/, "");
      if (/^(_generated|tradeImport)\/|^(schema|auth\.config)$/.test(path)) continue;
      for (const [name, value] of Object.entries((await load()) as Record<string, Exported>)) {
        if (value?.isPublic === true) kinds.set(`${path}:${name}`, value.isMutation === true ? "mutation" : "query");
      }
    }
    return kinds;
  }

  test("there is no other function", async () => {
    expect([...(await appFunctions()).keys()].sort()).toEqual(Object.keys(args).sort());
  });

  test.each(Object.entries(args))("%s returns", async (name, argsOf) => {
    const w = world();
    const names = await fill(w);
    const kind = (await appFunctions()).get(name);
    const call =
      kind === "mutation"
        ? w.alice.mutation(makeFunctionReference<"mutation">(name), argsOf(names))
        : w.alice.query(makeFunctionReference<"query">(name), argsOf(names));
    await expect(call).resolves.toBeDefined();
  });

  test("the four that return trades return it whole", async () => {
    const w = world();
    const { tradeId, tradePlanId } = await fill(w);
    const [full] = await rows(w, "trades");
    const whole = { ...full, realizedPL: null };
    expect(await w.alice.query(api.trades.listTrades, {})).toEqual([whole]);
    expect(await w.alice.query(api.trades.getTrade, { tradeId })).toEqual(whole);
    expect(await w.alice.query(api.trades.getTradesByTradePlan, { tradePlanId })).toEqual([whole]);
    expect(await w.alice.query(api.tradePlans.getTradesByTradePlan, { tradePlanId })).toEqual([whole]);
  });

  test("nobody else can read, change or delete it", async () => {
    const w = world();
    const { tradeId, tradePlanId } = await fill(w);
    const before = await rows(w, "trades");
    expect(await w.bob.query(api.trades.listTrades, {})).toEqual([]);
    expect(await w.bob.query(api.trades.getTrade, { tradeId })).toBeNull();
    expect(await w.bob.query(api.trades.getTradesByTradePlan, { tradePlanId })).toEqual([]);
    expect(await w.bob.query(api.tradePlans.getTradesByTradePlan, { tradePlanId })).toEqual([]);
    await expect(w.bob.mutation(api.trades.updateTrade, { price: 1, tradeId })).rejects.toThrow("Trade not found");
    await expect(w.bob.mutation(api.trades.deleteTrade, { tradeId })).rejects.toThrow("Trade not found");
    expect(await rows(w, "trades")).toEqual(before);
  });
});

describe("the merge", () => {
  test("adds the worker's identity after the users'", async () => {
    vi.stubEnv("NEXT_PUBLIC_CLERK_FRONTEND_API_URL", "https://clerk.example");
    vi.stubEnv("TRADE_SYNC_JWKS", "data:application/json,{}");
    const { default: config } = await import("../../convex/auth.config");
    expect(config.providers).toEqual([
      { applicationID: "convex", domain: "https://clerk.example" },
      {
        algorithm: "ES256",
        applicationID: WORKER_AUDIENCE,
        issuer: WORKER_ISSUER,
        jwks: "data:application/json,{}",
        type: "customJwt",
      },
    ]);
  });

  test("adds the chores to the app's crons", async () => {
    const { default: crons } = await import("../../convex/crons");
    expect(Object.values(crons.crons).map(({ name }) => name)).toEqual([
      "tradeImport/maintenance:everyMinute",
      "tradeImport/maintenance:everyHour",
    ]);
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
