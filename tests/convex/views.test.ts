// One fill seen live, in trade confirmations and in activity statements, corrected and cancelled, in any order.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { voids } from "../../convex/tradeImport/cancels";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  confirmCancel,
  connectGateway,
  execution,
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

const confirmFill = (id: string, changes: Partial<Execution> = {}) =>
  flexFill(id, { source: "ibkr_flex_confirm", transactionId: undefined, ...changes });

/** The booking that replaces the fill of this id: it charges nothing again. */
const rebooking = (id: string, changes: Partial<Execution> = {}) =>
  flexFill(id, { fee: "0", revision: 2, transactionId: `X-${id}-2`, ...changes });

async function only<Item>(items: Promise<Item[]>): Promise<Item> {
  const [item, ...others] = await items;
  if (item === undefined || others.length > 0) throw new Error(`one was expected, not ${others.length}`);
  return item;
}

const fillsOf = async (w: World) => (await rows(w, "externalExecutions")).filter(({ kind }) => kind === "fill");
const cancelsOf = async (w: World) => (await rows(w, "externalExecutions")).filter(({ kind }) => kind === "cancel");

/** A fill imported, reviewed with a plan and annotated. */
async function decided(w: World, fill: Execution) {
  const connectionId = await connectGateway(w.alice);
  const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
  await sync(w, connectionId, [fill]);
  const { _id: tradeId } = await only(rows(w, "trades"));
  await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [tradeId], tradePlanId });
  await w.alice.mutation(api.trades.updateTrade, { notes: "mine", tradeId });
  const decision = { _id: tradeId, inboxStatus: "reviewed", notes: "mine", tradePlanId };
  return { connectionId, decision, tradeId, tradePlanId };
}

const position = async (w: World) => (await w.alice.query(api.positions.getPositions, {}))[0]?.quantity ?? 0;

describe("B7 one fill, three views", () => {
  test("a live fill gains what Flex knows; the link and the review stay, and it is no news", async () => {
    const w = world();
    const { connectionId, decision } = await decided(w, ibkrFill("E1", { externalOrderId: "1377" }));
    expect(await sync(w, connectionId, [confirmFill("E1")])).toMatchObject({ inserted: 0, updated: 1 });
    expect(await sync(w, connectionId, [flexFill("E1")])).toMatchObject({ inserted: 0, updated: 1 });
    expect(await only(rows(w, "externalExecutions"))).toMatchObject({
      currency: "USD",
      multiplier: "1",
      source: "ibkr_flex_activity",
      state: "live",
      transactionId: "X-E1",
    });
    expect(await only(rows(w, "trades"))).toMatchObject({
      ...decision,
      currency: "USD",
      externalOrderId: "4271",
      feeCurrency: "USD",
      importFlags: [],
    });
  });

  test("what knows less overwrites nothing, in any order, and is known when it comes again", async () => {
    const views = [
      ibkrFill("E1", { fee: "1.3", rawPayload: "\"live\"" }),
      confirmFill("E1", { fee: "1.2", rawPayload: "\"confirmed\"" }),
      flexFill("E1", { fee: "1.1", rawPayload: "\"booked\"" }),
    ];
    for (const [first, second, third] of [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] as const) {
      const w = world();
      const connectionId = await connectGateway(w.alice);
      for (const index of [first, second, third]) {
        const view = views[index];
        if (view !== undefined) await sync(w, connectionId, [view]);
      }
      expect(await sync(w, connectionId, views)).toMatchObject({ inserted: 0, known: 3, updated: 0 });
      const stored = await only(rows(w, "externalExecutions"));
      expect(stored).toMatchObject({ ...views[2], state: "live" });
      expect(stored.views?.map(({ rawPayload }) => rawPayload)).toEqual(["\"booked\"", "\"confirmed\"", "\"live\""]);
      expect(await only(rows(w, "trades"))).toMatchObject({ fee: 1.1 });
    }
  });

  test("the same facts from a better source are known, and its row is the one that is kept", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [flexFill("E1", { rawPayload: "\"c\"", source: "ibkr_flex_confirm" })]);
    expect(await sync(w, connectionId, [flexFill("E1", { rawPayload: "\"a\"" })])).toMatchObject({ known: 1, updated: 0 });
    expect(await only(rows(w, "externalExecutions"))).toMatchObject({ rawPayload: "\"a\"", source: "ibkr_flex_activity" });
  });

  test("what the user put right stays when Flex adds to the row", async () => {
    const w = world();
    const { connectionId, tradeId } = await decided(w, ibkrFill("E1"));
    await w.alice.mutation(api.trades.updateTrade, { quantity: 7, tradeId });
    await sync(w, connectionId, [flexFill("E1")]);
    expect(await only(rows(w, "trades"))).toMatchObject({ currency: "USD", quantity: 7 });
  });
});

