// The chores of the crons, on a clock that the tests turn.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import type { Doc, Id } from "../../convex/_generated/dataModel";
import crons from "../../convex/crons";
import { WORKER_SILENCE_MS } from "../../convex/tradeImport/rules/health";
import { isAbandoned, LEASE_MS } from "../../convex/tradeImport/rules/lease";
import { isQuiet } from "../../convex/tradeImport/rules/retention";
import { enter, trade } from "./journal";
import { claim, codeOf, connect, execution, finish, ingest, lease, rows, sync, T0, world, type World } from "./world";

const { maintenance } = internal.tradeImport;

const MINUTE = 60_000;
const DAY = 86_400_000;

beforeEach(() => {
  vi.useFakeTimers({ now: T0 });
});
afterEach(() => {
  vi.useRealTimers();
});

async function everyMinute(w: World) {
  await w.t.mutation(maintenance.everyMinute, {});
}

/** The hour's chores, with all the steps they come back for. */
async function everyHour(w: World) {
  await w.t.mutation(maintenance.everyHour, {});
  await w.t.finishAllScheduledFunctions(vi.runAllTimers);
}

async function beat(w: World, workerId = "w1") {
  await w.worker.mutation(api.tradeImport.worker.beat, { startedAt: T0, version: "1", workerId });
}

const health = async (w: World) => (await w.alice.query(api.tradeImport.connections.list, {}))[0]?.health;

describe("the crons", () => {
  test("are registered by one line of the app", () => {
    expect(Object.values(crons.crons).map(({ name, schedule }) => ({ name, schedule }))).toEqual([
      { name: "tradeImport/maintenance:everyMinute", schedule: { minutes: 1, type: "interval" } },
      { name: "tradeImport/maintenance:everyHour", schedule: { hours: 1, type: "interval" } },
    ]);
  });
});

describe("trades that somebody types", () => {
  test("after an import are noticed, and directions in review follow", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1", { quantity: "2", side: "sell" })]);
    await w.t.finishAllScheduledFunctions(vi.runAllTimers);
    const flags = async () => (await rows(w, "trades")).filter(({ source }) => source === "kraken").map((each) => each.importFlags);
    expect(await flags()).toEqual([["opening_lot_unknown"]]);
    await enter(w, [trade("buy long 2 20000", { assetType: "crypto", date: T0 - 7_200_000, ticker: "BTC/USD" })]);
    vi.setSystemTime(T0 + 60 * MINUTE);
    await everyHour(w);
    expect(await flags()).toEqual([[]]);
  });
});

describe("a worker's silence", () => {
  test("shows without a client's clock, and ends with the next beat", async () => {
    const w = world();
    await finish(w, await lease(w, await connect(w.alice)));
    await beat(w);
    await everyMinute(w);
    expect(await health(w)).toMatchObject({ state: "ok" });

    vi.setSystemTime(T0 + WORKER_SILENCE_MS);
    await everyMinute(w);
    expect(await health(w)).toMatchObject({ state: "ok" });
    vi.setSystemTime(T0 + WORKER_SILENCE_MS + 1);
    await everyMinute(w);
    expect(await health(w)).toMatchObject({
      action: "Start the worker: trade-sync run.",
      sentence: "The worker is not running.",
      since: T0,
      state: "worker_offline",
    });

    await beat(w);
    expect(await health(w)).toMatchObject({ state: "ok" });
  });

  test("is written once, and is that of the last of several workers", async () => {
    const w = world();
    await beat(w, "w1");
    vi.setSystemTime(T0 + MINUTE);
    await beat(w, "w2");
    for (const minutes of [5, 6, 7]) {
      vi.setSystemTime(T0 + minutes * MINUTE);
      await everyMinute(w);
    }
    expect(await rows(w, "workerSilence")).toMatchObject([{ _creationTime: T0 + 5 * MINUTE, since: T0 + MINUTE }]);
  });

  test("counts from the first look where no worker ever reported", async () => {
    const w = world();
    await connect(w.alice);
    await everyMinute(w);
    expect(await health(w)).toMatchObject({ sentence: "No worker has reported yet.", since: T0, state: "worker_offline" });
  });

  test("a client's clock and a fresh beat decide over an old note", async () => {
    const w = world();
    await finish(w, await lease(w, await connect(w.alice)));
    await w.t.run(async (ctx) => {
      await ctx.db.insert("workerSilence", { since: 0 });
      await ctx.db.insert("workerHeartbeats", { lastBeatAt: T0, startedAt: T0, version: "1", workerId: "w9" });
    });
    expect(await w.alice.query(api.tradeImport.connections.list, { now: T0 })).toMatchObject([
      { health: { state: "ok" } },
    ]);
    await everyMinute(w);
    expect(await rows(w, "workerSilence")).toEqual([]);
  });
});

