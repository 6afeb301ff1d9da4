// Taking back what a job added, and getting it again with everything that was decided about it.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import { addedBy, around, MARGIN_MS, without } from "../../convex/tradeImport/rules/undo";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  claim,
  codeOf,
  connect,
  connectGateway,
  execution,
  finish,
  flexCancel,
  flexFill,
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

const DAY = 86_400_000;

async function undo(w: World, jobId: Id<"importJobs">, includeReviewed?: boolean) {
  return await w.alice.mutation(api.tradeImport.jobs.undo, { includeReviewed, jobId });
}

/** Lets everything that was scheduled happen. */
async function settle(w: World): Promise<void> {
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
}

/** One whole sync with what it covers; returns its job. */
async function covered(w: World, connectionId: Id<"brokerageConnections">, executions: Execution[]) {
  const held = await lease(w, connectionId, "manual", executions[0]?.accountRef);
  const source = executions[0]?.source ?? "kraken_trades";
  await ingest(w, held, 1, executions, { coverage: [{ end: T0, source, start: T0 - 10 * DAY }] });
  await finish(w, held);
  return held.jobId;
}

/** The journal without ids and times of storing, which an undo may change. */
async function journal(w: World) {
  return (await rows(w, "trades"))
    .map(({ _creationTime: _at, _id, importJobId: _job, ...trade }) => trade)
    .sort((a, b) => a.date - b.date || (a.leg ?? 0) - (b.leg ?? 0));
}

const coverageOf = async (w: World, index = 0) => (await rows(w, "importCursorState"))[index]?.coverage;
const idOf = async (w: World, id: string): Promise<Id<"trades">> => {
  const found = (await rows(w, "trades")).find(({ externalExecutionId }) => externalExecutionId === id);
  if (found === undefined) throw new Error(`no trade ${id}`);
  return found._id;
};
const stateOf = async (w: World, id: string): Promise<Doc<"externalExecutions">["state"] | undefined> =>
  (await rows(w, "externalExecutions")).find(({ externalExecutionId }) => externalExecutionId === id)?.state;

describe("coverage", () => {
  const span = (start: number, end: number, source = "a") => ({ end, source, start });
  test.each([
    [[span(0, 10)], [span(3, 5)], [span(0, 3), span(5, 10)]],
    [[span(0, 10)], [span(-5, 3)], [span(3, 10)]],
    [[span(0, 10)], [span(7, 99)], [span(0, 7)]],
    [[span(0, 10)], [span(-1, 11)], []],
    [[span(0, 10)], [span(10, 11)], [span(0, 10)]],
    [[span(0, 10)], [span(4, 4)], [span(0, 4), span(4, 10)]],
    [[span(0, 10), span(0, 20, "b")], [span(5, 15)], [span(0, 5), span(0, 5, "b"), span(15, 20, "b")]],
    [[], [span(0, 1)], []],
    [[span(0, 1)], [], [span(0, 1)]],
  ])("%j without %j is %j", (coverage, holes, left) => {
    expect(without(coverage, holes)).toEqual(left);
  });

  test("what a job added is told by source", () => {
    const before = [span(5, 10), span(0, 3, "b")];
    const after = [span(0, 12), span(0, 4, "b")];
    expect(addedBy(before, after)).toEqual([span(0, 5), span(10, 12), span(3, 4, "b")]);
    expect(addedBy(before, before)).toEqual([]);
  });

  test("rows close together leave one hole", () => {
    expect(around([5 * MARGIN_MS, 0, MARGIN_MS])).toEqual([
      { end: 2 * MARGIN_MS, start: -MARGIN_MS },
      { end: 6 * MARGIN_MS, start: 4 * MARGIN_MS },
    ]);
    expect(around([])).toEqual([]);
  });
});

