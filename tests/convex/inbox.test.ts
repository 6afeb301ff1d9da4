import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import {
  ACCOUNT,
  codeOf,
  connect,
  connectGateway,
  execution,
  GATEWAY,
  inboxRows,
  plan,
  rows,
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

async function imported(w: World, ...ids: string[]): Promise<Id<"trades">[]> {
  await sync(w, await connect(w.alice), ids.map((id, index) => execution(id, { occurredAt: T0 - 1_000 + index })));
  return (await rows(w, "trades")).map(({ _id }) => _id);
}

async function campaign(w: World, name = "Halving"): Promise<Id<"campaigns">> {
  return await w.alice.mutation(api.campaigns.createCampaign, { name, thesis: "" });
}

describe("list", () => {
  test("shows a row with its execution, exact, and its suggestion", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    await imported(w, "T1");
    const [row] = await inboxRows(w.alice);
    expect(row).toMatchObject({
      accountRef: ACCOUNT,
      campaign: null,
      direction: "long",
      externalExecutionId: "T1",
      fee: "0.26",
      occurredAt: T0 - 1_000,
      plan: null,
      price: "30010",
      provider: "kraken",
      quantity: "0.5",
      side: "buy",
      status: "pending_review",
      suggestion: { name: "Breakout", tradePlanId },
      suggestionReason: "symbol_and_side_match",
      symbol: "BTC/USD",
    });
  });

  test("is newest first, in pages without gaps", async () => {
    const w = world();
    await imported(w, "T1", "T2", "T3", "T4", "T5");
    const seen: (string | null)[] = [];
    let cursor: string | null = null;
    for (let done = false; !done; ) {
      const page: { continueCursor: string; isDone: boolean; page: { externalExecutionId: string | null }[] } =
        await w.alice.query(api.tradeImport.inbox.list, { paginationOpts: { cursor, numItems: 2 } });
      seen.push(...page.page.map(({ externalExecutionId }) => externalExecutionId));
      cursor = page.continueCursor;
      done = page.isDone;
    }
    expect(seen).toEqual(["T5", "T4", "T3", "T2", "T1"]);
  });

  test("filters by status, symbol, account, provider, dates, and any two of them", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [
      execution("T1", { occurredAt: T0 - 3 }),
      execution("T2", { occurredAt: T0 - 2, symbol: "ETH/USD" }),
      execution("T3", { occurredAt: T0 - 1 }),
    ]);
    const [first] = await rows(w, "trades");
    if (!first) throw new Error("no trade");
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [first._id] });
    const ids = async (filters: Parameters<typeof inboxRows>[1]) =>
      (await inboxRows(w.alice, filters)).map(({ externalExecutionId }) => externalExecutionId);
    expect(await ids({})).toEqual(["T3", "T2"]);
    expect(await ids({ status: "reviewed" })).toEqual(["T1"]);
    expect(await ids({ status: "dismissed" })).toEqual([]);
    expect(await ids({ symbol: "eth/usd" })).toEqual(["T2"]);
    expect(await ids({ accountRef: ACCOUNT })).toEqual(["T3", "T2"]);
    expect(await ids({ accountRef: "OTHER" })).toEqual([]);
    expect(await ids({ provider: "kraken" })).toEqual(["T3", "T2"]);
    expect(await ids({ provider: "ibkr" })).toEqual([]);
    expect(await ids({ from: T0 - 2, to: T0 - 1 })).toEqual(["T2"]);
    expect(await ids({ provider: "ibkr", symbol: "BTC/USD" })).toEqual([]);
    expect(await ids({ accountRef: ACCOUNT, symbol: "BTC/USD" })).toEqual(["T3"]);
  });
});

