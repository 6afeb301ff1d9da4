// Import Errors: what stands open, one line each, gone with its cause; and rejected rows that are read again.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import { openProblems, type ConnectionFacts } from "../../convex/tradeImport/rules/problems";
import { plainSentence, plainUrl } from "../../convex/tradeImport/rules/text";
import type { Reject } from "../../convex/tradeImport/validators";
import {
  ACCOUNT,
  claim,
  codeOf,
  connect,
  connectGateway,
  execution,
  finish,
  flexCancel,
  IBKR_ACCOUNT,
  ibkrFill,
  ingest,
  lease,
  rows,
  sync,
  T0,
  world,
  type User,
  type World,
} from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0, toFake: ["Date"] });
});
afterEach(() => {
  vi.useRealTimers();
});

const MINUTE = 60_000;

async function lines(user: User, now?: number) {
  return await user.query(api.tradeImport.jobs.openProblems, { now });
}

async function beat(w: World): Promise<void> {
  await w.worker.mutation(api.tradeImport.worker.beat, { startedAt: T0, version: "1", workerId: "w1" });
}

function reject(fingerprint: string, changes: Partial<Reject> = {}): Reject {
  return { fingerprint, rawPayload: `{"f":"${fingerprint}"}`, reason: "no price", ...changes };
}

async function rejected(w: World, connectionId: Id<"brokerageConnections">, ...rejects: Reject[]) {
  const held = await lease(w, connectionId);
  await ingest(w, held, 1, [], { rejects });
  await finish(w, held);
  return held.jobId;
}

describe("the lines", () => {
  const healthy: ConnectionFacts<string> = {
    accountRef: "A",
    connectionId: "c1",
    gaps: [],
    health: { action: "", sentence: "Up to date.", since: 1, state: "ok" },
    kind: "kraken",
    problem: undefined,
  };
  const trouble = (state: ConnectionFacts<string>["health"]["state"], action: string, code = "c") => ({
    health: { action, sentence: "It broke.", since: 5, state, url: "https://localhost:5000" },
    problem: { action, code, sentence: "It broke.", url: "https://localhost:5000" },
  });
  const gaps = [
    { end: Date.UTC(2026, 0, 2), start: Date.UTC(2026, 0, 1) },
    { end: Date.UTC(2026, 0, 4), start: Date.UTC(2026, 0, 3) },
  ];

  test.each<[string, Partial<ConnectionFacts<string>>, [string, string][]]>([
    ["all well", {}, []],
    ["refused credentials", trouble("needs_reauth", "update_credentials"), [["update_credentials", "Enter new credentials."]]],
    ["nobody is logged in", trouble("needs_reauth", "log_in"), [["log_in", "Log in at the address."]]],
    ["a wrong Flex query", trouble("degraded", "check_flex_query"), [["check_flex_query", "Correct the Flex query; «trade-sync check-flex» names what is missing in it."]]],
    ["an action that is a text already", trouble("degraded", "Do it."), [["none", "Do it."]]],
    ["a login used elsewhere", trouble("in_use_elsewhere", ""), [["none", ""]]],
    ["maintenance", trouble("maintenance_window", ""), [["none", ""]]],
    ["rows nobody could read have lines of their own", trouble("degraded", "", "bad_records"), []],
    ["overdue", { health: { ...healthy.health, state: "stale" } }, [["sync_now", "Press Sync now."]]],
    ["never synced is no problem", { health: { ...healthy.health, state: "never_synced" } }, []],
    ["disconnected is no problem", { gaps, health: { ...healthy.health, state: "disconnected" } }, []],
    ["gaps that the broker can still show", { gaps }, [["sync_now", "Press Sync now."]]],
    ["gaps that it cannot", { gaps, kind: "ibkr_gateway" }, [["import_statement", "Import a Flex statement of that time."]]],
    ["gaps while a sync runs are its work", { gaps, health: { ...healthy.health, state: "syncing" } }, []],
    ["gaps that the worker has told of", { gaps, ...trouble("degraded", "import_flex", "gap") }, [["import_statement", "Import a Flex statement of that time."]]],
  ])("%s", (_, changes, expected) => {
    const found = openProblems({ connections: [{ ...healthy, ...changes }], held: [], rejects: [], silence: null });
    expect(found.map(({ action, actionCode }) => [actionCode, action])).toEqual(expected);
    for (const { connectionId } of found) expect(connectionId).toBe("c1");
  });

  test("a gap's sentence names the last range, counts the others and says since when", () => {
    const [line] = openProblems({ connections: [{ ...healthy, gaps }], held: [], rejects: [], silence: null });
    expect(line).toMatchObject({
      count: 2,
      sentence:
        "Executions from 2026-01-03 00:00 to 2026-01-04 00:00 (UTC) and 1 earlier range may be missing. " +
        "If you did not trade then, nothing is missing.",
      since: Date.UTC(2026, 0, 1),
    });
  });

  test("without a worker a sync that is overdue is no second problem", () => {
    const stale = { ...healthy, health: { ...healthy.health, state: "stale" as const } };
    const facts = { connections: [stale], held: [], rejects: [], silence: { everReported: true, since: 3 } };
    expect(openProblems(facts)).toMatchObject([{ actionCode: "start_worker", connectionId: null, since: 3 }]);
  });

  test.each([
    [1, 0, undefined, "retry_rejects", "1 row from the broker could not be read and is kept with the reason."],
    [3, 2, undefined, "retry_rejects", "3 rows from the broker could not be read and are kept with the reason."],
    [2, 2, undefined, "none", "2 rows from the broker could not be read and are kept with the reason. The next sync tries again."],
    [2, 0, "U9", "connect_account", "2 rows belong to account U9, which is not connected."],
  ] as const)("%s rejects, %s retrying, account %s", (count, retrying, accountRef, actionCode, sentence) => {
    const rejects = [{ accountRef, connectionId: "c1", count, retrying, since: 4 }];
    expect(openProblems({ connections: [], held: [], rejects, silence: null })).toMatchObject([
      { actionCode, connectionId: "c1", count, sentence, since: 4 },
    ]);
  });

  test.each([
    ["asset_class_not_supported", 1, "1 execution of a class that the journal has no place for is kept outside it."],
    ["asset_class_not_supported", 2, "2 executions of a class that the journal has no place for are kept outside it."],
    ["original_not_seen", 1, "1 cancel waits for the trade that it cancels."],
    ["original_not_seen", 2, "2 cancels wait for the trades that they cancel."],
  ] as const)("held: %s, %s", (reason, count, sentence) => {
    const held = [{ count, reason, since: 4 }];
    expect(openProblems({ connections: [], held, rejects: [], silence: null })).toMatchObject([{ count, sentence, since: 4 }]);
  });
});

