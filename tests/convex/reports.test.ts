// Raw Flex reports: kept in parts and in order, once, for a while; and what reading one again may change.
import type { FunctionArgs } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id } from "../../convex/_generated/dataModel";
import { MAX_KEPT } from "../../convex/tradeImport/reports";
import type { Execution } from "../../convex/tradeImport/validators";
import {
  bind,
  codeOf,
  connectGateway,
  finish,
  flexCancel,
  flexFill,
  IBKR_ACCOUNT,
  ingest,
  lease,
  plan,
  rows,
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

const PART = 512 * 1024;
const MINUTE = 60_000;

type Held = Awaited<ReturnType<typeof lease>>;
type Report = { bytes?: string; digest?: string; parts?: number; size?: number; source?: Execution["source"] };

const bytesOf = (text: string): ArrayBuffer => new TextEncoder().encode(text).buffer;
const textOf = (data: ArrayBuffer | null): string | null => data && new TextDecoder().decode(data);

async function begin(w: World, { fence, jobId }: Held, report: Report = {}) {
  return await w.worker.mutation(api.tradeImport.reports.begin, {
    bytes: "these bytes",
    digest: "digest",
    fence,
    jobId,
    parts: 1,
    size: 1000,
    source: "ibkr_flex_activity",
    ...report,
  });
}

async function keep(w: World, { fence, jobId }: Held, reportId: Id<"importReports">, part: number, data = bytesOf("x")) {
  await w.worker.mutation(api.tradeImport.reports.keep, { data, fence, jobId, part, reportId });
}

/** A report begun and all of its parts kept. */
async function keepWhole(w: World, held: Held, report: Report = {}, data?: ArrayBuffer) {
  const { partsKept, parts, reportId } = await begin(w, held, report);
  for (let part = partsKept; part < parts; part += 1) await keep(w, held, reportId, part, data);
  return reportId;
}

const held = async (w: World, connectionId: string) => await lease(w, connectionId, "manual", IBKR_ACCOUNT);
const ofJob = async (w: World, jobId: string) => await w.worker.query(api.tradeImport.reports.ofJob, { jobId });

async function claimFiles(w: World, connectionId: string, replays?: Id<"importJobs">, workerId = "w1") {
  const args = { connectionId, fromFiles: true, mode: "manual" as const, replays, workerId };
  const claimed = await w.worker.mutation(api.tradeImport.worker.claim, args);
  if (!claimed.granted) throw new Error(`not granted: ${claimed.reason}`);
  await bind(w, claimed.lease, IBKR_ACCOUNT);
  return claimed.lease;
}

async function compare(w: World, jobId: Id<"importJobs">, executions: Execution[]) {
  return await w.worker.query(api.tradeImport.reports.compare, { executions, jobId });
}

async function only<Item>(items: Promise<Item[]>): Promise<Item> {
  const [item, ...others] = await items;
  if (item === undefined || others.length > 0) throw new Error(`one was expected, not ${others.length + 1}`);
  return item;
}

describe("keeping", () => {
  test("a report comes back part by part as it was sent, and belongs to its job", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const job = await held(w, connectionId);
    const room = await begin(w, job, { digest: "d1", parts: 2, size: 77 });
    expect(room).toMatchObject({ parts: 2, partsKept: 0 });
    await keep(w, job, room.reportId, 0, bytesOf("first"));
    expect(await ofJob(w, job.jobId)).toMatchObject({ dropped: 1, reports: [] });
    await keep(w, job, room.reportId, 1, bytesOf("second"));
    expect(await ofJob(w, job.jobId)).toMatchObject({
      accountRef: IBKR_ACCOUNT,
      connectionId,
      dropped: 0,
      importFrom: null,
      kind: "ibkr_gateway",
      reports: [{ digest: "d1", parts: 2, reportId: room.reportId, size: 77, source: "ibkr_flex_activity" }],
    });
    const parts = [0, 1, 2].map(async (part) =>
      textOf(await w.worker.query(api.tradeImport.reports.part, { part, reportId: room.reportId })),
    );
    expect(await Promise.all(parts)).toEqual(["first", "second", null]);
  });

  test("D2 what is sent again is not kept again, and nothing is replaced", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    const first = await begin(w, job, { parts: 2 });
    expect(await begin(w, job, { parts: 2 })).toEqual(first);
    await keep(w, job, first.reportId, 0, bytesOf("first"));
    await keep(w, job, first.reportId, 0, bytesOf("a ghost"));
    expect(await begin(w, job, { parts: 2 })).toEqual({ ...first, partsKept: 1 });
    expect(await rows(w, "importReports")).toHaveLength(1);
    expect(textOf((await only(rows(w, "importReportParts"))).data)).toBe("first");
  });

  test("parts come in order, and no more of them than were announced", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    const { reportId } = await begin(w, job, { parts: 2 });
    expect(await codeOf(keep(w, job, reportId, 1))).toBe("invalid_row");
    await keep(w, job, reportId, 0);
    await keep(w, job, reportId, 1);
    expect(await codeOf(keep(w, job, reportId, 2))).toBe("invalid_row");
    expect(await rows(w, "importReportParts")).toHaveLength(2);
  });

  test("a part of half a megabyte fits into a document, a larger one is refused", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    const { reportId } = await begin(w, job, { parts: 2 });
    await keep(w, job, reportId, 0, new ArrayBuffer(PART));
    expect(await codeOf(keep(w, job, reportId, 1, new ArrayBuffer(1024 * 1024)))).toBe("invalid_row");
  });

  test.each([-1, 0.5, 10_000])("a report has no %d parts", async (parts) => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    expect(await codeOf(begin(w, job, { parts }))).toBe("invalid_row");
  });

  test("a report that is too large is noted with no part", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    const { reportId } = await begin(w, job, { parts: 0, size: 400_000_000 });
    expect(await ofJob(w, job.jobId)).toMatchObject({ dropped: 0, reports: [{ parts: 0, size: 400_000_000 }] });
    expect(await codeOf(keep(w, job, reportId, 0))).toBe("invalid_row");
  });

  test("the same content is kept once and belongs to both jobs", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const first = await held(w, connectionId);
    const reportId = await keepWhole(w, first, { parts: 2 });
    await finish(w, first);
    const second = await held(w, connectionId);
    // Another compression of the same content is of no interest while the first is whole.
    expect(await begin(w, second, { bytes: "other bytes", parts: 3 })).toEqual({ parts: 2, partsKept: 2, reportId });
    expect(await rows(w, "importReportParts")).toHaveLength(2);
    for (const { jobId } of [first, second]) expect(await ofJob(w, jobId)).toMatchObject({ reports: [{ reportId }] });
  });

  test("E2 the next job goes on with the parts of the same bytes, and begins anew with those of others", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const died = await held(w, connectionId);
    const { reportId } = await begin(w, died, { parts: 3 });
    await keep(w, died, reportId, 0, bytesOf("of the first"));
    await finish(w, died);
    const same = await held(w, connectionId);
    expect(await begin(w, same, { parts: 3 })).toEqual({ parts: 3, partsKept: 1, reportId });
    await finish(w, same);
    const other = await held(w, connectionId);
    const again = await begin(w, other, { bytes: "made a minute later", parts: 2 });
    expect(again).toMatchObject({ parts: 2, partsKept: 0 });
    expect(again.reportId).not.toBe(reportId);
    await keep(w, other, again.reportId, 0, bytesOf("of the other"));
    expect(await rows(w, "importReports")).toHaveLength(1);
    expect((await rows(w, "importReportParts")).map(({ data }) => textOf(data))).toEqual(["of the other"]);
  });

  test("another connection's report is not found, and equal content of two connections is kept twice", async () => {
    const w = world();
    const alices = await held(w, await connectGateway(w.alice));
    const bobs = await held(w, await connectGateway(w.bob));
    const { reportId } = await begin(w, alices, { parts: 2 });
    expect(await codeOf(keep(w, bobs, reportId, 0))).toBe("not_found");
    expect((await begin(w, bobs, { parts: 2 })).reportId).not.toBe(reportId);
    expect(await rows(w, "importReportParts")).toHaveLength(0);
  });

  test("E4 a job that is over keeps nothing more", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    const { reportId } = await begin(w, job, { parts: 2 });
    await finish(w, job);
    expect(await codeOf(keep(w, job, reportId, 0))).toBe("lease_lost");
    expect(await codeOf(begin(w, job, { digest: "another" }))).toBe("lease_lost");
  });

  test("the thirty-first of a kind drops the oldest with its parts, other kinds and connections stay", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const others = await held(w, await connectGateway(w.bob));
    const bobs = await keepWhole(w, others, { digest: "bob's" });
    const oldest = await held(w, connectionId);
    const dropped = await keepWhole(w, oldest, { digest: "0", parts: 2 });
    const confirmed = await keepWhole(w, oldest, { digest: "c", source: "ibkr_flex_confirm" });
    await finish(w, oldest);
    const job = await held(w, connectionId);
    for (let number = 1; number < 30; number += 1) await keepWhole(w, job, { digest: String(number) });
    expect(await ofJob(w, oldest.jobId)).toMatchObject({ dropped: 0 });
    // Seeing one of them again makes no room that is not needed.
    await begin(w, job, { digest: "7" });
    expect(await ofJob(w, oldest.jobId)).toMatchObject({ dropped: 0 });
    await keepWhole(w, job, { digest: "30" });
    expect(await ofJob(w, oldest.jobId)).toMatchObject({ dropped: 1, reports: [{ reportId: confirmed }] });
    const reports = await rows(w, "importReports");
    expect(reports.filter(({ source }) => source === "ibkr_flex_activity")).toHaveLength(MAX_KEPT + 1);
    const ids = reports.map(({ _id }) => _id);
    expect(ids).toContain(bobs);
    expect(ids).not.toContain(dropped);
    expect((await rows(w, "importReportParts")).filter(({ reportId }) => reportId === dropped)).toEqual([]);
  });

  test("the largest reports that are kept can be dropped again within one transaction", async () => {
    const w = world();
    const job = await held(w, await connectGateway(w.alice));
    let parts = 40;
    while (parts > 1 && (await begin(w, job, { digest: `try ${parts}`, parts }).catch(() => null)) === null) parts -= 1;
    for (let number = 0; number < 2; number += 1) {
      await keepWhole(w, job, { digest: `large ${number}`, parts }, new ArrayBuffer(PART));
    }
    const before = (await rows(w, "importReports")).length;
    for (let number = before; number < MAX_KEPT + 2; number += 1) {
      expect(await begin(w, job, { digest: `small ${number}` })).toMatchObject({ partsKept: 0 });
    }
    expect(await rows(w, "importReports")).toHaveLength(MAX_KEPT);
    await begin(w, job, { digest: "one more" });
    expect(await rows(w, "importReportParts")).toEqual([]);
  }, 60_000);
});