describe("review", () => {
  test("confirms a plan, whose campaign is shown and never stored", async () => {
    const w = world();
    const campaignId = await campaign(w);
    const tradePlanId = await plan(w, { campaignId });
    const tradeIds = await imported(w, "T1", "T2");
    expect(await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds, tradePlanId })).toEqual({ reviewed: 2 });
    for (const trade of await rows(w, "trades")) {
      expect(trade).toMatchObject({ inboxStatus: "reviewed", tradePlanId });
      expect(trade).not.toHaveProperty("campaignId");
    }
    expect((await inboxRows(w.alice, { status: "reviewed" }))[0]).toMatchObject({
      campaign: { campaignId, derived: true, name: "Halving" },
      plan: { tradePlanId },
    });
    expect(await inboxRows(w.alice)).toEqual([]);
  });

  test("a campaign is for a row without a plan; a plan replaces it; null clears, absent keeps", async () => {
    const w = world();
    const campaignId = await campaign(w);
    const tradePlanId = await plan(w);
    const tradeIds = await imported(w, "T1");
    const review = async (link: { campaignId?: Id<"campaigns"> | null; tradePlanId?: Id<"tradePlans"> | null }) => {
      await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds, ...link });
      const [trade] = await rows(w, "trades");
      return { campaignId: trade?.campaignId, tradePlanId: trade?.tradePlanId };
    };
    expect(await review({ campaignId })).toEqual({ campaignId });
    expect(await review({})).toEqual({ campaignId });
    expect(await review({ tradePlanId })).toEqual({ tradePlanId });
    expect(await codeOf(review({ campaignId }))).toBe("conflict");
    expect(await review({})).toEqual({ tradePlanId });
    expect(await review({ campaignId, tradePlanId: null })).toEqual({ campaignId });
    expect(await codeOf(review({ campaignId, tradePlanId }))).toBe("conflict");
    expect(await review({ campaignId: null })).toEqual({});
  });

  test("F5 one bad row or link leaves the whole bulk unchanged", async () => {
    const w = world();
    const tradeIds = await imported(w, "T1", "T2", "T3");
    await sync(w, await connect(w.bob), [execution("T4")]);
    const bobs = (await rows(w, "trades")).find(({ ownerId }) => ownerId?.endsWith("bob"))?._id;
    const manual = await w.alice.mutation(api.trades.createTrade, {
      assetType: "stock", date: T0, direction: "long", price: 1, quantity: 1, side: "buy", ticker: "AAPL",
    });
    const deletedPlan = await plan(w);
    const deletedCampaign = await campaign(w);
    await w.t.run(async (ctx) => {
      await ctx.db.delete("tradePlans", deletedPlan);
      await ctx.db.delete("campaigns", deletedCampaign);
    });
    const before = await rows(w, "trades");
    const review = api.tradeImport.inbox.review;
    if (!bobs) throw new Error("no trade");
    for (const foreign of [bobs, manual]) {
      expect(await codeOf(w.alice.mutation(review, { tradeIds: [...tradeIds, foreign] }))).toBe("not_found");
    }
    expect(await codeOf(w.alice.mutation(review, { tradeIds, tradePlanId: deletedPlan }))).toBe("not_found");
    expect(await codeOf(w.alice.mutation(review, { campaignId: deletedCampaign, tradeIds }))).toBe("not_found");
    const tradePlanId = await plan(w);
    const campaignId = await campaign(w);
    const [, , third] = tradeIds;
    if (!third) throw new Error("no trade");
    await w.alice.mutation(review, { tradeIds: [third], tradePlanId });
    const linked = await rows(w, "trades");
    // The third row has a plan, so no campaign can be set for any of them.
    expect(await codeOf(w.alice.mutation(review, { campaignId, tradeIds }))).toBe("conflict");
    expect(await rows(w, "trades")).toEqual(linked);
    expect(linked.map(({ inboxStatus }) => inboxStatus).slice(0, 2)).toEqual(
      before.map(({ inboxStatus }) => inboxStatus).slice(0, 2),
    );
  });

  test("no row and too many rows are refused", async () => {
    const w = world();
    const tradeIds = await imported(w, ...Array.from({ length: 201 }, (_, index) => `T${index}`));
    const review = async (ids: typeof tradeIds) =>
      await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: ids });
    expect(await codeOf(review([]))).toBe("invalid_argument");
    expect(await codeOf(review(tradeIds))).toBe("invalid_argument");
    const most = tradeIds.slice(1);
    expect(await review([...most, ...most])).toEqual({ reviewed: 200 });
  });
});