describe("a dead worker's job", () => {
  test("E2 ends when its lease has, keeps what it stored, and the next one goes on", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    await ingest(w, held, 1, [execution("T1")]);

    vi.setSystemTime(T0 + LEASE_MS - 1);
    await everyMinute(w);
    expect(await rows(w, "importJobs")).toMatchObject([{ status: "running" }]);
    vi.setSystemTime(T0 + LEASE_MS);
    await everyMinute(w);
    expect(await rows(w, "importJobs")).toMatchObject([
      { finishedAt: T0 + LEASE_MS, reason: "lease_lost", stats: { inserted: 1 }, status: "failed" },
    ]);
    expect((await rows(w, "connectionSyncState"))[0]).not.toHaveProperty("lease");
    expect(await rows(w, "trades")).toHaveLength(1);

    expect(await codeOf(ingest(w, held, 2, [execution("T2")]))).toBe("lease_lost");
    expect(await claim(w, connectionId)).toMatchObject({ granted: true, lease: { fence: held.fence + 1 } });
  });

  test("stops showing as syncing, without a client's clock", async () => {
    const w = world();
    await lease(w, await connect(w.alice));
    await beat(w);
    expect(await health(w)).toMatchObject({ state: "syncing" });
    vi.setSystemTime(T0 + LEASE_MS);
    await everyMinute(w);
    expect(await health(w)).toMatchObject({ state: "worker_offline" });
  });

  test("another job's lease is left alone", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const first = await lease(w, connectionId);
    vi.setSystemTime(T0 + LEASE_MS);
    const second = await lease(w, connectionId);
    // As a crash between two versions of the functions could have left it.
    await w.t.run(async (ctx) => {
      await ctx.db.patch("importJobs", first.jobId, { finishedAt: undefined, reason: "none", status: "running" });
    });
    await everyMinute(w);
    const jobs = new Map((await rows(w, "importJobs")).map(({ _id, status }) => [_id, status]));
    expect([jobs.get(first.jobId), jobs.get(second.jobId)]).toEqual(["failed", "running"]);
    expect(await rows(w, "connectionSyncState")).toMatchObject([{ lease: { jobId: second.jobId } }]);
  });

  test("more than a step handles end in the next ones", async () => {
    const w = world();
    await lease(w, await connect(w.alice));
    const [job] = await rows(w, "importJobs");
    if (job !== undefined) await copies(w, job, 149);
    vi.setSystemTime(T0 + LEASE_MS);
    const running = async () => (await rows(w, "importJobs")).filter(({ status }) => status === "running").length;
    expect(await running()).toBe(150);
    await everyMinute(w);
    expect(await running()).toBe(50);
    await everyMinute(w);
    expect(await running()).toBe(0);
  });

  test.each([
    ["its lease runs", "a", T0 + 1, 0, false],
    ["its lease ends now", "a", T0, 0, true],
    ["the lease is another job's, it is young", "b", T0 + 1, T0 - LEASE_MS + 1, false],
    ["the lease is another job's, it is old", "b", T0 + 1, T0 - LEASE_MS, true],
    ["there is no lease", null, 0, T0 - LEASE_MS, true],
  ])("is abandoned: %s", (_, holder, expiresAt, startedAt, abandoned) => {
    const held = holder === null ? undefined : { expiresAt, jobId: holder };
    expect(isAbandoned({ jobId: "a", startedAt }, held, T0)).toBe(abandoned);
  });
});

async function copies(w: World, { _creationTime, _id, ...job }: Doc<"importJobs">, count: number) {
  await w.t.run(async (ctx) => {
    for (let copy = 0; copy < count; copy++) await ctx.db.insert("importJobs", job);
  });
}

