import { generateKeyPair } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRobot, robotToken, TestServer, until, type Robot } from "./server";

const CODE_AND_MESSAGE: unknown = { code: expect.any(String) as string, message: expect.any(String) as string };

let robot: Robot;
let server: TestServer;

beforeAll(async () => {
  robot = await createRobot();
  server = await TestServer.start(robot);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.control("DELETE", "faults");
});

describe("calls", () => {
  test("take their arguments as an object or as an array of one", async () => {
    for (const args of [{ value: "v" }, [{ value: "v" }]]) {
      const { status, body } = await server.call("query", { path: "notes:echo", args, format: "json" });
      expect([status, body]).toEqual([200, { status: "success", value: "v" }]);
    }
  });

  test("write whole numbers as floats and keep special values", async () => {
    const value = { a: [1, -3, 0.5, 1e21], i: { $integer: "AQAAAAAAAAA=" }, n: { $float: "AAAAAAAA+H8=" } };
    const { text } = await server.call("query", { path: "notes:echo", args: { value }, format: "convex_encoded_json" });
    expect(text).toContain('"a":[1.0,-3.0,0.5,1e+21]');
    expect(JSON.parse(text)).toEqual({ status: "success", value });
  });

  test("in the json format write integers and bytes as strings", async () => {
    const value = { i: { $integer: "AQAAAAAAAAA=" }, b: { $bytes: "aGk=" } };
    const { body } = await server.call("query", { path: "notes:echo", args: { value }, format: "json" });
    expect(body.value).toEqual({ i: "1", b: "aGk=" });
  });

  test("reach functions by GET, by /api/run and by a path without function name", async () => {
    const query = new URLSearchParams({ path: "notes:echo", args: '{"value":7}', format: "json" });
    const got = await fetch(`${server.address}/api/query?${query.toString()}`);
    expect(await got.json()).toEqual({ status: "success", value: 7 });
    const run = await server.call("run/notes/echo", { args: { value: 7 }, format: "json" });
    expect(run.body).toEqual({ status: "success", value: 7 });
    const canonical = await server.call("query", { path: "notes.js:echo", args: { value: 7 } });
    expect(canonical.body.status).toBe("success");
  });

  test("that are no calls get a status and a code", async () => {
    const bad = [
      await server.call("query", "{"),
      await server.call("query", { args: {} }),
      await server.call("query", { path: "notes:echo", args: { value: 1 }, format: "xml" }),
      await server.call("query", { path: "notes:echo", args: 7 }),
    ];
    expect(bad.map(({ status }) => status)).toEqual([400, 400, 400, 400]);
    expect((await fetch(`${server.address}/api/query?path=notes:echo&args={`)).status).toBe(400);
    for (const { body } of bad) expect(body).toEqual(CODE_AND_MESSAGE);
    expect((await server.call("nothing", {})).status).toBe(404);
    const tooLarge = "x".repeat(16 * 1024 * 1024 + 2_001);
    expect((await server.call("query", tooLarge)).status).toBe(413);
  });

  test("several queries in one batch", async () => {
    const queries = [1, 2].map((value) => ({ path: "notes:echo", args: { value } }));
    const { body } = await server.call("query_batch", { queries });
    expect(body.results).toEqual([1, 2].map((value) => ({ status: "success", value })));
  });

  test("come from pages of other origins too", async () => {
    const headers = { origin: "http://localhost:3000", "access-control-request-headers": "authorization,convex-client" };
    const preflight = await fetch(`${server.address}/api/query`, { method: "OPTIONS", headers });
    expect(preflight.ok).toBe(true);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("http://localhost:3000");
    expect(preflight.headers.get("access-control-allow-headers")).toMatch(/authorization.*convex-client/);
  });
});