describe("reading again", () => {
  /** A job that stored these rows, and is over. */
  async function jobOf(w: World, connectionId: string, executions: Execution[]) {
    const job = await held(w, connectionId);
    await ingest(w, job, 1, executions);
    vi.setSystemTime(Date.now() + 1000);
    await finish(w, job);
    vi.setSystemTime(Date.now() + MINUTE);
    return job;
  }

  async function replay(w: World, connectionId: string, replays: Id<"importJobs">, executions: Execution[]) {
    const job = await claimFiles(w, connectionId, replays);
    const fates = await ingest(w, job, 1, executions);
    await finish(w, job);
    vi.setSystemTime(Date.now() + MINUTE);
    return { fates, jobId: job.jobId };
  }

  const everything = async (w: World) => [
    await rows(w, "externalExecutions"),
    await rows(w, "trades"),
    await rows(w, "importJobs"),
    await rows(w, "connectionSyncState"),
  ];

  test("the difference is what storing makes of it, fact by fact, and looking changes nothing", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const wrong = flexFill("E1", { price: "1.92", side: "sell" });
    const job = await jobOf(w, connectionId, [wrong, flexFill("E2")]);
    const mended = [flexFill("E1"), flexFill("E2"), flexFill("E3")];
    const before = await everything(w);
    expect(await compare(w, job.jobId, mended)).toEqual([
      {
        changes: [
          { after: "buy", before: "sell", fact: "side" },
          { after: "192.26", before: "1.92", fact: "price" },
        ],
        fate: "changed",
      },
      { changes: [], fate: "known" },
      { changes: [], fate: "new" },
    ]);
    expect(await everything(w)).toEqual(before);
    expect((await replay(w, connectionId, job.jobId, mended)).fates).toMatchObject({ inserted: 1, known: 1, updated: 1 });
    expect((await compare(w, job.jobId, mended)).map(({ fate }) => fate)).toEqual(["known", "known", "known"]);
    expect((await replay(w, connectionId, job.jobId, mended)).fates).toMatchObject({ inserted: 0, known: 3, updated: 0 });
  });

  test("a fact that is taken back is shown as nothing", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const job = await jobOf(w, connectionId, [flexFill("E1", { openClose: "open" })]);
    expect(await compare(w, job.jobId, [flexFill("E1", { conid: "7" })])).toEqual([
      {
        changes: [
          { after: "7", before: "265598", fact: "conid" },
          { after: null, before: "open", fact: "openClose" },
        ],
        fate: "changed",
      },
    ]);
  });

  test("a cancel is compared as it is stored", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const both = [flexFill("E1"), flexCancel("E1", "9")];
    const job = await jobOf(w, connectionId, both);
    expect((await compare(w, job.jobId, both)).map(({ fate }) => fate)).toEqual(["known", "known"]);
  });

  test("what the broker said later stands, however often and by whatever job the old report is read again", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const [old, late] = [flexFill("E1", { fee: "1" }), flexFill("E1", { fee: "2" })];
    const first = await jobOf(w, connectionId, [old]);
    await jobOf(w, connectionId, [late]);
    expect(await compare(w, first.jobId, [old])).toEqual([{ changes: [], fate: "outdated" }]);
    const again = await replay(w, connectionId, first.jobId, [old]);
    expect(again.fates).toMatchObject({ known: 1, updated: 0 });
    // The replay received the report too; what it says is as old as before.
    expect(await compare(w, again.jobId, [old])).toEqual([{ changes: [], fate: "outdated" }]);
    expect((await replay(w, connectionId, again.jobId, [old])).fates).toMatchObject({ known: 1, updated: 0 });
    expect(await only(rows(w, "externalExecutions"))).toMatchObject({ fee: "2" });
  });

  test("what a replay puts right is no later word than its report's", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const first = await jobOf(w, connectionId, [flexFill("E1", { price: "1" })]);
    const second = await jobOf(w, connectionId, [flexFill("E2")]);
    await replay(w, connectionId, first.jobId, [flexFill("E1", { price: "2" })]);
    // The second job's report held the row too, and it is the later one.
    expect(await compare(w, second.jobId, [flexFill("E1", { price: "3" })])).toMatchObject([{ fate: "changed" }]);
    await replay(w, connectionId, second.jobId, [flexFill("E1", { price: "3" })]);
    expect(await compare(w, first.jobId, [flexFill("E1", { price: "2" })])).toMatchObject([{ fate: "outdated" }]);
  });

  test("I3 a reviewed trade keeps its plan and its state, gets the right price and says that it changed", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const job = await jobOf(w, connectionId, [flexFill("E1", { price: "1.92" })]);
    const tradePlanId = await plan(w, { instrumentSymbol: "AAPL" });
    const { _id: tradeId } = await only(rows(w, "trades"));
    await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [tradeId], tradePlanId });
    await w.alice.mutation(api.trades.updateTrade, { notes: "mine", tradeId });
    await replay(w, connectionId, job.jobId, [flexFill("E1")]);
    const after = await only(rows(w, "trades"));
    expect(after).toMatchObject({ inboxStatus: "reviewed", notes: "mine", price: 192.26, tradePlanId });
    expect(after.importFlags).toContain("changed_by_broker");
  });

  test("at most 500 rows are compared at once, and only those of a job that is known", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const job = await jobOf(w, connectionId, [flexFill("E0")]);
    const many = Array.from({ length: 501 }, (_, index) => flexFill(`E${index}`));
    expect(await codeOf(compare(w, job.jobId, many))).toBe("invalid_row");
    expect(await compare(w, job.jobId, many.slice(0, 500))).toHaveLength(500);
    expect(await ofJob(w, "no job")).toBeNull();
    expect(await ofJob(w, connectionId)).toBeNull();
  });

  test("a job that reads files leaves the connection as it was, and the login with whoever keeps it", async () => {
    const w = world();
    const connectionId = await connectGateway(w.alice);
    const blocked = await held(w, connectionId);
    await finish(w, blocked, {
      problem: { action: "log_in", code: "ibkr_login_needed", sentence: "Log in." },
      reason: "auth",
      status: "blocked_reauth",
    });
    vi.setSystemTime(T0 + MINUTE);
    await w.alice.mutation(api.tradeImport.sync.syncNow, { connectionId });
    const [connection, state] = [await only(rows(w, "brokerageConnections")), await only(rows(w, "connectionSyncState"))];
    expect(state.requestedAt).toBe(T0 + MINUTE);
    vi.setSystemTime(T0 + 2 * MINUTE);
    for (const replays of [undefined, blocked.jobId]) {
      const files = await claimFiles(w, connectionId, replays, "a command");
      await ingest(w, files, 1, [flexFill("E1")]);
      await finish(w, files);
      const { fence, ...after } = await only(rows(w, "connectionSyncState"));
      expect({ ...after, fence: state.fence }).toEqual(state);
      expect(fence).toBe(files.fence);
      expect(await only(rows(w, "brokerageConnections"))).toEqual(connection);
    }
    expect(state).toMatchObject({ keptBy: "w1", reason: "auth" });
    expect(connection.status).toBe("needs_reauth");
    // The request is served by the next job that asks the broker.
    await finish(w, await held(w, connectionId));
    expect((await only(rows(w, "connectionSyncState"))).requestedAt).toBeUndefined();
  });
});

