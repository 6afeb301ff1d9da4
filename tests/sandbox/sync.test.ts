import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { ConvexError } from "convex/values";
import { randomUUID } from "node:crypto";
import { generateKeyPair } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { api } from "./fixture-convex/_generated/api";
import { createRobot, robotToken, TestServer, until, type Robot } from "./server";

let robot: Robot;
let server: TestServer;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  robot = await createRobot();
  server = await TestServer.start(robot);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.control("DELETE", "faults");
});
afterEach(async () => {
  for (const client of open.splice(0)) await client.close();
});

function connect(address = server.address): ConvexClient {
  const client = new ConvexClient(address, {
    webSocketConstructor: WebSocket as unknown as typeof globalThis.WebSocket,
    logger: false,
  });
  open.push(client);
  return client;
}

/** Every result that a subscription delivers. */
function follow(client: ConvexClient, author: string): string[][] {
  const seen: string[][] = [];
  client.onUpdate(api.notes.byAuthor, { author }, (texts) => seen.push(texts));
  return seen;
}

describe("convex/browser", () => {
  test("ConvexHttpClient: query, mutation, action, consistent query, errors, identity", async () => {
    const client = new ConvexHttpClient(server.address, { logger: false });
    await client.mutation(api.notes.add, { author: "http", text: "one" });
    expect(await client.query(api.notes.byAuthor, { author: "http" })).toEqual(["one"]);
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- clients in the field still use it
    expect(await client.consistentQuery(api.notes.byAuthor, { author: "http" })).toEqual(["one"]);
    expect(await client.action(api.notes.shout, { text: "loud" })).toBe("LOUD");
    const failed = await client.mutation(api.notes.fail, { data: { code: "c" } }).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(ConvexError);
    expect((failed as ConvexError<{ code: string }>).data).toEqual({ code: "c" });
    await expect(client.query(api.notes.crash, {})).rejects.toThrow(/Server Error/);
    client.setAuth(await server.token("ann"));
    expect(await client.query(api.notes.onlyForUsers, {})).toBe("ann");
    client.setAuth("forged");
    await expect(client.query(api.notes.onlyForUsers, {})).rejects.toThrow(/InvalidAuthHeader/);
  });

  test("ConvexClient: calls, and a subscription that updates", async () => {
    const client = connect();
    const seen = follow(client, "ws");
    await until(() => seen.length === 1, "the first result");
    await client.mutation(api.notes.add, { author: "ws", text: "one" });
    // A mutation resolves only when its effects are visible in the client's queries.
    expect(seen.at(-1)).toEqual(["one"]);
    expect(await client.query(api.notes.byAuthor, { author: "ws" })).toEqual(["one"]);
    expect(await client.action(api.notes.shout, { text: "loud" })).toBe("LOUD");
    const failed = await client.mutation(api.notes.fail, { data: { code: "c" } }).catch((error: unknown) => error);
    expect((failed as ConvexError<{ code: string }>).data).toEqual({ code: "c" });
    await expect(client.mutation(api.notes.lies, {})).rejects.toThrow(/Server Error/);
  });

  test("many connections see every commit, whoever made it", async () => {
    const watchers = Array.from({ length: 5 }, () => follow(connect(), "crowd"));
    await until(() => watchers.every((seen) => seen.length === 1), "the first results");
    const texts = Array.from({ length: 40 }, (_, i) => String(i));
    await Promise.all(texts.map((text) => server.call("mutation", { path: "notes:add", args: { author: "crowd", text } })));
    await until(() => watchers.every((seen) => seen.at(-1)?.length === 40), "all forty");
    // Results only ever grow: no transition went back in time.
    for (const seen of watchers) {
      const sizes = seen.map(({ length }) => length);
      expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
    }
  });

  test("a user's token is verified; a refused one leaves the client signed out", async () => {
    const stranger = await generateKeyPair("ES256");
    const tokens = {
      none: null,
      forged: await robotToken(stranger.privateKey),
      expired: await server.token("ann", { expiresInSeconds: -60 }),
      "for another audience": await server.token("ann", { audience: "other" }),
      unsigned: `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(
        JSON.stringify({ iss: "https://robot.example", aud: "fixture", sub: "robot", exp: 4e9, iat: 1 }),
      ).toString("base64url")}.`,
    };
    for (const [which, token] of Object.entries(tokens)) {
      const client = connect();
      const states: boolean[] = [];
      client.setAuth(
        () => Promise.resolve(token),
        (isAuthenticated) => states.push(isAuthenticated),
      );
      await until(() => states.length > 0, `an answer for the token: ${which}`, 20);
      expect([which, states.at(-1)]).toEqual([which, false]);
      expect(await client.query(api.notes.whoAmI, {})).toBeNull();
    }
    const client = connect();
    client.setAuth(() => server.token("ann"));
    expect(await client.query(api.notes.onlyForUsers, {})).toBe("ann");
  });

  test("a connection lost around a mutation runs it exactly once", async () => {
    for (const kind of ["die_before_commit", "die_after_commit", "die_before_transition"]) {
      const client = connect();
      await server.fault({ function: "notes:add", kind });
      await client.mutation(api.notes.add, { author: "once", text: kind });
    }
    const { body } = await server.call("query", { path: "notes:byAuthor", args: { author: "once" } });
    expect(body.value).toEqual(["die_before_commit", "die_after_commit", "die_before_transition"]);
  });

  test("subscriptions go on after the server was replaced on the same port", async () => {
    const first = await TestServer.start(robot);
    const client = connect(first.address);
    const seen = follow(client, "restart");
    await client.mutation(api.notes.add, { author: "restart", text: "old" });
    await until(() => seen.at(-1)?.[0] === "old", "the first server's note");
    await first.stop();
    const second = await TestServer.start(robot, "--port", new URL(first.address).port);
    try {
      await until(() => seen.at(-1)?.length === 0, "the empty second server", 20);
      await client.mutation(api.notes.add, { author: "restart", text: "new" });
      expect(seen.at(-1)).toEqual(["new"]);
    } finally {
      await second.stop();
    }
  });
});