describe("B8 a cancel without replacement", () => {
  test("voids the execution, tells the user and keeps the link; the figures lose it", async () => {
    const w = world();
    const { connectionId, decision, tradePlanId } = await decided(w, flexFill("E1"));
    await sync(w, connectionId, [flexFill("E2", { quantity: "2" })]);
    expect(await position(w)).toBe(5);
    expect(await sync(w, connectionId, [flexCancel("E1", "C1")])).toMatchObject({ held: 0, inserted: 0, updated: 1 });
    const live = (await fillsOf(w)).filter(({ state }) => state === "live");
    expect(live.map(({ externalExecutionId }) => externalExecutionId)).toEqual(["E2"]);
    expect(await inboxRows(w.alice, { status: "reviewed" })).toMatchObject([
      { flags: ["changed_by_broker", "voided_by_broker"], plan: { tradePlanId } },
    ]);
    expect((await rows(w, "trades"))[0]).toMatchObject(decision);
    expect(await position(w)).toBe(0);
    expect(await w.alice.query(api.tradePlans.getTradePlanPL, { tradePlanId })).toMatchObject({ tradeCount: 0 });
    expect(await w.alice.query(api.analytics.getDashboardStats, {})).toMatchObject({ totalTradeCount: 0 });
    const again = await sync(w, connectionId, [flexFill("E1"), flexCancel("E1", "C1")]);
    expect(again).toMatchObject({ known: 2, updated: 0 });
  });

  test("a row that waits for review is no proposal any more, nor evidence for others", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await plan(w, { instrumentSymbol: "AAPL" });
    const sale = flexFill("E2", { occurredAt: T0 - 1_000, side: "sell" });
    await sync(w, connectionId, [flexFill("E1"), sale]);
    const seen = async () => (await inboxRows(w.alice)).map(({ flags, suggestion }) => [flags, suggestion !== null]);
    expect(await seen()).toEqual([[[], true], [[], true]]);
    await sync(w, connectionId, [flexCancel("E1", "C1")]);
    // The sale closes nothing without the purchase.
    expect(await seen()).toEqual([[[], false], [["voided_by_broker"], false]]);
    await sync(w, connectionId, [rebooking("E1")]);
    expect(await seen()).toEqual([[[], true], [[], true]]);
  });

  test("a linked row that never happened is no evidence for its plan", async () => {
    const w = world();
    const { connectionId } = await decided(w, flexFill("E1"));
    await sync(w, connectionId, [flexFill("E2", { occurredAt: T0 - 1_000, side: "sell" })]);
    expect(await only(inboxRows(w.alice))).toMatchObject({ suggestion: { name: "Breakout" } });
    await sync(w, connectionId, [flexCancel("E1", "C1")]);
    expect(await only(inboxRows(w.alice))).toMatchObject({ suggestion: null });
  });

  test("takes a suggestion back whatever has become of its plan", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    await sync(w, connectionId, [flexFill("E1")]);
    expect(await only(inboxRows(w.alice))).toMatchObject({ suggestion: { tradePlanId } });
    await w.alice.mutation(api.tradePlans.updateTradePlanStatus, { status: "closed", tradePlanId });
    await sync(w, connectionId, [flexCancel("E1", "C1")]);
    expect(await only(inboxRows(w.alice))).toMatchObject({ suggestion: null, suggestionReason: "none" });
  });

  test("a cancel that comes first is held and shown until its original comes", async () => {
    for (const cancel of [flexCancel("E1", "C1"), flexCancel("E1", "C1", { tradeId: undefined }), confirmCancel("E1")]) {
      const w = world();
      const connectionId = await connectGateway(w.alice);
      expect(await sync(w, connectionId, [cancel])).toMatchObject({ held: 1, inserted: 0 });
      expect(await sync(w, connectionId, [cancel])).toMatchObject({ held: 0, known: 1 });
      expect(await only(cancelsOf(w))).toMatchObject({ heldReason: "original_not_seen", state: "held" });
      expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 1 });
      // The live API names no booking: nothing says that this is the one.
      await sync(w, connectionId, [ibkrFill("E1")]);
      expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 1 });
      await sync(w, connectionId, [flexFill("E1")]);
      expect(await only(fillsOf(w))).toMatchObject({ state: "voided" });
      const settled = await only(cancelsOf(w));
      expect(settled).toMatchObject({ state: "live" });
      expect(settled).not.toHaveProperty("heldReason");
      expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 0, pendingReview: 1 });
      expect(await only(rows(w, "trades"))).toMatchObject({ importFlags: ["voided_by_broker"] });
    }
  });

  test("an execution that is cancelled at first sight becomes a row that says so", async () => {
    const w = world();
    const batch = [flexFill("E1"), flexCancel("E1", "C1", { occurredAt: 1 })];
    expect(await sync(w, await connectGateway(w.alice), batch)).toMatchObject({ held: 1, inserted: 1 });
    expect(await only(fillsOf(w))).toMatchObject({ state: "voided" });
    expect(await inboxRows(w.alice)).toMatchObject([{ flags: ["voided_by_broker"] }]);
  });

  test("a held execution is voided too, and is held again once it is booked anew", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const option = { assetClass: "option" } as const;
    await sync(w, connectionId, [flexFill("E1", option), flexCancel("E1", "C1", option)]);
    expect(await only(fillsOf(w))).toMatchObject({ heldReason: "asset_class_not_supported", state: "voided" });
    expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 0 });
    await sync(w, connectionId, [rebooking("E1", option)]);
    expect(await only(fillsOf(w))).toMatchObject({ heldReason: "asset_class_not_supported", state: "held" });
    expect(await rows(w, "trades")).toEqual([]);
  });

  test("a voided execution that turns out to be of a known class becomes a voided row", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [confirmFill("E1", { assetClass: "other" }), confirmCancel("E1")]);
    await sync(w, connectionId, [flexFill("E1")]);
    const stored = await only(fillsOf(w));
    expect(stored).toMatchObject({ state: "voided" });
    expect(stored).not.toHaveProperty("heldReason");
    expect(await only(rows(w, "trades"))).toMatchObject({ importFlags: ["voided_by_broker"] });
  });

  test("a dismissed row stays dismissed, and comes back voided", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [flexFill("E1")]);
    const { _id: tradeId } = await only(rows(w, "trades"));
    await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [tradeId] });
    expect(await sync(w, connectionId, [flexCancel("E1", "C1")])).toMatchObject({ held: 0, updated: 1 });
    const { _id: executionId, state } = await only(fillsOf(w));
    expect(state).toBe("dismissed");
    expect(await rows(w, "trades")).toEqual([]);
    await w.alice.mutation(api.tradeImport.inbox.restore, { executionIds: [executionId] });
    expect(await only(fillsOf(w))).toMatchObject({ state: "voided" });
    expect(await only(rows(w, "trades"))).toMatchObject({ importFlags: ["voided_by_broker"] });
  });

  test("of another owner or account voids nothing", async () => {
    const w = world();
    await sync(w, await connectGateway(w.alice, { accountRef: IBKR_ACCOUNT }), [flexFill("E1")]);
    expect(await sync(w, await connectGateway(w.bob), [flexCancel("E1", "C1")])).toMatchObject({ held: 1 });
    const other = { accountRef: "U7654321" };
    const cancel = flexCancel("E1", "C1", other);
    expect(await sync(w, await connectGateway(w.alice, other), [cancel])).toMatchObject({ held: 1 });
    expect(await only(fillsOf(w))).toMatchObject({ state: "live" });
  });
});