describe("old jobs", () => {
  async function ended(w: World, changes: Partial<Doc<"importJobs">>): Promise<Id<"importJobs">> {
    const [connection] = await rows(w, "brokerageConnections");
    const { jobId } = await lease(w, connection?._id ?? (await connect(w.alice)));
    await w.t.run(async (ctx) => {
      const [state] = await ctx.db.query("connectionSyncState").collect();
      if (state) await ctx.db.patch("connectionSyncState", state._id, { lease: undefined });
      await ctx.db.patch("importJobs", jobId, changes);
    });
    return jobId;
  }

  const stats = { errors: 0, fetched: 9, held: 0, inserted: 0, known: 9, pendingReview: 0, rejected: 0, skipped: 0, updated: 0 };

  test.each<[string, Doc<"importJobs">["status"], Partial<typeof stats>, number, boolean]>([
    ["a success that changed nothing, 14 days", "succeeded", {}, 14, false],
    ["the same, a moment longer", "succeeded", {}, 14 + 1 / DAY, true],
    ["one that inserted", "succeeded", { inserted: 1 }, 400, false],
    ["one that updated", "succeeded", { updated: 1 }, 400, false],
    ["one that held", "succeeded", { held: 1 }, 400, false],
    ["one that rejected", "succeeded", { rejected: 1 }, 400, false],
    ["a failure, 90 days", "failed", {}, 90, false],
    ["a failure, a moment longer", "failed", {}, 90 + 1 / DAY, true],
    ["a failure that inserted", "failed", { inserted: 1 }, 400, false],
    ["a refusal", "blocked_reauth", {}, 91, true],
    ["a partial one", "partial", {}, 91, true],
    ["a running one", "running", {}, 400, false],
  ])("%s", async (_, status, changed, days, gone) => {
    const w = world();
    await ended(w, {
      finishedAt: status === "running" ? undefined : T0 - days * DAY,
      stats: { ...stats, ...changed },
      status,
    });
    await everyHour(w);
    expect(await rows(w, "importJobs")).toHaveLength(gone ? 0 : 1);
  });

  test("stay while an execution or a reject names them, whatever they counted", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await sync(w, connectionId, [execution("T1")]);
    const held = await lease(w, connectionId);
    const reject = { fingerprint: "f1", rawPayload: "{}", reason: "no price" };
    await ingest(w, held, 1, [], { rejects: [reject] });
    await finish(w, held);
    await w.t.run(async (ctx) => {
      for (const { _id } of await ctx.db.query("importJobs").collect()) await ctx.db.patch("importJobs", _id, { stats });
    });
    vi.setSystemTime(T0 + 400 * DAY);
    await everyHour(w);
    expect(await rows(w, "importJobs")).toMatchObject([{ kept: true }, { kept: true }]);
  });

  test("a job whose reports are kept is not quiet", () => {
    expect(isQuiet({ stats })).toBe(true);
    expect(isQuiet({ reportIds: [], stats })).toBe(true);
    expect(isQuiet({ reportIds: ["r1"], stats })).toBe(false);
  });

  test("go in steps until none is left, past those that stay", async () => {
    const w = world();
    await ended(w, { finishedAt: T0 - 20 * DAY, stats: { ...stats, inserted: 1 }, status: "succeeded" });
    const [stays] = await rows(w, "importJobs");
    if (stays !== undefined) {
      await copies(w, stays, 149);
      await copies(w, { ...stays, stats }, 250);
    }
    await everyHour(w);
    const left = await rows(w, "importJobs");
    expect(left).toHaveLength(150);
    expect(left.every(({ kept, stats: { inserted } }) => kept === true && inserted === 1)).toBe(true);
  });
});

describe("rejects", () => {
  test("lose their text 90 days after their row was read well, and nothing else", async () => {
    const w = world();
    const held = await lease(w, await connect(w.alice));
    const reject = (name: string) => ({
      externalExecutionId: name,
      fingerprint: `f-${name}`,
      rawPayload: `{"id":"${name}"}`,
      reason: "no price",
    });
    const names = Array.from({ length: 30 }, (_, index) => `T${index}`);
    await ingest(w, held, 1, [], { rejects: [...names.map(reject), reject("OPEN")] });
    await ingest(w, held, 2, names.map((name) => execution(name)));
    await finish(w, held);
    const full = async () => (await rows(w, "importRejects")).filter(({ rawPayload }) => rawPayload !== "").length;

    vi.setSystemTime(T0 + 90 * DAY);
    await everyHour(w);
    expect(await full()).toBe(31);
    vi.setSystemTime(T0 + 90 * DAY + 1);
    await everyHour(w);
    expect(await full()).toBe(1);
    expect(await rows(w, "importRejects")).toHaveLength(31);
    expect((await rows(w, "importRejects"))[0]).toMatchObject({ reason: "no price", resolvedAt: T0 });

    // The same bad row again is still known.
    const again = await lease(w, (await rows(w, "brokerageConnections"))[0]?._id ?? "");
    expect(await ingest(w, again, 1, [], { rejects: [reject("T0"), reject("OPEN")] })).toMatchObject({ known: 2 });
  });
});

describe("heartbeats", () => {
  test("of old workers go, the last of all stays", async () => {
    const w = world();
    await w.t.run(async (ctx) => {
      for (let number = 0; number < 250; number++) {
        const lastBeatAt = T0 - 8 * DAY + number;
        await ctx.db.insert("workerHeartbeats", { lastBeatAt, startedAt: 0, version: "1", workerId: `w${number}` });
      }
    });
    await everyHour(w);
    expect(await rows(w, "workerHeartbeats")).toMatchObject([{ workerId: "w249" }]);
  });

  test("of the last week stay", async () => {
    const w = world();
    await beat(w, "w1");
    vi.setSystemTime(T0 + 7 * DAY);
    await beat(w, "w2");
    await everyHour(w);
    expect(await rows(w, "workerHeartbeats")).toHaveLength(2);
    vi.setSystemTime(T0 + 7 * DAY + 1);
    await everyHour(w);
    expect(await rows(w, "workerHeartbeats")).toMatchObject([{ workerId: "w2" }]);
  });

  test("none at all is no failure", async () => {
    await everyHour(world());
  });
});