describe("undo", () => {
  test("removes what the job added, counts what was reviewed and keeps it, and leaves other jobs alone", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await covered(w, connectionId, [execution("T1", { occurredAt: T0 - 3 })]);
    const jobId = await covered(w, connectionId, [
      execution("T1", { occurredAt: T0 - 3 }),
      execution("T2", { occurredAt: T0 - 2 }),
      execution("T3", { occurredAt: T0 - 1 }),
      execution("T4", { assetClass: "option", occurredAt: T0 - 1 }),
    ]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "T2")] });
    expect(await undo(w, jobId)).toEqual({ kept: 1, more: false, removed: 2 });
    expect((await rows(w, "trades")).map(({ externalExecutionId }) => externalExecutionId)).toEqual(["T1", "T2"]);
    expect(await Promise.all(["T1", "T2", "T3", "T4"].map((id) => stateOf(w, id)))).toEqual([
      "live",
      "live",
      "undone",
      "undone",
    ]);
    const { page } = await w.alice.query(api.tradeImport.jobs.list, { paginationOpts: { cursor: null, numItems: 9 } });
    expect(page.find((job) => job.jobId === jobId)?.undo).toEqual({ at: T0, kept: 1, removed: 2, running: false });
    // Once more there is nothing left to remove, until the reviewed row is asked for too.
    expect(await undo(w, jobId)).toEqual({ kept: 1, more: false, removed: 0 });
    expect(await undo(w, jobId, true)).toEqual({ kept: 0, more: false, removed: 1 });
    expect((await rows(w, "trades")).map(({ externalExecutionId }) => externalExecutionId)).toEqual(["T1"]);
  });

  test("I3 undo, then the same rows again: every decision is as it was", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const tradePlanId = await plan(w, { instrumentSymbol: "ETH/USD" });
    const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "" });
    const fills = ["T1", "T2", "T3", "T4", "T5"].map((id, index) => execution(id, { occurredAt: T0 - 10 + index }));
    const jobId = await covered(w, connectionId, fills);
    const review = api.tradeImport.inbox.review;
    await w.alice.mutation(review, { notes: "by plan", tradeIds: [await idOf(w, "T1")], tradePlanId });
    await w.alice.mutation(review, { campaignId, tradeIds: [await idOf(w, "T2")] });
    await w.alice.mutation(review, { tradeIds: [await idOf(w, "T3")] });
    await w.alice.mutation(api.trades.updateTrade, { price: 1.5, quantity: 0.25, tradeId: await idOf(w, "T3") });
    await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [await idOf(w, "T4")] });
    await w.alice.mutation(api.trades.updateTrade, { notes: "look again", tradeId: await idOf(w, "T5") });
    await settle(w);
    const before = await journal(w);
    expect(before).toMatchObject([
      { inboxStatus: "reviewed", notes: "by plan", tradePlanId },
      { campaignId, inboxStatus: "reviewed" },
      { inboxStatus: "reviewed", price: 1.5, quantity: 0.25 },
      { inboxStatus: "pending_review", notes: "look again" },
    ]);

    expect(await undo(w, jobId, true)).toEqual({ kept: 0, more: false, removed: 4 });
    await settle(w);
    expect(await journal(w)).toEqual([]);
    expect(await sync(w, connectionId, fills)).toMatchObject({ inserted: 4, known: 1, updated: 0 });
    await settle(w);
    expect(await journal(w)).toEqual(before);
    expect(await stateOf(w, "T4")).toBe("dismissed");
    // And the next sync finds all of it known.
    expect(await sync(w, connectionId, fills)).toMatchObject({ inserted: 0, known: 5, updated: 0 });
  });

  test("a row that comes back changed keeps the decision and shows the news", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const tradePlanId = await plan(w);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "T1")], tradePlanId });
    await undo(w, jobId, true);
    await sync(w, connectionId, [execution("T1", { price: "30020.5", revision: 2 })]);
    expect(await rows(w, "trades")).toMatchObject([
      { importFlags: ["changed_by_broker"], inboxStatus: "reviewed", price: 30020.5, tradePlanId },
    ]);
    expect(await rows(w, "externalExecutions")).toHaveLength(1);
  });

  test("what comes back belongs to the job that brought it", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    await undo(w, jobId);
    const again = await covered(w, connectionId, [execution("T1")]);
    const rowsOf = async (id: Id<"importJobs">) => {
      const paginationOpts = { cursor: null, numItems: 9 };
      const { page } = await w.alice.query(api.tradeImport.jobs.rows, { jobId: id, paginationOpts });
      return page.map(({ externalExecutionId, state, tradeIds }) => [externalExecutionId, state, tradeIds.length]);
    };
    expect(await rowsOf(jobId)).toEqual([]);
    expect(await rowsOf(again)).toEqual([["T1", "live", 1]]);
    expect(await undo(w, jobId)).toEqual({ kept: 0, more: false, removed: 0 });
    expect(await rows(w, "trades")).toHaveLength(1);
  });

  test("a link to a plan that is gone is not restored", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const tradePlanId = await plan(w);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "T1")], tradePlanId });
    await undo(w, jobId, true);
    await w.t.run(async (ctx) => await ctx.db.delete("tradePlans", tradePlanId));
    await sync(w, connectionId, [execution("T1")]);
    const [trade] = await rows(w, "trades");
    expect(trade).toMatchObject({ inboxStatus: "reviewed" });
    expect(trade).not.toHaveProperty("tradePlanId");
  });

  test("D9 a trade that its owner deleted does not come back", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    await w.alice.mutation(api.trades.deleteTrade, { tradeId: await idOf(w, "T1") });
    await undo(w, jobId, true);
    await sync(w, connectionId, [execution("T1")]);
    expect(await rows(w, "trades")).toEqual([]);
    expect(await stateOf(w, "T1")).toBe("live");
  });

  test("what the job read counts as unread, and no worker's memory of it is good", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const source = "kraken_trades" as const;
    const first = await lease(w, connectionId);
    await ingest(w, first, 1, [], {
      coverage: [{ end: T0 - 5 * DAY, source, start: 0 }],
      extras: { bookmarks: "[]", note: "kept" },
    });
    await finish(w, first);
    const second = await lease(w, connectionId);
    // The second row lies in what the first job had covered: the broker showed it late.
    await ingest(
      w,
      second,
      1,
      [execution("T1", { occurredAt: T0 - DAY / 2 }), execution("T2", { occurredAt: T0 - 20 * DAY })],
      { coverage: [{ end: T0, source, start: 0 }] },
    );
    await finish(w, second);
    await undo(w, second.jobId);
    expect(await coverageOf(w)).toEqual([
      { end: T0 - 21 * DAY, source, start: 0 },
      { end: T0 - 5 * DAY, source, start: T0 - 19 * DAY },
    ]);
    expect((await rows(w, "importCursorState"))[0]?.extras).toEqual({ note: "kept" });
    const next = await lease(w, connectionId);
    // One for the lease, one for the undo: `fence + 1` is what a worker's memory would be good for.
    expect(next.fence).toBe(second.fence + 2);
  });

  test("every connection to the account reads it again, and none of another owner", async () => {
    const w = world();
    const first = await connect(w.alice);
    const second = await connect(w.alice);
    const bobs = await connect(w.bob);
    for (const other of [second, bobs]) await covered(w, other, [execution("T0", { occurredAt: T0 - 9 * DAY })]);
    const jobId = await covered(w, first, [execution("T1", { occurredAt: T0 - 3 * DAY })]);
    const fences = async () => (await rows(w, "connectionSyncState")).map(({ fence }) => fence);
    const before = await fences();
    await undo(w, jobId);
    expect(await fences()).toEqual([before[0] ?? 0, before[1] ?? 0, before[2] ?? 0].map((fence, index) => fence + (index < 2 ? 1 : 0)));
    const hole = [
      { end: T0 - 4 * DAY, source: "kraken_trades", start: T0 - 10 * DAY },
      { end: T0, source: "kraken_trades", start: T0 - 2 * DAY },
    ];
    // The rows of importCursorState are in the order of the first syncs: second, bob's, first.
    expect(await coverageOf(w, 0)).toEqual(hole);
    expect(await coverageOf(w, 1)).toEqual([{ end: T0, source: "kraken_trades", start: T0 - 10 * DAY }]);
    expect(await coverageOf(w, 2)).toEqual([]);
  });

  test("nothing is forgotten where nothing was removed", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "T1")] });
    const before = [await rows(w, "importCursorState"), await rows(w, "connectionSyncState")];
    expect(await undo(w, jobId)).toEqual({ kept: 1, more: false, removed: 0 });
    expect([await rows(w, "importCursorState"), await rows(w, "connectionSyncState")]).toEqual(before);
  });

  test("open rejects of the job go too and are recorded again", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const reject = { fingerprint: "F1", rawPayload: "{}", reason: "r" };
    const read = async () => {
      const held = await lease(w, connectionId);
      const result = await ingest(w, held, 1, [], { rejects: [reject] });
      await w.worker.mutation(api.tradeImport.worker.finish, {
        breaker: { failures: 0, phase: "closed" },
        counts: { errors: 0, fetched: 1, remembered: 0, skipped: 0 },
        fence: held.fence,
        jobId: held.jobId,
        nextSyncIn: 0,
        outcome: { reason: "none", status: "succeeded" },
        window: { end: T0, start: T0 - DAY },
      });
      return { jobId: held.jobId, rejected: result.rejected };
    };
    const { jobId } = await read();
    await undo(w, jobId);
    expect(await rows(w, "importRejects")).toEqual([]);
    expect(await read()).toMatchObject({ rejected: 1 });
  });

  test("a job that runs, an account that is being synced and another owner's job are refused", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const second = await connect(w.alice);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    expect(await codeOf(w.bob.mutation(api.tradeImport.jobs.undo, { jobId }))).toBe("not_found");
    const running = await lease(w, connectionId);
    expect(await codeOf(undo(w, running.jobId))).toBe("conflict");
    expect(await codeOf(undo(w, jobId))).toBe("conflict");
    await finish(w, running);
    const sibling = await lease(w, second);
    expect(await codeOf(undo(w, jobId))).toBe("conflict");
    await finish(w, sibling);
    expect(await undo(w, jobId)).toMatchObject({ removed: 1 });
  });

  test("E4 a worker that slept through its lease cannot write after an undo", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const jobId = await covered(w, connectionId, [execution("T1")]);
    const asleep = await lease(w, connectionId);
    vi.setSystemTime(asleep.expiresAt);
    expect(await undo(w, jobId)).toMatchObject({ removed: 1 });
    expect(await codeOf(ingest(w, asleep, 1, [execution("T1")]))).toBe("lease_lost");
    expect((await rows(w, "importJobs")).find(({ _id }) => _id === asleep.jobId)).toMatchObject({
      reason: "cancelled",
      status: "failed",
    });
    expect(await claim(w, connectionId, "manual")).toMatchObject({ granted: true });
  });

  test("450 rows are three steps; a sync that begins between two of them ends and brings them again", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const fills = Array.from({ length: 450 }, (_, index) => execution(`T${index}`, { occurredAt: T0 - 1_000 + index }));
    const jobId = await covered(w, connectionId, fills);
    await settle(w);
    expect(await undo(w, jobId)).toEqual({ kept: 0, more: true, removed: 200 });
    expect(await rows(w, "trades")).toHaveLength(250);
    expect(await codeOf(undo(w, jobId))).toBe("conflict");
    const between = await lease(w, connectionId);
    expect(await ingest(w, between, 1, fills.slice(0, 300))).toMatchObject({ inserted: 200, known: 100 });
    await settle(w);
    const [job] = await rows(w, "importJobs");
    expect(job?.undo).toMatchObject({ kept: 0, removed: 450, running: false });
    // The rows that the sync brought back are its own; the others are gone.
    expect(await rows(w, "trades")).toHaveLength(200);
    expect(await codeOf(ingest(w, between, 2, fills.slice(300)))).toBe("lease_lost");
    await sync(w, connectionId, fills);
    expect(await rows(w, "trades")).toHaveLength(450);
    expect(await rows(w, "externalExecutions")).toHaveLength(450);
  });

  test("B8 an undone cancel voids nothing until it comes again", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    await sync(w, connectionId, [flexFill("E1")]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "E1")], tradePlanId });
    const jobId = await covered(w, connectionId, [flexCancel("E1", "X-9")]);
    expect(await stateOf(w, "E1")).toBe("voided");
    expect(await undo(w, jobId)).toEqual({ kept: 0, more: false, removed: 1 });
    expect(await stateOf(w, "E1")).toBe("live");
    const [trade] = await rows(w, "trades");
    expect(trade).toMatchObject({ inboxStatus: "reviewed", tradePlanId });
    expect(trade?.importFlags).not.toContain("voided_by_broker");
    await sync(w, connectionId, [flexCancel("E1", "X-9")]);
    expect(await stateOf(w, "E1")).toBe("voided");
    expect((await rows(w, "trades"))[0]?.importFlags).toContain("voided_by_broker");
  });

  test("B8 a fill that was cancelled while it was undone comes back cancelled, with its link", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    const jobId = await covered(w, connectionId, [flexFill("E1")]);
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [await idOf(w, "E1")], tradePlanId });
    await undo(w, jobId, true);
    await sync(w, connectionId, [flexCancel("E1", "X-9")]);
    expect(await rows(w, "trades")).toEqual([]);
    expect(await stateOf(w, "E1")).toBe("undone");
    await sync(w, connectionId, [flexFill("E1")]);
    expect(await stateOf(w, "E1")).toBe("voided");
    const [trade] = await rows(w, "trades");
    expect(trade).toMatchObject({ inboxStatus: "reviewed", tradePlanId });
    expect(trade?.importFlags).toEqual(expect.arrayContaining(["changed_by_broker", "voided_by_broker"]));
  });

  test("a held row comes back held, and as a trade once its class is known", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const option = flexFill("E1", { assetClass: "option" });
    const jobId = await covered(w, connectionId, [option]);
    await undo(w, jobId);
    expect(await w.alice.query(api.tradeImport.inbox.counts, {})).toMatchObject({ held: 0 });
    expect(await sync(w, connectionId, [option])).toMatchObject({ held: 1, inserted: 0 });
    expect(await stateOf(w, "E1")).toBe("held");
    const again = (await rows(w, "externalExecutions"))[0]?.importJobId;
    if (again === undefined) throw new Error("no execution");
    await undo(w, again);
    expect(await sync(w, connectionId, [flexFill("E1")])).toMatchObject({ inserted: 1 });
    expect(await inboxRows(w.alice)).toHaveLength(1);
  });
});