describe("B9 cancelled and booked anew", () => {
  /** The example of issue 5915: 1143.28 shares become 1145.93, and the fee is the original's. */
  const original = flexFill("E1", { fee: "7.9", price: "87.468", quantity: "1143.28", side: "sell" });
  const cancel = flexCancel("E1", "C1", { price: "87.468", quantity: "1143.28" });
  const anew = rebooking("E1", { price: "87.468", quantity: "1145.93", side: "sell" });

  test("is one live row with the original's fee, in every order and in one batch", async () => {
    const all = [original, cancel, anew];
    const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (const [index, order] of [...orders, ...orders].entries()) {
      const w = world();
      const connectionId = await connectGateway(w.alice);
      const rowsSent = order.flatMap((which) => all[which] ?? []);
      for (const batch of index < orders.length ? rowsSent.map((row) => [row]) : [rowsSent]) {
        await sync(w, connectionId, batch);
      }
      expect(await only(fillsOf(w))).toMatchObject({ fee: "7.9", quantity: "1145.93", revision: 2, state: "live" });
      expect(await only(cancelsOf(w))).toMatchObject({ state: "live" });
      expect(await only(rows(w, "trades"))).toMatchObject({
        fee: 7.9,
        importFlags: ["direction_guessed"],
        quantity: 1145.93,
      });
    }
  });

  test("finds the cancel's original where the statement has no trade ids on it", async () => {
    const nameless = { ...cancel, tradeId: undefined };
    for (const batch of [[original, nameless, anew], [anew, nameless, original]]) {
      const w = world();
      expect(await sync(w, await connectGateway(w.alice), batch)).toMatchObject({ held: 0, inserted: 1, updated: 2 });
      expect(await only(cancelsOf(w))).toMatchObject({ state: "live" });
      expect(await only(fillsOf(w))).toMatchObject({ revision: 2, state: "live" });
    }
  });

  test("keeps the user's decision, marks it and counts with the new numbers", async () => {
    const w = world();
    const purchase = flexFill("E0", { occurredAt: T0 - 7_200_000, quantity: "2000" });
    const { connectionId, decision } = await decided(w, purchase);
    await sync(w, connectionId, [original]);
    const sale = (await rows(w, "trades"))[1]?._id as Id<"trades">;
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [sale], tradePlanId: decision.tradePlanId });
    expect(await position(w)).toBeCloseTo(856.72);
    await sync(w, connectionId, [cancel]);
    expect(await position(w)).toBe(2000);
    await sync(w, connectionId, [anew]);
    expect(await position(w)).toBeCloseTo(854.07);
    expect((await rows(w, "trades"))[1]).toMatchObject({
      importFlags: ["changed_by_broker"],
      inboxStatus: "reviewed",
      tradePlanId: decision.tradePlanId,
    });
  });

  test("may be cancelled once more", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [original, cancel, anew]);
    await sync(w, connectionId, [flexCancel("E1", "C2", { cancels: "tx:X-E1-2" })]);
    expect(await only(fillsOf(w))).toMatchObject({ revision: 2, state: "voided" });
  });

  test("in confirmations and in activity statements is still one live row", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const confirmed = confirmFill("E1", { fee: "0", quantity: "1145.93", revision: 2, side: "sell" });
    for (const row of [confirmCancel("E1"), confirmed, cancel, original, anew]) await sync(w, connectionId, [row]);
    expect(await only(fillsOf(w))).toMatchObject({ fee: "7.9", state: "live" });
    expect((await cancelsOf(w)).map(({ state }) => state)).toEqual(["live", "live"]);
  });
});

