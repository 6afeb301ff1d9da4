import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import { LEASE_MS } from "../../convex/tradeImport/rules/lease";
import { claim, codeOf, connect, finish, lease, rows, T0, world, type World } from "./world";

beforeEach(() => {
  vi.useFakeTimers({ now: T0, toFake: ["Date"] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
});

const press = async (w: World, connectionId: Awaited<ReturnType<typeof connect>>) =>
  await w.alice.mutation(api.tradeImport.sync.syncNow, { connectionId });

async function syncedOnce(w: World) {
  const connectionId = await connect(w.alice);
  await finish(w, await lease(w, connectionId, "scheduled"));
  return connectionId;
}

describe("a request is never lost", () => {
  test("it makes a connection due that is not", async () => {
    const w = world();
    const connectionId = await syncedOnce(w);
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
    expect(await press(w, connectionId)).toEqual({ result: "queued" });
    expect(await w.worker.query(api.tradeImport.worker.watch, {})).toMatchObject([{ requestedAt: T0 }]);
    expect(await claim(w, connectionId)).toMatchObject({ granted: true, lease: { mode: "manual" } });
  });

  test("it stays until a job has served it", async () => {
    const w = world();
    const connectionId = await syncedOnce(w);
    await press(w, connectionId);
    await lease(w, connectionId, "scheduled");
    // The worker dies; another one takes over when the lease has ended.
    vi.setSystemTime(T0 + LEASE_MS);
    const held = await lease(w, connectionId, "scheduled");
    expect(held.mode).toBe("manual");
    await finish(w, held);
    expect((await rows(w, "connectionSyncState"))[0]).not.toHaveProperty("requestedAt");
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
  });

  test.each(["cancelled", "lease_lost"] as const)("a job that gave up has not served it: %s", async (reason) => {
    const w = world();
    const connectionId = await syncedOnce(w);
    await press(w, connectionId);
    await finish(w, await lease(w, connectionId, "scheduled"), { reason, status: "failed" });
    expect(await rows(w, "connectionSyncState")).toMatchObject([{ requestedAt: T0 }]);
  });

  test("pressed while a job runs it joins, and the job's end serves it", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const held = await lease(w, connectionId, "scheduled");
    expect(await press(w, connectionId)).toEqual({ jobId: held.jobId, result: "joined" });
    expect(await rows(w, "connectionSyncState")).toMatchObject([{ requestedAt: T0 }]);
    await finish(w, held);
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
  });

  test("a joined job that dies passes it on", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    await finish(w, await lease(w, connectionId, "scheduled"));
    vi.setSystemTime(T0 + 60_000);
    await lease(w, connectionId, "manual");
    await press(w, connectionId);
    vi.setSystemTime(T0 + 60_000 + LEASE_MS);
    expect(await claim(w, connectionId)).toMatchObject({ granted: true, lease: { mode: "manual" } });
  });
});

describe("E8 pressed many times it is one job", () => {
  test("before a worker comes", async () => {
    const w = world();
    const connectionId = await syncedOnce(w);
    for (let presses = 0; presses < 50; presses += 1) {
      expect(await press(w, connectionId)).toEqual({ result: "queued" });
      vi.setSystemTime(Date.now() + 100);
    }
    await finish(w, await lease(w, connectionId, "scheduled"));
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
  });

  test("before, while and after the job", async () => {
    const w = world();
    const connectionId = await syncedOnce(w);
    for (let presses = 0; presses < 7; presses += 1) await press(w, connectionId);
    const held = await lease(w, connectionId, "scheduled");
    for (let presses = 0; presses < 7; presses += 1) await press(w, connectionId);
    await finish(w, held);
    for (let presses = 0; presses < 6; presses += 1) {
      expect(await press(w, connectionId)).toEqual({ result: "limited", until: T0 + 10_000 });
    }
    expect(await claim(w, connectionId)).toEqual({ granted: false, reason: "not_due" });
    expect(await rows(w, "importJobs")).toHaveLength(2);
    vi.setSystemTime(T0 + 10_000);
    expect(await press(w, connectionId)).toEqual({ result: "queued" });
  });
});

test("C8 while the broker wants no calls, a request is refused until then", async () => {
  const w = world();
  const connectionId = await connect(w.alice);
  const problem = { action: "", code: "rate_limited", sentence: "Kraken asks for a pause." };
  await finish(w, await lease(w, connectionId), { problem, reason: "rate_limited", status: "failed" }, 900_000);
  vi.setSystemTime(T0 + 60_000);
  expect(await press(w, connectionId)).toEqual({ result: "limited", until: T0 + 900_000 });
  vi.setSystemTime(T0 + 900_000);
  expect(await press(w, connectionId)).toEqual({ result: "queued" });
});