test("only queries whose documents changed run again", async () => {
  const client = connect();
  const seen = follow(client, "quiet");
  const top: string[][] = [];
  client.onUpdate(api.notes.topTwo, {}, (texts) => top.push(texts));
  await until(() => seen.length === 1 && top.length === 1, "the first results");
  const reruns = async () => (await server.control("GET", "calls?cause=subscription")) as Record<string, number>;
  await server.control("DELETE", "calls");

  // Another table, another index range, a row behind the two that were taken.
  await client.mutation(api.notes.pulse, {});
  await client.mutation(api.notes.add, { author: "louder", text: "first", rank: 10 });
  await client.mutation(api.notes.add, { author: "louder", text: "second", rank: 9 });
  await client.mutation(api.notes.add, { author: "louder", text: "third", rank: 8 });
  expect(await reruns()).toEqual({ "notes:topTwo": 2 });
  expect(top.at(-1)).toEqual(["first", "second"]);

  await client.mutation(api.notes.add, { author: "quiet", text: "now" });
  expect(await reruns()).toEqual({ "notes:topTwo": 2, "notes:byAuthor": 1 });
  expect(seen.at(-1)).toEqual(["now"]);
});

/** A client that speaks the protocol by hand. */
class RawClient {
  readonly received: Record<string, unknown>[] = [];
  readonly closed: Promise<number>;

  private constructor(private readonly socket: WebSocket) {
    socket.on("message", (data) => {
      const message = JSON.parse((data as Buffer).toString("utf8")) as Record<string, unknown>;
      if (message.type !== "Ping") this.received.push(message);
    });
    this.closed = new Promise((resolve) => socket.on("close", resolve));
  }

  static async connect(path = "/api/sync", sessionId = randomUUID(), extra = {}): Promise<RawClient> {
    const socket = new WebSocket(server.address.replace("http", "ws") + path);
    const client = new RawClient(socket);
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    open.push({ close: () => socket.terminate() });
    client.send({ type: "Connect", sessionId, connectionCount: 0, lastCloseReason: null, clientTs: 0, ...extra });
    return client;
  }

  send(message: unknown): void {
    this.socket.send(JSON.stringify(message));
  }

  mutate(requestId: number, udfPath: string, args: unknown): void {
    this.send({ type: "Mutation", requestId, udfPath, args: [args] });
  }

  subscribe(baseVersion: number, queryId: number, udfPath: string, args: unknown, journal?: unknown): void {
    const modifications = [{ type: "Add", queryId, udfPath, args: [args], journal }];
    this.send({ type: "ModifyQuerySet", baseVersion, newVersion: baseVersion + 1, modifications });
  }