describe("failures", () => {
  const REDACTED = /^\[Request ID: [0-9a-f]{16}\] Server Error$/;

  test("tell nothing but the data of a ConvexError", async () => {
    const thrown = await server.call("mutation", { path: "notes:fail", args: { data: { code: "full", n: 1 } } });
    expect(thrown.status).toBe(200);
    expect(thrown.body).toMatchObject({ status: "error", errorData: { code: "full", n: 1 } });
    for (const asked of [
      { path: "notes:crash", args: {} },
      { path: "notes:byAuthor", args: {} },
      { path: "notes:hidden", args: {} },
      { path: "notes:missing", args: {} },
    ]) {
      const { status, body } = await server.call("query", asked);
      expect([status, Object.keys(body).sort()]).toEqual([200, ["errorMessage", "status"]]);
      expect(body.errorMessage).toMatch(REDACTED);
    }
  });

  test("carry integers in their data unharmed", async () => {
    const data = { n: { $integer: "AQAAAAAAAAA=" } };
    const { body } = await server.call("mutation", { path: "notes:fail", args: { data } });
    expect(body.errorData).toEqual(data);
  });

  test("undo every write, also when the return value does not match", async () => {
    await server.call("mutation", { path: "notes:fail", args: { data: "x" } });
    expect((await server.call("mutation", { path: "notes:lies", args: {} })).body.status).toBe("error");
    for (const author of ["fail", "lies"]) {
      expect((await server.call("query", { path: "notes:byAuthor", args: { author } })).body.value).toEqual([]);
    }
  });

  test("are spelled out on a development deployment", async () => {
    const dev = await TestServer.start(robot, "--dev");
    try {
      const texts: unknown[] = [];
      for (const [path, args] of [
        ["notes:hidden", {}],
        ["notes:byAuthor", {}],
        ["notes:byAuthor", { author: 1 }],
        ["notes:byAuthor", { author: "a", more: 1 }],
        ["notes:add", {}],
        ["notes:crash", {}],
      ] as const) {
        texts.push((await dev.call("query", { path, args })).body.errorMessage);
      }
      const head = String.raw`^\[Request ID: [0-9a-f]{16}\] Server Error\n`;
      expect(texts).toEqual(
        [
          String.raw`Could not find public function for 'notes:hidden'\.`,
          "ArgumentValidationError: Object is missing the required field `author`",
          String.raw`ArgumentValidationError: Value does not match validator\.\nPath: \.author\nValue: 1\nValidator: v\.string\(\)`,
          "ArgumentValidationError: Object contains extra field `more`",
          "Trying to execute notes:add as Query, but it is defined as Mutation",
          String.raw`Uncaught Error: a secret detail\n    at handler \(\.\./convex/notes\.ts:\d+:\d+\)`,
        ].map((text) => expect.stringMatching(new RegExp(head + text)) as unknown),
      );
    } finally {
      await dev.stop();
    }
  });
});

describe("limits", () => {
  const add = (fields: Record<string, unknown>) =>
    server.call("mutation", { path: "notes:add", args: { author: "limits", text: "", ...fields } });

  test("of arrays, documents and records hold", async () => {
    const long = await server.call("query", { path: "notes:echo", args: { value: Array(8_193).fill(0) } });
    expect(long.body.status).toBe("error");
    expect((await server.call("query", { path: "notes:echo", args: { value: Array(8_192).fill(0) } })).body.status).toBe("success");
    expect((await add({ text: "x".repeat(1024 * 1024) })).body.status).toBe("error");
    expect((await add({ text: "x".repeat(1024 * 1024 - 1_000) })).body.status).toBe("success");
    expect((await add({ labels: { a: "not a number" } })).body.status).toBe("error");
    expect((await add({ labels: { a: 1 } })).body.status).toBe("success");
  });

  test("of a transaction hold: 16,000 documents written, 4,096 ranges read", async () => {
    const many = (rows: number) =>
      server.call("mutation", { path: "notes:ingest", args: { author: "ranges", first: 1, rows } });
    // Five look-ups a row.
    expect((await many(820)).body.status).toBe("error");
    expect((await many(800)).body).toMatchObject({ status: "success", value: 800 });
  });
});