test("a fill without the ids of a booking is not looked for among cancels", async () => {
  const db = { query: () => expect.fail("it was") };
  for (const fill of [execution("T1"), ibkrFill("E1")]) {
    expect(await voids({ db } as never, { ...fill, ownerId: "alice" }, [fill])).toBe(false);
  }
});

test("B10 the history of a correction can be read, without the broker's raw rows", async () => {
  const w = world();
  const { connectionId } = await decided(w, ibkrFill("E1", { rawPayload: "\"secret\"" }));
  await sync(w, connectionId, [ibkrFill("E1", { fee: "0", price: "192.3", quantity: "4", revision: 2 })]);
  const row = await only(inboxRows(w.alice, { status: "reviewed" }));
  expect(row).toMatchObject({ fee: "1.01", price: "192.3", quantity: "4" });
  expect(row.history).toEqual([
    {
      fee: "1.01",
      occurredAt: T0 - 3_600_000,
      price: "192.26",
      quantity: "5",
      revision: 1,
      side: "buy",
      source: "ibkr_live",
    },
  ]);
  expect(JSON.stringify(row)).not.toContain("secret");
});

test("B11 a commission that comes later or changes reaches a reviewed row, which stays reviewed", async () => {
  const w = world();
  const { connectionId, decision } = await decided(w, ibkrFill("E1", { fee: "0" }));
  for (const [news, fee] of [
    [ibkrFill("E1", { fee: "1" }), 1],
    [confirmFill("E1", { fee: "1.0125" }), 1.0125],
    [flexFill("E1", { fee: "-0.2" }), -0.2],
  ] as const) {
    expect(await sync(w, connectionId, [news])).toMatchObject({ inserted: 0, updated: 1 });
    expect(await only(rows(w, "trades"))).toMatchObject({
      ...decision,
      fee,
      importFlags: ["changed_by_broker"],
    });
  }
  expect(await sync(w, connectionId, [ibkrFill("E1", { fee: "1" })])).toMatchObject({ known: 1, updated: 0 });
});