describe("jobs.openProblems", () => {
  test("says nothing where nothing is wrong, and nothing of what was only never synced", async () => {
    const w = world();
    await beat(w);
    expect(await lines(w.alice, T0)).toEqual([]);
    const connectionId = await connect(w.alice);
    expect(await lines(w.alice, T0)).toEqual([]);
    await sync(w, connectionId, [execution("T1")]);
    expect(await lines(w.alice, T0)).toEqual([]);
  });

  test("a worker that is silent is one line, and gone with its next beat", async () => {
    const w = world();
    await connect(w.alice);
    await connect(w.alice);
    await beat(w);
    expect(await lines(w.alice, T0 + 2 * MINUTE)).toEqual([]);
    expect(await lines(w.alice, T0 + 2 * MINUTE + 1)).toMatchObject([
      { action: "Start the worker: trade-sync run.", actionCode: "start_worker", connectionId: null, since: T0 },
    ]);
    vi.setSystemTime(T0 + 3 * MINUTE);
    await beat(w);
    expect(await lines(w.alice, T0 + 3 * MINUTE)).toEqual([]);
  });

  test("C1 a login that ended is a line with its address, and gone once a sync went well", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const held = await lease(w, connectionId, "manual", IBKR_ACCOUNT);
    await finish(w, held, {
      problem: { action: "log_in", code: "ibkr_login_needed", sentence: "Nobody is logged in.", url: "https://localhost:5000" },
      reason: "auth",
      status: "blocked_reauth",
    });
    expect(await lines(w.alice)).toEqual([
      {
        action: "Log in at the address.",
        actionCode: "log_in",
        connectionId,
        count: null,
        sentence: "Nobody is logged in.",
        since: T0,
        url: "https://localhost:5000",
      },
    ]);
    await sync(w, connectionId, [ibkrFill("E1")]);
    expect(await lines(w.alice)).toEqual([]);
  });

  test("E10 gaps close with whatever covers them", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    const span = (start: number, end: number) => ({ end, source: "kraken_trades" as const, start });
    await ingest(w, held, 1, [], { coverage: [span(0, T0 - 9 * MINUTE), span(T0 - 5 * MINUTE, T0)] });
    await finish(w, held);
    expect(await lines(w.alice)).toMatchObject([
      { actionCode: "sync_now", connectionId, count: 1, since: T0 - 9 * MINUTE },
    ]);
    const next = await lease(w, connectionId);
    await ingest(w, next, 1, [], { coverage: [span(0, T0)] });
    await finish(w, next);
    expect(await lines(w.alice)).toEqual([]);
  });

  test("rejects of the account and of another one are two lines, each gone with its rows", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await rejected(
      w,
      connectionId,
      reject("F1", { externalExecutionId: "T1" }),
      reject("F2", { accountRef: "OTHER" }),
      reject("F3", { accountRef: ACCOUNT, externalExecutionId: "T3" }),
    );
    expect((await lines(w.alice)).map(({ actionCode, connectionId: of, count }) => [actionCode, of, count])).toEqual([
      ["connect_account", connectionId, 1],
      ["retry_rejects", connectionId, 2],
    ]);
    await sync(w, connectionId, [execution("T1"), execution("T3")]);
    expect((await lines(w.alice)).map(({ actionCode }) => actionCode)).toEqual(["connect_account"]);
  });

  test("held rows and cancels that wait are counted, and a cancel's line goes with its trade", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    await sync(w, connectionId, [ibkrFill("E1", { assetClass: "option" }), flexCancel("E2", "X-9")]);
    const found = await lines(w.alice);
    expect(found.map(({ actionCode, count }) => [actionCode, count]).sort()).toEqual([
      ["import_statement", 1],
      ["none", 1],
    ]);
    await sync(w, connectionId, [ibkrFill("E2", { tradeId: "T-E2", transactionId: "X-E2" })]);
    expect((await lines(w.alice)).map(({ actionCode }) => actionCode)).toEqual(["none"]);
  });

  test("F4 shows nothing of another owner", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await rejected(w, connectionId, reject("F1"));
    expect(await lines(w.bob, T0 + MINUTE)).toEqual([]);
  });

  test("F12 whatever a job ended with, a person reads one plain line", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId);
    await finish(w, held, {
      problem: {
        action: "Open https://u:canary-pw@broker.example/x?token=canary-token and look.",
        code: "rejected",
        sentence:
          "Refused at https://broker.example/v3?t=canary-token&q=1.\nTraceback (most recent call last):\n  File \"/srv/worker/sync.py\"",
        url: "https://canary-user:canary-pw@localhost:5000/login?session=canary",
      },
      reason: "rejected",
      status: "failed",
    });
    const seen = JSON.stringify([
      await lines(w.alice),
      await w.alice.query(api.tradeImport.connections.list, {}),
      await w.alice.query(api.tradeImport.jobs.list, { paginationOpts: { cursor: null, numItems: 5 } }),
    ]);
    expect(seen).not.toMatch(/canary|Traceback|srv/);
    expect(await lines(w.alice)).toMatchObject([
      { sentence: "Refused at https://broker.example/v3", url: "https://localhost:5000/login" },
    ]);
  });
});