test("a disconnected connection cannot be synced, and syncAll leaves it out", async () => {
  const w = world();
  const gone = await connect(w.alice);
  const there = await syncedOnce(w);
  vi.setSystemTime(T0 + 60_000);
  await w.alice.mutation(api.tradeImport.connections.disconnect, { connectionId: gone });
  expect(await codeOf(press(w, gone))).toBe("conflict");
  expect(await w.alice.mutation(api.tradeImport.sync.syncAll, {})).toEqual([
    { connectionId: there, request: { result: "queued" } },
  ]);
  expect(await w.bob.mutation(api.tradeImport.sync.syncAll, {})).toEqual([]);
});

describe("notifyWorker", () => {
  const scheduled = async (w: World) =>
    await w.t.run(async (ctx) => await ctx.db.system.query("_scheduled_functions").collect());

  test("is scheduled once for a row of presses, and only where there is somebody to tell", async () => {
    const w = world();
    const connectionId = await syncedOnce(w);
    await press(w, connectionId);
    expect(await scheduled(w)).toHaveLength(0);

    const other = world();
    const otherId = await syncedOnce(other);
    vi.stubGlobal("fetch", async () => await Promise.resolve(new Response("{}", { status: 202 })));
    vi.stubEnv("TRADE_SYNC_URL", "https://worker.example/");
    vi.stubEnv("TRADE_SYNC_SECRET", "shared");
    for (let presses = 0; presses < 20; presses += 1) await press(other, otherId);
    expect(await scheduled(other)).toHaveLength(1);
    await other.t.finishInProgressScheduledFunctions();
  });

  test("posts a body signed with the shared secret", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const posts: { init: RequestInit; url: string }[] = [];
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      posts.push({ init, url });
      return await Promise.resolve(new Response("{}", { status: 202 }));
    });
    vi.stubEnv("TRADE_SYNC_URL", "https://worker.example/");
    vi.stubEnv("TRADE_SYNC_SECRET", "shared");
    await w.t.action(internal.tradeImport.sync.notifyWorker, { connectionId });
    const [post] = posts;
    expect(post).toMatchObject({
      init: { body: `{"connectionId":"${connectionId}"}`, method: "POST", redirect: "error" },
      url: "https://worker.example/v1/sync",
    });
    const headers = new Headers(post?.init.headers);
    const timestamp = headers.get("X-Trade-Sync-Timestamp");
    expect(timestamp).toBe(String(T0 / 1000));
    const key = await crypto.subtle.importKey(
      "raw",
      new TextEncoder().encode("shared"),
      { hash: "SHA-256", name: "HMAC" },
      false,
      ["verify"],
    );
    const [version, hex = ""] = (headers.get("X-Trade-Sync-Signature") ?? "").split("=");
    expect(version).toBe("v1");
    const signature = Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
    const signed = new TextEncoder().encode(`${timestamp}.{"connectionId":"${connectionId}"}`);
    expect(await crypto.subtle.verify("HMAC", key, signature, signed)).toBe(true);
  });

  test.each([
    ["no address", "", "shared"],
    ["no secret", "https://worker.example", ""],
  ])("without %s it stays silent", async (_, url, secret) => {
    const w = world();
    const connectionId = await connect(w.alice);
    const fetched = vi.fn();
    vi.stubGlobal("fetch", fetched);
    vi.stubEnv("TRADE_SYNC_URL", url);
    vi.stubEnv("TRADE_SYNC_SECRET", secret);
    await w.t.action(internal.tradeImport.sync.notifyWorker, { connectionId });
    expect(fetched).not.toHaveBeenCalled();
  });

  test("a worker that cannot be reached changes nothing", async () => {
    const w = world();
    const connectionId = await connect(w.alice);
    const warn = vi.spyOn(console, "warn").mockReturnValue(undefined);
    vi.stubGlobal("fetch", async () => await Promise.reject(new TypeError("refused")));
    vi.stubEnv("TRADE_SYNC_URL", "https://worker.example");
    vi.stubEnv("TRADE_SYNC_SECRET", "shared");
    expect(await w.t.action(internal.tradeImport.sync.notifyWorker, { connectionId })).toBeNull();
    expect(warn).toHaveBeenCalledOnce();
    warn.mockRestore();
  });
});