describe("any interleaving of live, confirmations and statements ends in the same state", () => {
  /** Numbers from 0 to 1, the same for the same seed (mulberry32). */
  function randoms(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let bits = Math.imul(state ^ (state >>> 15), 1 | state);
      bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
      return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled<Item>(items: Item[], random: () => number): Item[] {
    const result = [...items];
    for (let last = result.length - 1; last > 0; last -= 1) {
      const other = Math.floor(random() * (last + 1));
      [result[last], result[other]] = [result[other] as Item, result[last] as Item];
    }
    return result;
  }

  const FILLS = 500;
  const TICKERS = ["AAPL", "BMW", "EQQQ", "MSFT", "NESN", "SAP", "TSLA", "VWRL"];

  type Fate = "cancelled" | "corrected" | "corrected and cancelled" | "kept";
  type Fill = { end: Partial<Execution>; fate: Fate; id: string; sent: Execution[] };

  /** 5 % are corrected and 5 % cancelled; one fill of a hundred is both. */
  function fateOf(index: number): Fate {
    if (index % 100 === 7) return "corrected and cancelled";
    if (index % 25 === 8) return "corrected";
    return index % 25 === 9 ? "cancelled" : "kept";
  }

  /** What the three sources say of one fill, and what is true of it in the end. */
  function fillOf(index: number, random: () => number): Fill {
    const id = `0000e0d5.${index.toString(16).padStart(8, "0")}.01`;
    const fate = fateOf(index);
    const corrected = fate.startsWith("corrected");
    const cancelled = fate.endsWith("cancelled");
    const symbol = TICKERS[Math.floor(random() * TICKERS.length)] ?? "AAPL";
    const common: Partial<Execution> = {
      occurredAt: T0 - (FILLS - index) * 60_000,
      price: (10 + Math.floor(random() * 90_000) / 100).toString(),
      quantity: (1 + Math.floor(random() * 400)).toString(),
      rawSymbol: symbol,
      // Directions are another matter: what is only bought has one.
      side: "buy",
      symbol,
    };
    // Shown on the first of an order's fills, so that others have none (reference ibkr 4.7).
    const fee = random() < 0.2 ? "0" : ((Math.floor(random() * 300) - 50.5) / 100).toString();
    const again = { ...common, quantity: (Number(common.quantity) + 3).toString(), revision: 2 };
    const row = (text: string) => ({ rawPayload: `{"row":"${id} ${text}"}` });
    const dated = random() < 0.05;
    const day = { flags: ["no_time_of_day" as const], occurredAt: T0 - (T0 % 86_400_000) };

    const booked = flexFill(id, { ...common, ...row("af"), ...(dated ? day : {}), fee });
    const sent: Execution[] = [booked];
    // The live API remembers seven days, and confirmations are not everybody's.
    const seenLive = dated || random() < 0.7;
    const confirmed = random() < 0.6;
    if (seenLive) sent.push(ibkrFill(id, { ...common, ...row("live"), fee: "0.75" }));
    if (confirmed) sent.push(confirmFill(id, { ...common, ...row("tcf"), fee: random() < 0.5 ? fee : "0" }));
    if (corrected) {
      sent.push(flexCancel(id, `C-${id}`, { ...common, ...row("af cancel") }));
      sent.push(rebooking(id, { ...again, ...row("af anew") }));
      if (seenLive && random() < 0.7) sent.push(ibkrFill(id, { ...again, ...row("live anew"), fee: "0.8" }));
      if (confirmed) sent.push(confirmCancel(id), confirmFill(id, { ...again, ...row("tcf anew"), fee: "0" }));
    }
    if (cancelled) {
      const cancels = corrected ? `tx:X-${id}-2` : `tx:X-${id}`;
      sent.push(flexCancel(id, `D-${id}`, { ...common, ...row("af last cancel"), cancels }));
      if (confirmed) sent.push(confirmCancel(id, corrected ? 2 : 1));
    }
    const end: Partial<Execution> = {
      ...(corrected ? again : { ...common, revision: 1 }),
      currency: "USD",
      externalOrderId: "4271",
      fee,
      feeCurrency: "USD",
      flags: [],
      multiplier: "1",
      source: "ibkr_flex_activity",
      tradeId: `T-${id}`,
      transactionId: corrected ? `X-${id}-2` : `X-${id}`,
      ...row(corrected ? "af anew" : "af"),
    };
    return { end, fate, id, sent };
  }

  const random = randoms(20260216);
  const fills = Array.from({ length: FILLS }, (_, index) => fillOf(index, random));
  /** The user decides about these as soon as they are seen, whatever state they are in by then. */
  const confirmedByUser = new Set(fills.filter((_, index) => index % 7 < 2).map(({ id }) => id));
  const dismissedByUser = new Set(fills.filter((_, index) => index % 31 === 8).map(({ id }) => id));
  for (const id of dismissedByUser) confirmedByUser.delete(id);

  /** One plan; rows of other instruments are confirmed without any. */
  const PLANNED = "AAPL";

  async function decide(w: World, tradePlanId: Id<"tradePlans">): Promise<void> {
    const open = (await rows(w, "trades")).filter(({ inboxStatus }) => inboxStatus === "pending_review");
    const chosen = (ids: Set<string>, wanted: (ticker: string) => boolean) =>
      open.flatMap(({ _id, externalExecutionId: id = "", ticker }) => (ids.has(id) && wanted(ticker) ? [_id] : []));
    const inbox = api.tradeImport.inbox;
    const planned = chosen(confirmedByUser, (ticker) => ticker === PLANNED);
    const unplanned = chosen(confirmedByUser, (ticker) => ticker !== PLANNED);
    const dismissed = chosen(dismissedByUser, () => true);
    if (planned.length > 0) await w.alice.mutation(inbox.review, { tradeIds: planned, tradePlanId });
    if (unplanned.length > 0) await w.alice.mutation(inbox.review, { tradeIds: unplanned });
    if (dismissed.length > 0) await w.alice.mutation(inbox.dismiss, { tradeIds: dismissed });
  }

  /** What tells when and by which job a row came, and what refers to such a row. */
  const CHANCE = ["_creationTime", "_id", "connectionId", "executionId", "importJobId", "seenAt", "tradeIds", "views"];
  /** Of a decision that is made: what was suggested before, and whether news overtook it. */
  const PAST = ["importFlags", "suggestedTradePlanId", "suggestionReason"];

  function without(row: object, fields: string[]): Record<string, unknown> {
    return Object.fromEntries(Object.entries(row).filter(([field]) => !fields.includes(field)));
  }

  async function stateOf(w: World) {
    const state: Record<string, unknown> = {};
    for (const execution of await rows(w, "externalExecutions")) {
      // A row that was dismissed is as it was then.
      const chance = execution.state === "dismissed" ? [...CHANCE, "derived"] : CHANCE;
      state[`execution ${execution.externalExecutionId}`] = {
        ...without(execution, chance),
        trades: execution.tradeIds.length,
        views: execution.views?.map((view) => without(view, CHANCE)),
      };
    }
    for (const trade of await rows(w, "trades")) {
      const reviewed = trade.inboxStatus === "reviewed";
      state[`trade ${trade.externalExecutionId}`] = {
        ...without(trade, reviewed ? [...CHANCE, ...PAST] : [...CHANCE, "suggestedTradePlanId"]),
        voided: trade.importFlags?.includes("voided_by_broker"),
      };
    }
    return state;
  }

  /** Every row once, and every tenth a second time, as windows overlap. */
  async function delivered(rowsSent: Execution[], seed: number) {
    const w = world();
    const random = randoms(seed);
    const tradePlanId = await plan(w, { instrumentSymbol: PLANNED });
    const held = await lease(w, await connectGateway(w.alice), "manual", IBKR_ACCOUNT);
    let batch = 0;
    for (let start = 0; start < rowsSent.length; ) {
      const end = start + 1 + Math.floor(random() ** 2 * 499);
      const again = rowsSent.slice(0, start).filter(() => random() < 0.1).slice(-10);
      await ingest(w, held, (batch += 1), [...rowsSent.slice(start, end), ...again].slice(0, 500));
      start = Math.min(end, start + 500);
      await decide(w, tradePlanId);
    }
    await settlePositions(w);
    return w;
  }

  const all = fills.flatMap(({ sent }) => sent);
  const bySource = (order: Execution["source"][]) => order.flatMap((name) => all.filter(({ source }) => source === name));
  const asItHappens = bySource(["ibkr_live", "ibkr_flex_confirm", "ibkr_flex_activity"]);
  let expected: Awaited<ReturnType<typeof stateOf>>;

  test("the rows have 5 % corrections and 5 % cancels", () => {
    const share = (part: string) => fills.filter(({ fate }) => fate.includes(part)).length / FILLS;
    expect([share("corrected"), share("cancelled")]).toEqual([0.05, 0.05]);
    expect(all.length).toBeGreaterThan(1_150);
  });

  test("as it happens: live, then confirmations, then statements", async () => {
    const w = await delivered(asItHappens, 1);
    expected = await stateOf(w);
    const stored = new Map((await fillsOf(w)).map((row) => [row.externalExecutionId, row]));
    const trades = new Map((await rows(w, "trades")).map((row) => [row.externalExecutionId, row]));
    expect(stored.size).toBe(FILLS);
    for (const { end, fate, id } of fills) {
      const voided = fate.endsWith("cancelled");
      const dismissed = dismissedByUser.has(id);
      expect(stored.get(id)).toMatchObject({ ...end, state: dismissed ? "dismissed" : voided ? "voided" : "live" });
      const trade = trades.get(id) as Doc<"trades">;
      if (dismissed) {
        expect(trade).toBeUndefined();
        continue;
      }
      expect(trade).toMatchObject({ currency: "USD", fee: Number(end.fee), quantity: Number(end.quantity) });
      expect([id, trade.importFlags?.includes("voided_by_broker")]).toEqual([id, voided]);
      expect([id, trade.inboxStatus]).toEqual([id, confirmedByUser.has(id) ? "reviewed" : "pending_review"]);
      expect([id, trade.tradePlanId !== undefined]).toEqual([id, confirmedByUser.has(id) && end.symbol === PLANNED]);
      if (voided) expect([id, trade.suggestionReason]).toEqual([id, "none"]);
    }
    // Every cancel has found what it voids.
    expect(new Set((await cancelsOf(w)).map(({ state }) => state))).toEqual(new Set(["live"]));
    expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 0 });
    expect((await inboxRows(w.alice, { symbol: PLANNED })).some(({ suggestion }) => suggestion !== null)).toBe(true);
  }, 30_000);

  test.each<[string, Execution[], number]>([
    ["backwards", asItHappens.toReversed(), 2],
    ["any order", shuffled(asItHappens, randoms(3)), 3],
    ["any order", shuffled(asItHappens, randoms(4)), 4],
  ])("%s, seed %#", async (_, rowsSent, seed) => {
    const state = await stateOf(await delivered(rowsSent, seed));
    expect(Object.keys(state).sort()).toEqual(Object.keys(expected).sort());
    for (const [row, content] of Object.entries(state)) expect([row, content]).toEqual([row, expected[row]]);
  }, 30_000);
});
