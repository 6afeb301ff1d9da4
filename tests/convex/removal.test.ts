// Taking the import out again: the app's trades are plain, and its figures what they were.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import { importedTradeFields } from "../../convex/tradeImport/tables";
import { enter, figures, trade } from "./journal";
import { connect, execution, rows, sync, T0, world } from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0 });
});
afterEach(() => {
  vi.useRealTimers();
});

const { plainTrades } = internal.tradeImport.removal;

const stateOf = async (w: ReturnType<typeof world>) => {
  const trades = await rows(w, "trades");
  const fields = new Set(trades.flatMap((each) => Object.keys(each)));
  return { imported: [...fields].filter((field) => field in importedTradeFields), trades };
};

test("what counts stays, plain; what does not is deleted; no figure changes", async () => {
  const w = world();
  await enter(w, [trade("buy long 10 100"), trade("sell long 4 110")]);
  await sync(w, await connect(w.alice), [
    execution("T1", { price: "100", quantity: "2" }),
    execution("T2", { occurredAt: T0 - 60_000, price: "130", quantity: "1", side: "sell" }),
    execution("T3", { occurredAt: T0 - 50_000 }),
    execution("T4", { occurredAt: T0 - 40_000 }),
    execution("T5", { occurredAt: T0 - 30_000 }),
  ]);
  const ids = new Map((await rows(w, "trades")).map((each) => [each.externalExecutionId, each._id]));
  const named = (...names: string[]) => names.flatMap((name) => ids.get(name) ?? []);
  await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: named("T1", "T2", "T4", "T5") });
  await w.t.run(async (ctx) => {
    for (const _id of named("T4")) await ctx.db.patch("trades", _id, { importFlags: ["voided_by_broker"] });
    for (const _id of named("T5")) await ctx.db.patch("trades", _id, { importFlags: ["opening_lot_unknown"] });
  });
  const before = await figures(w.alice);
  expect(before).toEqual({ positions: ["6 AAPL long @ 100", "1 BTC/USD long @ 100"], realized: 40 + 30 });

  expect(await w.t.mutation(plainTrades, {})).toEqual({ deleted: 3, more: false, stripped: 4 });
  expect(await stateOf(w)).toMatchObject({ imported: [], trades: [{}, {}, {}, {}] });
  expect(await figures(w.alice)).toEqual(before);
  expect(await w.t.mutation(plainTrades, {})).toEqual({ deleted: 0, more: false, stripped: 0 });
});

test("more than a step handles goes on by itself", async () => {
  const w = world();
  await w.t.run(async (ctx) => {
    for (let number = 0; number < 1_200; number += 1) {
      await ctx.db.insert("trades", {
        assetType: "stock",
        date: number,
        direction: "long",
        inboxStatus: number % 3 === 0 ? "pending_review" : "reviewed",
        price: 1,
        quantity: 1,
        side: "buy",
        source: "ibkr",
        ticker: "AAPL",
      });
    }
  });
  expect(await w.t.mutation(plainTrades, {})).toEqual({ deleted: 167, more: true, stripped: 333 });
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
  const { imported, trades } = await stateOf(w);
  expect({ imported, left: trades.length }).toEqual({ imported: [], left: 800 });
});