  async messages(count: number): Promise<Record<string, unknown>[]> {
    await until(() => this.received.length >= count, `${String(count)} messages: ${JSON.stringify(this.received)}`);
    return this.received;
  }

  get transitions() {
    return this.received.filter(({ type }) => type === "Transition") as unknown as {
      startVersion: { querySet: number; identity: number; ts: string };
      endVersion: { querySet: number; identity: number; ts: string };
      modifications: { type: string; queryId: number; value?: unknown; journal?: unknown }[];
    }[];
  }
}

describe("the protocol", () => {
  test("every transition starts where the one before it ended, and time does not fall", async () => {
    const client = await RawClient.connect("/api/1.48.0/sync");
    client.subscribe(0, 0, "notes.js:byAuthor", { author: "raw" });
    client.mutate(0, "notes:add", { author: "raw", text: "a" });
    client.send({ type: "Authenticate", baseVersion: 0, tokenType: "User", value: await robot.token() });
    client.mutate(1, "notes:add", { author: "raw", text: "b" });
    client.send({ type: "ModifyQuerySet", baseVersion: 1, newVersion: 2, modifications: [{ type: "Remove", queryId: 0 }] });
    await until(() => client.transitions.at(-1)?.endVersion.querySet === 2, "the last version");
    let version: unknown = { querySet: 0, identity: 0, ts: "AAAAAAAAAAA=" };
    let ts = 0n;
    for (const { startVersion, endVersion } of client.transitions) {
      expect(startVersion).toEqual(version);
      version = endVersion;
      const now = Buffer.from(endVersion.ts, "base64").readBigUInt64LE();
      expect(now).toBeGreaterThanOrEqual(ts);
      ts = now;
    }
    expect(client.transitions.at(-1)?.endVersion).toMatchObject({ querySet: 2, identity: 1 });
    expect(client.transitions.flatMap(({ modifications }) => modifications).at(-1)).toEqual({ type: "QueryRemoved", queryId: 0 });
  });

  test("a transition follows every mutation's answer, success or failure", async () => {
    const client = await RawClient.connect();
    client.mutate(0, "notes:pulse", {});
    let [response, transition] = await client.messages(2);
    expect(response).toMatchObject({ type: "MutationResponse", requestId: 0, success: true, result: null });
    expect(transition).toMatchObject({ type: "Transition", modifications: [] });
    const ts = (encoded: unknown) => Buffer.from(encoded as string, "base64").readBigUInt64LE();
    expect(ts(client.transitions[0]?.endVersion.ts)).toBeGreaterThanOrEqual(ts(response?.ts));
    client.mutate(1, "notes:fail", { data: "d" });
    [, , response, transition] = await client.messages(4);
    expect(response).toMatchObject({ type: "MutationResponse", requestId: 1, success: false, errorData: "d" });
    expect(transition).toMatchObject({ type: "Transition" });
  });

  test("a mutation sent again under the same session and number is answered, not repeated", async () => {
    const sessionId = randomUUID();
    const first = await RawClient.connect("/api/sync", sessionId);
    first.mutate(7, "notes:add", { author: "again", text: "x" });
    const [original] = await first.messages(1);
    const second = await RawClient.connect("/api/sync", sessionId);
    second.mutate(7, "notes:add", { author: "again", text: "x" });
    const [repeated] = await second.messages(1);
    expect(repeated).toEqual(original);
    const other = await RawClient.connect();
    other.mutate(7, "notes:add", { author: "again", text: "x" });
    await other.messages(1);
    const { body } = await server.call("query", { path: "notes:byAuthor", args: { author: "again" } });
    expect(body.value).toEqual(["x", "x"]);
  });

  test("a silent connection is pinged every five seconds", async () => {
    // Python's client gives up a connection after 30 s without a frame.
    const socket = new WebSocket(`${server.address.replace("http", "ws")}/api/sync`);
    open.push({ close: () => socket.terminate() });
    const pings: number[] = [];
    socket.on("ping", () => pings.push(performance.now()));
    await until(() => pings.length === 2, "two pings", 12);
    expect((pings[1] ?? 0) - (pings[0] ?? 0)).toBeLessThan(6_000);
  });

  test("a wrong base version, an unknown message and invalid JSON end the connection", async () => {
    for (const message of [
      { type: "ModifyQuerySet", baseVersion: 3, newVersion: 4, modifications: [] },
      { type: "Authenticate", baseVersion: 1, tokenType: "None" },
      { type: "Nonsense" },
    ]) {
      const client = await RawClient.connect();
      client.send(message);
      // 1006: no close frame.
      expect(await client.closed).toBe(1006);
      expect(client.received).toEqual([{ type: "FatalError", error: expect.any(String) as string }]);
    }
  });

  test("a refused token is told apart from one that expired meanwhile", async () => {
    const refused = await RawClient.connect();
    refused.send({ type: "Authenticate", baseVersion: 0, tokenType: "User", value: "forged" });
    // What was sent behind it must not run as nobody.
    refused.subscribe(0, 0, "notes:whoAmI", {});
    refused.mutate(0, "notes:pulse", {});
    expect(await refused.closed).toBe(1006);
    expect(refused.received).toMatchObject([{ type: "AuthError", baseVersion: 0, authUpdateAttempted: true }]);

    const idle = await RawClient.connect();
    idle.send({ type: "Authenticate", baseVersion: 0, tokenType: "User", value: await robot.token() });
    await idle.messages(1);
    await server.control("POST", "clock", { offsetMs: 3_600_000 });
    idle.mutate(0, "notes:pulse", {});
    const code = await idle.closed;
    await server.control("POST", "clock", { offsetMs: 0 });
    expect(code).toBe(1006);
    expect(idle.received.at(-1)).toMatchObject({ type: "AuthError", baseVersion: 1, authUpdateAttempted: false });
  });

  test("the admin key may call internal functions here too", async () => {
    const client = await RawClient.connect();
    client.send({ type: "Authenticate", baseVersion: 0, tokenType: "Admin", value: server.ready.adminKey });
    client.subscribe(0, 0, "notes:hidden", {});
    await until(() => client.transitions.some(({ modifications }) => modifications.length > 0), "a result");
    expect(client.transitions.at(-1)?.modifications).toMatchObject([{ type: "QueryUpdated", value: "for the server only" }]);
    const stranger = await RawClient.connect();
    stranger.subscribe(0, 0, "notes:hidden", {});
    await stranger.messages(1);
    expect(stranger.transitions[0]?.modifications).toMatchObject([{ type: "QueryFailed", queryId: 0 }]);
  });

  test("a cursor of another query is refused in the way that makes clients start over", async () => {
    const client = await RawClient.connect();
    const args = { author: "pages", paginationOpts: { numItems: 2, cursor: '["1"]' } };
    client.subscribe(0, 0, "notes:page", args);
    await until(() => client.transitions.length === 1, "the refusal");
    const errorData = { isConvexSystemError: true, paginationError: "InvalidCursor" };
    expect(client.transitions[0]?.modifications).toMatchObject([{ type: "QueryFailed", errorData }]);
  });

  test("a page keeps its end when rows arrive inside it, also after a reconnect", async () => {
    const add = (rank: number) =>
      server.call("mutation", { path: "notes:add", args: { author: "pages", text: String(rank), rank } });
    for (const rank of [10, 20, 30, 40]) await add(rank);
    const args = { author: "pages", paginationOpts: { numItems: 2, cursor: null, id: 1 } };
    const client = await RawClient.connect();
    client.subscribe(0, 0, "notes:page", args);
    const texts = (value: unknown) => (value as { page: { text: string }[] }).page.map(({ text }) => text);
    await until(() => client.transitions.length === 1, "the first page");
    const first = client.transitions[0]?.modifications[0];
    expect(texts(first?.value)).toEqual(["10", "20"]);
    expect(first?.journal).toEqual(expect.any(String));

    await add(15);
    await until(() => client.transitions.length === 2, "the grown page");
    const grown = client.transitions[1]?.modifications[0];
    expect(texts(grown?.value)).toEqual(["10", "15", "20"]);
    expect((grown?.value as { continueCursor: string }).continueCursor).toBe(
      (first?.value as { continueCursor: string }).continueCursor,
    );

    const again = await RawClient.connect();
    again.subscribe(0, 0, "notes:page", args, grown?.journal);
    await until(() => again.transitions.length === 1, "the page after a reconnect");
    expect(texts(again.transitions[0]?.modifications[0]?.value)).toEqual(["10", "15", "20"]);
  });
});