describe("C10 the end of a token", () => {
  const TOKEN = "123456789012345678901234";
  const ENDS = T0 + 30 * 24 * 60 * MINUTE;
  type Auth = Extract<FunctionArgs<typeof api.tradeImport.connections.create>["auth"], { kind: "ibkr_flex" }>;

  const auth = (changes: Partial<Auth> = {}): Auth => ({
    activityQueryId: "123456",
    kind: "ibkr_flex",
    token: TOKEN,
    tokenEndsAt: ENDS,
    ...changes,
  });
  const create = async (user: User, given: Auth) =>
    await user.mutation(api.tradeImport.connections.create, { accountRef: IBKR_ACCOUNT, auth: given, kind: "ibkr_flex" });
  const listed = async (user: User) => await only(user.query(api.tradeImport.connections.list, {}));

  test("goes in with the credentials and comes out alone", async () => {
    const w = world();
    const connectionId = await create(w.alice, auth());
    const view = await listed(w.alice);
    expect(view.credentialsEndAt).toBe(ENDS);
    expect(JSON.stringify(view)).not.toMatch(/token/i);
    expect(JSON.stringify(view)).not.toContain(TOKEN);
    const update = async (given: Auth) =>
      await w.alice.mutation(api.tradeImport.connections.updateCredentials, { auth: given, connectionId });
    await update(auth({ token: `${TOKEN.slice(1)}9`, tokenEndsAt: ENDS + 1 }));
    expect((await listed(w.alice)).credentialsEndAt).toBe(ENDS + 1);
    // The end of the old token is not that of the new one.
    await update(auth({ tokenEndsAt: undefined }));
    expect((await listed(w.alice)).credentialsEndAt).toBeNull();
    await update(auth());
    await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId });
    expect((await listed(w.alice)).credentialsEndAt).toBeNull();
  });

  test("reaches the worker", async () => {
    const w = world();
    const granted = await held(w, await create(w.alice, auth()));
    expect(granted.connection.auth).toMatchObject({ tokenEndsAt: ENDS });
  });

  test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])("%d is no date", async (tokenEndsAt) => {
    const w = world();
    expect(await codeOf(create(w.alice, auth({ tokenEndsAt })))).toBe("invalid_argument");
    const connectionId = await create(w.alice, auth());
    const given = { auth: auth({ tokenEndsAt }), connectionId };
    expect(await codeOf(w.alice.mutation(api.tradeImport.connections.updateCredentials, given))).toBe("invalid_argument");
    expect((await listed(w.alice)).credentialsEndAt).toBe(ENDS);
  });

  test("other credentials have none", async () => {
    const w = world();
    await connectGateway(w.alice);
    expect((await listed(w.alice)).credentialsEndAt).toBeNull();
  });
});
