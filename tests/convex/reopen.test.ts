// Decisions taken back: the inbox's «undo».
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { asBefore } from "../../convex/tradeImport/rules/corrections";
import type { ImportFlag } from "../../convex/tradeImport/validators";
import { codeOf, connect, connectGateway, execution, ibkrFill, plan, rows, sync, T0, world, type World } from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0 });
});
afterEach(() => {
  vi.useRealTimers();
});

const inbox = api.tradeImport.inbox;

async function settle(w: World): Promise<void> {
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
}

/** A row as the page remembers it. */
function remembered(trade: Doc<"trades">) {
  return {
    campaignId: trade.campaignId ?? null,
    direction: trade.direction,
    flags: trade.importFlags ?? [],
    notes: trade.notes ?? null,
    status: trade.inboxStatus ?? ("reviewed" as const),
    tradeId: trade._id,
    tradePlanId: trade.tradePlanId ?? null,
  };
}

async function campaign(w: World): Promise<Id<"campaigns">> {
  return await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
}

test("a first decision is taken back: in review, without links or notes, and suggested again", async () => {
  const w = world();
  const tradePlanId = await plan(w);
  await sync(w, await connect(w.alice), [execution("T1"), execution("T2", { occurredAt: T0 - 2 })]);
  const before = await rows(w, "trades");
  const tradeIds = before.map(({ _id }) => _id);
  await w.alice.mutation(inbox.review, { notes: "quick", tradeIds, tradePlanId });
  expect(await w.alice.mutation(inbox.reopen, { rows: before.map(remembered) })).toEqual({ reopened: 2 });
  await settle(w);
  const after = await rows(w, "trades");
  expect(after.map(({ inboxStatus, notes, tradePlanId: link }) => [inboxStatus, notes, link])).toEqual([
    ["pending_review", undefined, undefined],
    ["pending_review", undefined, undefined],
  ]);
  expect(after.map(({ suggestedTradePlanId }) => suggestedTradePlanId)).toEqual([tradePlanId, tradePlanId]);
});

test("a second decision is taken back to the first", async () => {
  const w = world();
  const campaignId = await campaign(w);
  await sync(w, await connect(w.alice), [execution("T1")]);
  const [row] = await rows(w, "trades");
  const tradeIds = [row?._id as Id<"trades">];
  await w.alice.mutation(inbox.review, { campaignId, notes: "mine", tradeIds });
  const first = (await rows(w, "trades")).map(remembered);
  await w.alice.mutation(inbox.review, { notes: null, tradeIds, tradePlanId: await plan(w) });
  await w.alice.mutation(inbox.reopen, { rows: first });
  const [now] = await rows(w, "trades");
  expect(now).toMatchObject({ campaignId, inboxStatus: "reviewed", notes: "mine" });
  expect(now?.tradePlanId).toBeUndefined();
});

test("a direction that was turned turns back, as the guess that it was, and stays one when it is looked at again", async () => {
  const w = world();
  const connectionId = await connectGateway(w.alice);
  await sync(w, connectionId, [ibkrFill("E2", { occurredAt: T0 - 2, side: "sell" })]);
  await settle(w);
  const before = await rows(w, "trades");
  expect(before).toMatchObject([{ direction: "short", importFlags: ["direction_guessed"] }]);
  await w.alice.mutation(inbox.review, { direction: "long", tradeIds: before.map(({ _id }) => _id) });
  await settle(w);
  await w.alice.mutation(inbox.reopen, { rows: before.map(remembered) });
  await settle(w);
  expect(await rows(w, "trades")).toMatchObject([
    { direction: "short", importFlags: ["direction_guessed"], inboxStatus: "pending_review" },
  ]);
  // It is as free as before: history that arrives late decides.
  await sync(w, connectionId, [ibkrFill("E1", { occurredAt: T0 - 3 })]);
  await settle(w);
  const [sale] = await rows(w, "trades");
  expect(sale).toMatchObject({ direction: "long", importFlags: [] });
});

test("what the broker has said since stays", () => {
  const row = { direction: "long" as const, importFlags: ["changed_by_broker"] as ImportFlag[], side: "sell" as const };
  expect(asBefore(row, { direction: "short", flags: ["direction_guessed", "margin"] })).toEqual({
    direction: "short",
    importFlags: ["changed_by_broker", "direction_guessed"],
  });
  expect(asBefore(row, { direction: "long", flags: ["margin"] })).toEqual({ direction: "long", importFlags: ["changed_by_broker"] });
});

test("F5 all or nothing: a foreign row, a plan that is gone, a contradiction, too many", async () => {
  const w = world();
  const tradePlanId = await plan(w);
  await sync(w, await connect(w.alice), [execution("T1")]);
  await sync(w, await connect(w.bob), [execution("T9")]);
  const all = await rows(w, "trades");
  const [mine, theirs] = all.map(remembered);
  if (mine === undefined || theirs === undefined) throw new Error("two trades");
  const reopen = async (...given: (typeof mine)[]) => await codeOf(w.alice.mutation(inbox.reopen, { rows: given }));
  const reviewed = { ...mine, status: "reviewed" as const };
  expect(await reopen(reviewed, theirs)).toBe("not_found");
  expect(await reopen({ ...reviewed, campaignId: await campaign(w), tradePlanId })).toBe("conflict");
  expect(await reopen({ ...reviewed, notes: "x".repeat(10_001) })).toBe("invalid_argument");
  expect(await reopen()).toBe("invalid_argument");
  await w.t.run(async (ctx) => await ctx.db.delete("tradePlans", tradePlanId));
  expect(await reopen({ ...reviewed, tradePlanId })).toBe("not_found");
  expect(await rows(w, "trades")).toEqual(all);
});

test("counts stop where the caller wants", async () => {
  const w = world();
  await sync(w, await connect(w.alice), [1, 2, 3].map((each) => execution(`T${each}`, { occurredAt: T0 - each })));
  expect(await w.alice.query(inbox.counts, { limit: 2 })).toMatchObject({ limit: 2, pendingReview: 2 });
  expect(await w.alice.query(inbox.counts, {})).toMatchObject({ limit: 1_000, pendingReview: 3 });
});