describe("suggestion", () => {
  const suggestions = async (w: World) =>
    (await inboxRows(w.alice)).map(({ externalExecutionId: id, suggestion }) => [id, suggestion?.name ?? null]);

  test("needs exactly one plan that is not closed", async () => {
    const two = world();
    await plan(two);
    await plan(two, { name: "Second" });
    await imported(two, "T1");
    expect(await suggestions(two)).toEqual([["T1", null]]);

    const closed = world();
    await plan(closed, { status: "closed" });
    await imported(closed, "T1");
    expect(await suggestions(closed)).toEqual([["T1", null]]);

    const one = world();
    await plan(one, { status: "closed" });
    await plan(one, { name: "Open", status: "idea" });
    await plan(one, { instrumentSymbol: "ETH/USD", name: "Other" });
    await imported(one, "T1");
    expect(await suggestions(one)).toEqual([["T1", "Open"]]);
  });

  test("an exit matches the plan of its entry, and only with an entry", async () => {
    const w = world();
    await plan(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("EXIT", { occurredAt: T0 - 1, side: "sell" })]);
    expect(await suggestions(w)).toEqual([["EXIT", null]]);
    await sync(w, connectionId, [execution("ENTRY", { occurredAt: T0 - 2 })]);
    expect(await suggestions(w)).toEqual([["EXIT", "Breakout"], ["ENTRY", "Breakout"]]);
  });

  test("within one instant the id decides, not which row came first", async () => {
    const w = world();
    await plan(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T2", { side: "sell" })]);
    await sync(w, connectionId, [execution("T1")]);
    expect((await suggestions(w)).map(([, name]) => name)).toEqual(["Breakout", "Breakout"]);
  });

  test("a link and an exit that was reviewed are taken into account", async () => {
    const w = world();
    const tradePlanId = await plan(w);
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [
      execution("ENTRY", { occurredAt: T0 - 3 }),
      execution("EXIT", { occurredAt: T0 - 2, side: "sell" }),
    ]);
    const tradeIds = (await rows(w, "trades")).map(({ _id }) => _id);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds, tradePlanId });
    // Nothing of the plan is open any more, so a further exit is not its own.
    await sync(w, connectionId, [execution("LATE", { occurredAt: T0 - 1, side: "sell" })]);
    expect(await suggestions(w)).toEqual([["LATE", null]]);
  });

  test("never touches the link itself", async () => {
    const w = world();
    await plan(w, { campaignId: await campaign(w) });
    await imported(w, "T1", "T2");
    for (const trade of await rows(w, "trades")) {
      expect(trade.suggestedTradePlanId).toBeDefined();
      expect(trade).not.toHaveProperty("tradePlanId");
      expect(trade).not.toHaveProperty("campaignId");
    }
  });
});

test("dismissed rows leave the journal, are counted and can come back", async () => {
  const w = world();
  const [first] = await imported(w, "T1", "T2");
  if (!first) throw new Error("no trade");
  await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [first] });
  expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ dismissed: 1, pendingReview: 1 });
  const [row] = await inboxRows(w.alice, { status: "dismissed" });
  expect(row).toMatchObject({ externalExecutionId: "T1", status: "dismissed", tradeId: null });
  if (!row) throw new Error("no row");
  const executionIds = [row.executionId];
  expect(await w.alice.mutation(api.tradeImport.inbox.restore, { executionIds })).toEqual({ restored: 1 });
  expect(await w.alice.mutation(api.tradeImport.inbox.restore, { executionIds })).toEqual({ restored: 0 });
  expect(await inboxRows(w.alice)).toHaveLength(2);
  expect(await rows(w, "trades")).toHaveLength(2);
});