test.each([
  ["one line stays", "One line.", "One line."],
  ["of several the first", "  First.\nSecond.", "First."],
  ["without control characters", "a\u202Eb\u0000c", "abc"],
  ["an address without secrets", "See https://u:p@h.example:1/x?k=v#f now", "See https://h.example:1/x now"],
  ["not without end", "x".repeat(1_001), `${"x".repeat(1_000)}…`],
  ["nothing", "", ""],
])("F12 shown as a sentence: %s", (_, text, shown) => {
  expect(plainSentence(text)).toBe(shown);
});

test.each([
  ["https://localhost:5000", "https://localhost:5000"],
  ["HTTPS://localhost:5000/a", "https://localhost:5000/a"],
  ["https://u:p@localhost/a?b#c", "https://localhost/a"],
  ["javascript:alert(1)", undefined],
  ["https://", undefined],
])("F12 the address «%s» is opened as %s", (text, url) => {
  expect(plainUrl(text)).toBe(url);
});

describe("rejected rows", () => {
  const rejectRows = async (user: User, args: { connectionId?: Id<"brokerageConnections">; jobId?: Id<"importJobs"> } = {}) =>
    (await user.query(api.tradeImport.inbox.rejects, { ...args, paginationOpts: { cursor: null, numItems: 500 } })).page;

  test("are read with payload and reason, of a job, a connection or all", async () => {
    const w = world();
    const first = await connect(w.alice);
    const second = await connect(w.alice);
    const job = await rejected(w, first, reject("F1"));
    await rejected(w, first, reject("F2"));
    await rejected(w, second, reject("F3"));
    const payloads = async (args: Parameters<typeof rejectRows>[1]) =>
      (await rejectRows(w.alice, args)).map(({ rawPayload }) => rawPayload);
    expect(await payloads({ jobId: job })).toEqual([`{"f":"F1"}`]);
    expect(await payloads({ connectionId: first })).toEqual([`{"f":"F2"}`, `{"f":"F1"}`]);
    expect((await payloads({})).sort()).toEqual([`{"f":"F1"}`, `{"f":"F2"}`, `{"f":"F3"}`]);
    expect(await payloads({ connectionId: second, jobId: job })).toEqual([]);
    expect((await rejectRows(w.alice))[0]).toMatchObject({ reason: "no price", rejectedAt: expect.any(Number) as number, retryAt: null });
  });

  test("are handed to the next lease once asked for, and settled by its answer", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await rejected(w, connectionId, reject("F1"), reject("F2"), reject("F3"));
    const before = await lease(w, connectionId);
    expect(before.rejects).toEqual([]);
    await finish(w, before);
    vi.setSystemTime(T0 + MINUTE);
    expect(await w.alice.mutation(api.tradeImport.jobs.retryRejects, { connectionId })).toEqual({
      marked: 3,
      more: false,
      requests: [{ connectionId, request: { result: "queued" } }],
    });
    expect(await lines(w.alice)).toMatchObject([{ actionCode: "none", count: 3 }]);
    const held = await lease(w, connectionId, "scheduled");
    expect(held.rejects).toEqual(["F1", "F2", "F3"].map((fingerprint) => ({ fingerprint, rawPayload: `{"f":"${fingerprint}"}` })));
    await ingest(w, held, 1, [execution("T1")], {
      settled: ["F1", "nobody's"],
      unsettled: [{ fingerprint: "F2", reason: "no side\nTraceback" }],
    });
    await finish(w, held);
    expect(await rows(w, "importRejects")).toMatchObject([
      { fingerprint: "F1", resolvedAt: T0 + MINUTE },
      { fingerprint: "F2", reason: "no side" },
      { fingerprint: "F3", retryAt: T0 + MINUTE },
    ]);
    // What the job did not come to is handed out again.
    const next = await lease(w, connectionId);
    expect(next.rejects.map(({ fingerprint }) => fingerprint)).toEqual(["F3"]);
  });

  test("a settled row stays settled whatever is said of it later", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await rejected(w, connectionId, reject("F1"));
    const held = await lease(w, connectionId);
    await ingest(w, held, 1, [], { settled: ["F1"] });
    await ingest(w, held, 2, [], { unsettled: [{ fingerprint: "F1", reason: "again" }] });
    expect(await rows(w, "importRejects")).toMatchObject([{ reason: "no price", resolvedAt: T0 }]);
  });

  test("two hundred are marked a call, a hundred or a mebibyte go with a lease", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const many = Array.from({ length: 250 }, (_, index) => reject(`F${String(index).padStart(3, "0")}`));
    await rejected(w, connectionId, ...many);
    const retry = async () => await w.alice.mutation(api.tradeImport.jobs.retryRejects, {});
    expect(await retry()).toMatchObject({ marked: 200, more: true });
    expect(await retry()).toMatchObject({ marked: 50, more: false });
    expect(await retry()).toEqual({ marked: 0, more: false, requests: [] });
    const held = await lease(w, connectionId);
    expect(held.rejects).toHaveLength(100);
    expect(
      await codeOf(ingest(w, held, 1, [], { settled: many.map(({ fingerprint }) => fingerprint) })),
    ).toBe("invalid_row");
    await finish(w, held);

    const large = world();
    const other = await connect(large.alice);
    const payload = "x".repeat(131_072);
    const ids = Array.from({ length: 9 }, (_, index) => `L${index}`);
    await rejected(large, other, ...ids.map((id) => reject(id, { rawPayload: payload })));
    await large.alice.mutation(api.tradeImport.jobs.retryRejects, {});
    const lent = await lease(large, other);
    expect(lent.rejects.map(({ fingerprint }) => fingerprint)).toEqual(ids.slice(0, 8));
  });

  test("of a disconnected connection are not asked for", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await rejected(w, connectionId, reject("F1"));
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId });
    expect(await codeOf(w.alice.mutation(api.tradeImport.jobs.retryRejects, { connectionId }))).toBe("conflict");
    expect(await w.alice.mutation(api.tradeImport.jobs.retryRejects, {})).toEqual({ marked: 0, more: false, requests: [] });
    expect(await claim(w, connectionId)).toMatchObject({ granted: false });
  });
});

test("held rows are read with their payload and why they are held", async () => {
  const w = world();
  const connectionId = await connectGateway(w.alice);
  await sync(w, connectionId, [
    ibkrFill("E1", { assetClass: "option", occurredAt: T0 - 5, rawPayload: "{\"a\":1}" }),
    ibkrFill("E2", { kind: "expiry", occurredAt: T0 - 4, side: undefined }),
    flexCancel("E3", "X-9", { occurredAt: T0 - 3 }),
    ibkrFill("E4"),
  ]);
  const { page } = await w.alice.query(api.tradeImport.inbox.held, { paginationOpts: { cursor: null, numItems: 9 } });
  expect(page.map(({ externalExecutionId: id, heldReason, side }) => [id, heldReason, side])).toEqual([
    ["tx:X-9", "original_not_seen", "sell"],
    ["E2", "kind_not_supported", null],
    ["E1", "asset_class_not_supported", "buy"],
  ]);
  expect(page[2]).toMatchObject({ connectionId, rawPayload: "{\"a\":1}" });
});