describe("callers", () => {
  const whoAmI = (authorization?: string) => server.call("query", { path: "notes:whoAmI", args: {} }, authorization);

  test("without a token are nobody", async () => {
    expect((await whoAmI()).body).toEqual({ status: "success", value: null });
    const { body } = await server.call("query", { path: "notes:onlyForUsers", args: {} });
    expect(body.errorData).toEqual({ code: "not_authenticated" });
  });

  test("with a user's token are that user", async () => {
    const token = await server.token("ann", { claims: { given_name: "Ann", team: { role: "lead" } } });
    const { issuer } = server.ready;
    expect((await whoAmI(`Bearer ${token}`)).body.value).toEqual({
      issuer,
      subject: "ann",
      tokenIdentifier: `${issuer}|ann`,
      givenName: "Ann",
      team: { role: "lead" },
    });
  });

  test("with a machine's token are that machine, its claims flattened", async () => {
    const token = await robot.token({ properties: { role: "sync", level: 3 } });
    expect((await whoAmI(`Bearer ${token}`)).body.value).toEqual({
      issuer: "https://robot.example",
      subject: "robot",
      tokenIdentifier: "https://robot.example|robot",
      "properties.role": "sync",
      "properties.level": 3,
    });
  });

  test("with anything less are refused", async () => {
    const stranger = await generateKeyPair("ES256");
    const past = Math.floor(Date.now() / 1000) - 6;
    const unsigned = [{ alg: "none" }, { iss: "https://robot.example", aud: "fixture", sub: "robot", exp: past + 600 }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .concat("")
      .join(".");
    const refused = {
      garbage: "not-a-token",
      forged: await robotToken(stranger.privateKey),
      expired: await robot.token({ exp: past }),
      "without expiry": await robot.token({ exp: undefined }),
      "without subject": await robot.token({ sub: undefined }),
      "for another audience": await robot.token({ aud: "somebody-else" }),
      "of another issuer": await robot.token({ iss: "https://elsewhere.example" }),
      "without a key id": await robot.token({}, { kid: undefined }),
      "with an unknown key id": await robot.token({}, { kid: "robot-2" }),
      unsigned,
      "a user's, expired": await server.token("ann", { expiresInSeconds: -6 }),
      "a user's, for another audience": await server.token("ann", { audience: "other" }),
    };
    for (const [which, token] of Object.entries(refused)) {
      const { status, body } = await whoAmI(`Bearer ${token}`);
      expect([which, status]).toEqual([which, 401]);
      expect(body).toEqual(CODE_AND_MESSAGE);
    }
    expect((await whoAmI("Basic abc")).status).toBe(401);
  });

  test("have five seconds of grace, and expire by the deployment's clock", async () => {
    const token = await robot.token({ exp: Math.floor(Date.now() / 1000) - 2 });
    expect((await whoAmI(`Bearer ${token}`)).status).toBe(200);
    const hour = await robot.token({ exp: Math.floor(Date.now() / 1000) + 3_600 });
    await server.control("POST", "clock", { offsetMs: 2 * 3_600_000 });
    expect((await whoAmI(`Bearer ${hour}`)).status).toBe(401);
    await server.control("POST", "clock", { offsetMs: 0 });
    expect((await whoAmI(`Bearer ${hour}`)).status).toBe(200);
  });

  test("with the admin key reach internal functions and may act as somebody", async () => {
    const key = `Convex ${server.ready.adminKey}`;
    const hidden = await server.call("query", { path: "notes:hidden", args: {} }, key);
    expect(hidden.body.value).toBe("for the server only");
    const acting = Buffer.from(JSON.stringify({ issuer: "i", subject: "s" })).toString("base64");
    expect((await whoAmI(`${key}:${acting}`)).body.value).toMatchObject({ tokenIdentifier: "i|s" });
    expect((await server.call("function", { path: "notes:hidden", args: {} }, key)).body.status).toBe("success");
    expect((await server.call("function", { path: "notes:hidden", args: {} })).status).toBe(403);
    expect((await whoAmI("Convex wrong")).status).toBe(403);
    expect((await whoAmI(`${key}:not-json`)).status).toBe(401);
  });

  test("are verified with the keys that the environment holds now", async () => {
    const successor = await createRobot();
    expect((await whoAmI(`Bearer ${await successor.token()}`)).status).toBe(401);
    await server.control("POST", "env", { name: "ROBOT_JWKS", value: successor.jwks });
    expect((await whoAmI(`Bearer ${await successor.token()}`)).status).toBe(200);
    expect((await whoAmI(`Bearer ${await robot.token()}`)).status).toBe(401);
    await expect(server.control("POST", "env", { name: "ROBOT_JWKS", value: null })).rejects.toThrow(/ROBOT_JWKS/);
    await server.control("POST", "env", { name: "ROBOT_JWKS", value: robot.jwks });
    expect((await whoAmI(`Bearer ${await robot.token()}`)).status).toBe(200);
  });
});

test("functions see the deployment's environment and clock, not the machine's", async () => {
  await server.control("POST", "env", { name: "COLOUR", value: "green" });
  await server.control("POST", "clock", { offsetMs: 86_400_000 });
  const before = Date.now();
  const { body } = await server.call("action", { path: "notes:environment", args: {} });
  await server.control("POST", "clock", { offsetMs: 0 });
  await server.control("POST", "env", { name: "COLOUR", value: null });
  const { env, now } = body.value as { env: Record<string, string>; now: number };
  expect(env).toEqual({
    CONVEX_CLOUD_URL: server.address,
    CONVEX_SITE_URL: server.ready.siteAddress,
    NEXT_PUBLIC_CLERK_FRONTEND_API_URL: server.ready.issuer,
    ROBOT_JWKS: robot.jwks,
    COLOUR: "green",
  });
  expect(now - before).toBeGreaterThanOrEqual(86_400_000);
  expect(now - before).toBeLessThan(86_460_000);
});

describe("scheduled functions", () => {
  const texts = async (author: string) =>
    (await server.call("query", { path: "notes:byAuthor", args: { author } })).body.value as string[];

  test("run by themselves, without the caller's identity, and follow the clock", async () => {
    const token = await server.token("ann");
    const later = { path: "notes:addLater", args: { text: "an hour later", afterMs: 3_600_000 } };
    await server.call("mutation", later, `Bearer ${token}`);
    expect(await texts("scheduler")).not.toContain("an hour later");
    await server.control("POST", "clock", { offsetMs: 3_600_001 });
    await until(async () => (await texts("scheduler")).includes("an hour later"), "the scheduled mutation");
    await server.control("POST", "clock", { offsetMs: 0 });
  });

  test("may be actions that call other servers", async () => {
    const args = { url: `${server.ready.siteAddress}/hook`, body: "knock" };
    await server.call("mutation", { path: "notes:postLater", args });
    await until(async () => (await texts("scheduler")).some((text) => text.includes('"body":"knock"')), "the delivery");
  });

  test("include the jobs of crons.ts", async () => {
    await server.control("POST", "crons", { name: "daily note" });
    expect(await texts("scheduler")).toContain("from a cron");
    const ticking = await TestServer.start(robot, "--crons");
    try {
      // 3:07 UTC comes once in any 24 hours.
      await ticking.control("POST", "clock", { offsetMs: 86_400_000 });
      await until(async () => {
        const notes = (await ticking.control("GET", "documents?table=notes")) as unknown[];
        return notes.length === 1;
      }, "the daily job");
    } finally {
      await ticking.stop();
    }
  });
});

test("HTTP actions answer on the site's port and below /http", async () => {
  const token = await server.token("ann");
  for (const base of [server.ready.siteAddress, `${server.address}/http`]) {
    const headers = { authorization: `Bearer ${token}`, "x-tag": "t" };
    const response = await fetch(`${base}/hook?q=1`, { method: "POST", body: "hello", headers });
    expect([response.status, await response.json()]).toEqual([201, { body: "hello", subject: "ann", tag: "t" }]);
    const foreign = await fetch(`${base}/hook`, { method: "POST", headers: { authorization: "Basic abc" } });
    expect(await foreign.json()).toEqual({ body: "", subject: null, tag: null });
    const broken = await fetch(`${base}/broken/x`);
    expect(broken.status).toBe(500);
    expect(await broken.text()).not.toContain("secret");
    expect((await fetch(`${base}/nowhere`)).status).toBe(404);
  }
});

describe("ordered faults", () => {
  const add = (text: string) => server.call("mutation", { path: "notes:add", args: { author: "faults", text } });
  const stored = async () =>
    (await server.call("query", { path: "notes:byAuthor", args: { author: "faults" } })).body.value as string[];

  test("die before the commit: no answer, nothing stored", async () => {
    await server.fault({ function: "notes:add", kind: "die_before_commit" });
    await expect(add("before")).rejects.toThrow();
    expect(await stored()).not.toContain("before");
    expect((await add("before, again")).body.status).toBe("success");
  });

  test("die after the commit: no answer, but stored", async () => {
    await server.fault({ function: "notes:add", kind: "die_after_commit" });
    await expect(add("after")).rejects.toThrow();
    expect(await stored()).toContain("after");
  });

  test("refuse, conflict and delay, as often as ordered and after as many calls as ordered", async () => {
    await server.fault({ function: "notes:add", kind: "refuse", status: 429, times: 2, skip: 1 });
    const statuses: number[] = [];
    for (const text of ["1", "2", "3", "4"]) statuses.push((await add(text)).status);
    expect(statuses).toEqual([200, 429, 429, 200]);
    await server.fault({ function: "*", kind: "conflict" });
    expect(await add("5")).toMatchObject({ status: 503, body: { code: "OptimisticConcurrencyControlFailure" } });
    await server.fault({ function: "notes:add", kind: "delay", ms: 200 });
    const started = performance.now();
    expect((await add("6")).body.status).toBe("success");
    expect(performance.now() - started).toBeGreaterThanOrEqual(190);
    expect(await stored()).toEqual(expect.arrayContaining(["1", "4", "6"]));
    expect(await stored()).not.toContain("5");
  });

  test("a fault that says nothing sensible is refused", async () => {
    await expect(server.fault({ function: "notes:add", kind: "explode" })).rejects.toThrow(/die_before_commit/);
    await expect(server.fault({ kind: "hang" })).rejects.toThrow(/name of a function/);
  });
});

test("the controls list the functions, and are out of reach for web pages", async () => {
  const functions = (await server.control("GET", "functions")) as { path: string; kind: string; isPublic: boolean }[];
  expect(functions).toContainEqual(expect.objectContaining({ path: "notes:add", kind: "mutation", isPublic: true }));
  expect(functions).toContainEqual(expect.objectContaining({ path: "notes:hidden", kind: "query", isPublic: false }));
  const page = await fetch(`${server.address}/sandbox/functions`, { headers: { origin: "https://elsewhere.example" } });
  expect(page.status).toBe(403);
});

test("calls are counted by function", async () => {
  await server.control("DELETE", "calls");
  await server.call("query", { path: "notes:topTwo", args: {} });
  await server.call("query", { path: "notes.js:topTwo", args: {} });
  await server.call("query", { path: "notes:missing", args: {} });
  expect(await server.control("GET", "calls")).toEqual({ "notes:topTwo": 2 });
});

test("documents that functions read are counted by function, those behind the end of a page not", async () => {
  const texts = Array.from({ length: 30 }, (_, i) => String(i));
  await server.call("mutation", { path: "notes:addMany", args: { author: "reads", texts } });
  await server.control("DELETE", "calls");
  await server.call("query", { path: "notes:byAuthor", args: { author: "reads" } });
  const paginationOpts = { cursor: null, numItems: 7 };
  await server.call("query", { path: "notes:page", args: { author: "reads", paginationOpts } });
  expect(await server.control("GET", "reads")).toEqual({ "notes:byAuthor": 30, "notes:page": 7 });
});

test("an import of 5,000 rows in pages of 50 takes seconds, and 20,000 documents stay usable", async () => {
  const fresh = await TestServer.start(robot);
  try {
    const ingest = async (author: string, first: number, rows: number) => {
      const { body } = await fresh.call("mutation", { path: "notes:ingest", args: { author, first, rows } });
      expect(body).toEqual({ status: "success", value: rows });
    };
    const started = performance.now();
    for (let first = 1; first <= 5_000; first += 50) await ingest("a", first, 50);
    // 25,000 look-ups and 15,000 writes: minutes in plain convex-test.
    expect(performance.now() - started).toBeLessThan(20_000);
    for (let first = 1; first <= 5_000; first += 500) await ingest("b", first, 500);
    const again = performance.now();
    for (let i = 0; i < 20; i++) {
      const args = { author: "a", paginationOpts: { numItems: 50, cursor: null } };
      const { body } = await fresh.call("query", { path: "notes:page", args });
      expect(body.value).toMatchObject({ isDone: false });
    }
    expect((performance.now() - again) / 20).toBeLessThan(200);
  } finally {
    await fresh.stop();
  }
}, 60_000);

describe("the process", () => {
  test("refuses to start where auth.config lacks a variable, and names it", async () => {
    const nothing: Robot = { ...robot, jwks: "" };
    await expect(TestServer.start(nothing, "--env", "UNRELATED")).rejects.toThrow(/NAME=VALUE/);
    await expect(TestServer.start(nothing, "--functions", "convex")).rejects.toThrow(/TRADE_SYNC_JWKS/);
    await expect(TestServer.start(nothing, "--functions", "no/such/folder")).rejects.toThrow(/--functions/);
  });
});