describe("connections", () => {
  const auth = {
    apiKey: "  key-1234567890  ",
    apiSecret: "\nc2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\n",
    kind: "kraken" as const,
  };
  const oauth = {
    accessToken: "a1b2c3d4",
    accessTokenSecret: "c2VjcmV0LXNlY3JldA==",
    consumerKey: "abcdefghi",
    kind: "ibkr_oauth" as const,
  };

  test("trims what was pasted and shows only the end of the key", async () => {
    const w = world();
    await w.alice.mutation(api.tradeImport.connections.create, { auth, kind: "kraken", label: " Main " });
    expect(await rows(w, "brokerageConnections")).toMatchObject([
      { auth: { apiKey: auth.apiKey.trim(), apiSecret: auth.apiSecret.trim() }, label: "Main" },
    ]);
    expect(await w.alice.query(api.tradeImport.connections.list, {})).toMatchObject([
      { keyHint: "…7890", settings: { intervalMinutes: 15 }, status: "active" },
    ]);
  });

  test.each<[string, object, object]>([
    ["no key", { apiKey: " " }, {}],
    ["no secret", { apiSecret: "" }, {}],
    ["a cut secret", { apiSecret: "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV" }, {}],
    ["a short secret", { apiSecret: "c2VjcmV0" }, {}],
    ["the same text twice", { apiKey: auth.apiSecret }, {}],
    ["an interval of zero", {}, { intervalMinutes: 0 }],
    ["half minutes", {}, { intervalMinutes: 1.5 }],
    ["an interval beyond a day", {}, { intervalMinutes: 1_441 }],
    ["a start in the future", {}, { importFrom: T0 + 1, intervalMinutes: 15 }],
  ])("refuses %s", async (_, wrongAuth, wrongSettings) => {
    const w = world();
    const settings = { intervalMinutes: 15, ...wrongSettings };
    const created = w.alice.mutation(api.tradeImport.connections.create, {
      auth: { ...auth, ...wrongAuth },
      kind: "kraken",
      settings,
    });
    expect(await codeOf(created)).toBe("invalid_argument");
    expect(await rows(w, "brokerageConnections")).toHaveLength(0);
  });

  test("a gateway is stored as its origin, its account in upper case, and shown by its address", async () => {
    const w = world();
    await connectGateway(w.alice, { accountRef: " u1234567 " }, " HTTPS://LocalHost:5000/ ");
    expect(await rows(w, "brokerageConnections")).toMatchObject([
      { accountRef: "U1234567", auth: { baseUrl: GATEWAY }, kind: "ibkr_gateway", provider: "ibkr" },
    ]);
    expect(await w.alice.query(api.tradeImport.connections.list, {})).toMatchObject([
      { accountRef: "U1234567", keyHint: GATEWAY, kind: "ibkr_gateway", provider: "ibkr" },
    ]);
  });

  test("an OAuth consumer is known by the end of its key", async () => {
    const w = world();
    await w.alice.mutation(api.tradeImport.connections.create, { auth: oauth, kind: "ibkr_oauth" });
    expect(await rows(w, "brokerageConnections")).toMatchObject([{ auth: { consumerKey: "ABCDEFGHI" } }]);
    expect(await w.alice.query(api.tradeImport.connections.list, {})).toMatchObject([
      { keyHint: "…FGHI", kind: "ibkr_oauth", provider: "ibkr" },
    ]);
  });

  test.each([
    ["a page of the gateway", { baseUrl: `${GATEWAY}/v1/api`, kind: "ibkr_gateway" }, "ibkr_gateway"],
    ["http to another computer", { baseUrl: "http://gateway.example:5000", kind: "ibkr_gateway" }, "ibkr_gateway"],
    ["a consumer key of eight letters", { ...oauth, consumerKey: "ABCDEFGH" }, "ibkr_oauth"],
    ["a gateway's address for OAuth", { baseUrl: GATEWAY, kind: "ibkr_gateway" }, "ibkr_oauth"],
    ["a key of Kraken for a gateway", auth, "ibkr_gateway"],
  ] as const)("refuses %s", async (_, wrongAuth, kind) => {
    const w = world();
    const created = w.alice.mutation(api.tradeImport.connections.create, { auth: wrongAuth, kind });
    expect(await codeOf(created)).toBe("invalid_argument");
    expect(await rows(w, "brokerageConnections")).toHaveLength(0);
  });

  describe("one account of one login is connected once", () => {
    test.each([
      ["the account", { accountRef: "U1" }, { accountRef: "u1" }],
      ["the login, no account named", {}, {}],
    ])("a second time %s is refused", async (_, first, second) => {
      const w = world();
      await connectGateway(w.alice, first);
      const again = connectGateway(w.alice, second);
      await expect(again).rejects.toThrow(/connected already/);
      expect(await codeOf(connectGateway(w.alice, second))).toBe("conflict");
      expect(await rows(w, "brokerageConnections")).toHaveLength(1);
      expect(await rows(w, "connectionSyncState")).toHaveLength(1);
    });

    test("the same consumer too", async () => {
      const w = world();
      const create = () => w.alice.mutation(api.tradeImport.connections.create, { auth: oauth, kind: "ibkr_oauth" });
      await create();
      expect(await codeOf(create())).toBe("conflict");
    });

    test("another account, gateway, kind or owner is another connection", async () => {
      const w = world();
      await connectGateway(w.alice, { accountRef: "U1" });
      await connectGateway(w.alice, { accountRef: "U2" });
      await connectGateway(w.alice, { accountRef: "U1" }, "https://localhost:5001");
      await w.alice.mutation(api.tradeImport.connections.create, { accountRef: "U1", auth: oauth, kind: "ibkr_oauth" });
      await connectGateway(w.bob, { accountRef: "U1" });
      expect(await rows(w, "brokerageConnections")).toHaveLength(5);
    });

    test("a disconnected one leaves its place, and finds it taken when it comes back", async () => {
      const w = world();
      const first = await connectGateway(w.alice, { accountRef: "U1" });
      await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId: first });
      const second = await connectGateway(w.alice, { accountRef: "U1" });
      const update = (connectionId: typeof first, baseUrl = GATEWAY) =>
        w.alice.mutation(api.tradeImport.connections.updateCredentials, {
          auth: { baseUrl, kind: "ibkr_gateway" },
          connectionId,
        });
      expect(await codeOf(update(first))).toBe("conflict");
      expect((await rows(w, "brokerageConnections"))[0]).toMatchObject({ authVersion: 1, status: "disconnected" });
      // Its own place is no other's.
      await update(second);
      await update(second, "https://localhost:5001");
      await update(first);
      expect(await rows(w, "brokerageConnections")).toMatchObject([{ status: "active" }, { authVersion: 3 }]);
    });
  });

  test("credentials of another kind do not fit", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const update = w.alice.mutation(api.tradeImport.connections.updateCredentials, { auth: oauth, connectionId });
    expect(await codeOf(update)).toBe("invalid_argument");
  });

  test("disconnecting forgets the credentials and keeps the rows; new ones bring it back", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1")]);
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId });
    expect((await rows(w, "brokerageConnections"))[0]).not.toHaveProperty("auth");
    expect(await w.alice.query(api.tradeImport.connections.list, { now: T0 })).toMatchObject([
      { health: { state: "disconnected" }, keyHint: null, nextSyncAt: null },
    ]);
    expect(await inboxRows(w.alice)).toHaveLength(1);
    await w.alice.mutation(api.tradeImport.connections.updateCredentials, { auth, connectionId });
    expect(await sync(w, connectionId, [execution("T1")])).toMatchObject({ inserted: 0, known: 1 });
  });

  test("settings: absent keeps, null clears", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const update = async (changes: object) => {
      await w.alice.mutation(api.tradeImport.connections.updateSettings, { connectionId, ...changes });
      const [connection] = await rows(w, "brokerageConnections");
      return { ...connection?.settings, label: connection?.label };
    };
    expect(await update({ importFrom: 5, intervalMinutes: 30, krakenTier: "pro" })).toEqual({
      importFrom: 5, intervalMinutes: 30, krakenTier: "pro", label: "Main",
    });
    expect(await update({ importFrom: null, label: null })).toEqual({ intervalMinutes: 30, krakenTier: "pro" });
    expect(await update({ ibkrKeepalive: "around_polls", ibkrRegion: "asia" })).toEqual({
      ibkrKeepalive: "around_polls", ibkrRegion: "asia", intervalMinutes: 30, krakenTier: "pro",
    });
    expect(await update({ ibkrRegion: "europe" })).toMatchObject({ ibkrKeepalive: "around_polls", ibkrRegion: "europe" });
  });

  test("a shorter interval counts from now, a longer one from the next sync", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, []);
    const nextSyncAt = async () => (await rows(w, "connectionSyncState"))[0]?.nextSyncAt;
    const usual = await nextSyncAt();
    await w.alice.mutation(api.tradeImport.connections.updateSettings, { connectionId, intervalMinutes: 60 });
    expect(await nextSyncAt()).toBe(usual);
    await w.alice.mutation(api.tradeImport.connections.updateSettings, { connectionId, intervalMinutes: 5 });
    expect(await nextSyncAt()).toBe(T0 + 5 * 60_000);
  });
});

test("jobs are listed newest first, of one connection or all", async () => {
  const w = world();
  const first = await connect(w.alice);
  const second = await connect(w.alice);
  await sync(w, first, [execution("T1")]);
  vi.setSystemTime(T0 + 1);
  await sync(w, second, [execution("T1"), execution("T2")]);
  const list = async (connectionId?: typeof first) => {
    const paginationOpts = { cursor: null, numItems: 10 };
    const { page } = await w.alice.query(api.tradeImport.jobs.list, { connectionId, paginationOpts });
    return page.map(({ connectionId: of, stats }) => [of, stats.inserted, stats.known]);
  };
  expect(await list()).toEqual([[second, 1, 1], [first, 1, 0]]);
  expect(await list(first)).toEqual([[first, 1, 0]]);
});
