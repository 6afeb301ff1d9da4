// Who may call what, over every public function there is: a function added later is tested too.
import { makeFunctionReference, type FunctionReference } from "convex/server";
import { ConvexError } from "convex/values";
import { beforeAll, describe, expect, test } from "vitest";
import { api } from "../../convex/_generated/api";
import type { Id, TableNames } from "../../convex/_generated/dataModel";
import { WORKER_ISSUER } from "../../convex/tradeImport/authProvider";
import { importTables } from "../../convex/tradeImport/tables";
import {
  ACCOUNT,
  API_KEY,
  codeOf,
  connect,
  execution,
  finish,
  ingest,
  lease,
  modules,
  plan,
  rows,
  SECRET,
  userIdentity,
  workerIdentity,
  world,
  type World,
} from "./world";

type Schema =
  | { tableName: string; type: "id" }
  | { type: "array"; value: Schema }
  | { type: "boolean" | "bytes" | "null" | "number" | "string" | "any" }
  | { keys: Schema; type: "record"; values: { fieldType: Schema } }
  | { type: "literal"; value: unknown }
  | { type: "object"; value: Record<string, { fieldType: Schema; optional: boolean }> }
  | { type: "union"; value: Schema[] };

type Exported = { exportArgs(): string; isMutation?: boolean; isPublic?: boolean; isQuery?: boolean };
type PublicFunction = { args: Schema; kind: "mutation" | "query"; name: string };

const functions: PublicFunction[] = [];
for (const [file, load] of Object.entries(modules)) {
  if (file.includes("/_generated/") || /\/(schema|auth\.config)\.ts$/.test(file)) continue;
  const path = file.replace(/^.*\/convex\//, "").replace(/\.ts$/, "");
  for (const [name, value] of Object.entries((await load()) as Record<string, Partial<Exported> | undefined>)) {
    if (value?.isPublic !== true || value.exportArgs === undefined) continue;
    functions.push({
      args: JSON.parse(value.exportArgs()) as Schema,
      kind: value.isMutation === true ? "mutation" : "query",
      name: `${path}:${name}`,
    });
  }
}
const named = (part: (name: string) => boolean) => functions.filter(({ name }) => part(name));
const isWorkers = (name: string) => /^tradeImport\/(?:reports|worker):/.test(name);
const workerFunctions = named(isWorkers);
const userFunctions = named((name) => name.startsWith("tradeImport/") && !isWorkers(name));

/** Tables whose documents have an owner; a trade has one when it was imported. */
const OWNED: ReadonlySet<string> = new Set([...Object.keys(importTables), "trades"]);

function idTables(schema: Schema): string[] {
  switch (schema.type) {
    case "id":
      return [schema.tableName];
    case "array":
      return idTables(schema.value);
    case "object":
      return Object.values(schema.value).flatMap(({ fieldType }) => idTables(fieldType));
    case "union":
      return schema.value.flatMap(idTables);
    default:
      return [];
  }
}

/** Valid arguments with these ids in every place that takes one. */
function sample(schema: Schema, ids: Record<string, string>): unknown {
  switch (schema.type) {
    case "id":
      return ids[schema.tableName];
    case "array":
      return [sample(schema.value, ids)];
    case "boolean":
      return true;
    case "bytes":
      return new ArrayBuffer(1);
    case "literal":
      return schema.value;
    case "null":
      return null;
    case "number":
      return 1;
    case "object":
      return Object.fromEntries(
        Object.entries(schema.value)
          .filter(([key, { fieldType, optional }]) => !optional || idTables(fieldType).length > 0 || key === "now")
          .map(([key, { fieldType }]) => [key, key === "cursor" ? null : sample(fieldType, ids)]),
      );
    case "record":
      return {};
    case "string":
    case "any":
      return "text";
    case "union":
      return sample(schema.value[0] ?? { type: "null" }, ids);
  }
}

type Caller = Pick<World["t"], "mutation" | "query">;

async function call(caller: Caller, fn: PublicFunction, ids: Record<string, string>): Promise<unknown> {
  return await invoke(caller, fn, sample(fn.args, ids) as Record<string, unknown>);
}

async function invoke(
  caller: Caller,
  { kind, name }: PublicFunction,
  values: Record<string, unknown>,
): Promise<unknown> {
  return kind === "query"
    ? await caller.query(makeFunctionReference<"query">(name) as FunctionReference<"query">, values)
    : await caller.mutation(makeFunctionReference<"mutation">(name) as FunctionReference<"mutation">, values);
}

const OAUTH = {
  accessToken: "canary-access-token",
  accessTokenSecret: SECRET,
  consumerKey: "CANARYKEY",
  dhParam: "-----BEGIN DH PARAMETERS-----\ncanary-prime",
  encryptionKey: "-----BEGIN PRIVATE KEY-----\ncanary-encryption",
  kind: "ibkr_oauth" as const,
  signatureKey: "-----BEGIN PRIVATE KEY-----\ncanary-signature",
};

/** Alice's world: a running job, a pending, a reviewed and a dismissed row, a held one and a reject. */
async function alicesWorld() {
  const w = world();
  const campaignId = await w.alice.mutation(api.campaigns.createCampaign, { name: "C", thesis: "T" });
  const tradePlanId = await plan(w, { campaignId });
  const noteId = await w.alice.mutation(api.campaignNotes.addNote, { campaignId, content: "N" });
  const connectionId = await connect(w.alice);
  await w.alice.mutation(api.tradeImport.connections.create, { auth: OAUTH, kind: "ibkr_oauth" });
  const first = await lease(w, connectionId);
  await ingest(
    w,
    first,
    1,
    [
      execution("ALICE-1"),
      execution("ALICE-2"),
      execution("ALICE-3"),
      execution("ALICE-4", { assetClass: "option" }),
    ],
    { rejects: [{ fingerprint: "ALICE-F", rawPayload: "ALICE-RAW", reason: "r" }] },
  );
  const [tradeId, reviewed, dismissed] = (await rows(w, "trades")).map(({ _id }) => _id);
  if (!tradeId || !reviewed || !dismissed) throw new Error("no trades");
  await w.alice.mutation(api.tradeImport.inbox.review, { tradeIds: [reviewed], tradePlanId });
  await w.alice.mutation(api.tradeImport.inbox.dismiss, { tradeIds: [dismissed] });
  await finish(w, first);
  const running = await lease(w, connectionId);
  const { reportId } = await w.worker.mutation(api.tradeImport.reports.begin, {
    digest: "ALICE-D",
    fence: running.fence,
    jobId: running.jobId,
    parts: 1,
    size: 1,
    source: "ibkr_flex_activity",
  });
  const executionId = (await rows(w, "externalExecutions")).find(({ state }) => state === "dismissed")?._id;
  const ids: Record<string, string> = {
    brokerageConnections: connectionId,
    campaignNotes: noteId,
    campaigns: campaignId,
    externalExecutions: executionId ?? "",
    importJobs: running.jobId,
    importReports: reportId,
    tradePlans: tradePlanId,
    trades: tradeId,
  };
  return { ids, w };
}

let both: Promise<{ bobs: Record<string, string>; ids: Record<string, string>; w: World }> | undefined;

/** Alice's world with Bob's own documents of every kind in it, and the ids of documents that are gone. */
async function bothWorlds() {
  both ??= (async () => {
    const { ids, w } = await alicesWorld();
    const connectionId = await connect(w.bob);
    const held = await lease(w, connectionId);
    await ingest(w, held, 1, [execution("BOB-1"), execution("BOB-2")]);
    await finish(w, held);
    const executions = (await rows(w, "externalExecutions")).filter(({ connectionId: of }) => of === connectionId);
    const bobs = {
      ...ids,
      brokerageConnections: connectionId,
      externalExecutions: executions[0]?._id ?? "",
      importJobs: held.jobId,
      trades: executions[0]?.tradeIds[0] ?? "",
    };
    const gone = await w.t.run(async (ctx) => {
      const found: Record<string, string> = {};
      for (const [name, id] of Object.entries(ids)) {
        const table = name as TableNames;
        const document = await ctx.db.get(table, id as Id<TableNames>);
        if (document === null) throw new Error(`no ${name}`);
        const { _creationTime, _id, ...fields } = document;
        const copy = await ctx.db.insert(table, fields);
        await ctx.db.delete(table, copy);
        found[`gone ${name}`] = copy;
      }
      return found;
    });
    return { bobs, ids: { ...ids, ...gone }, w };
  })();
  return await both;
}

async function owned(w: World) {
  const all: Record<string, unknown> = {};
  for (const table of OWNED) all[table] = await rows(w, table as TableNames);
  return JSON.stringify(all);
}

let alice: Awaited<ReturnType<typeof alicesWorld>>;
beforeAll(async () => {
  alice = await alicesWorld();
});

test("what the import offers is exactly this", () => {
  const offered = [...userFunctions, ...workerFunctions].map(({ name }) => name.slice("tradeImport/".length));
  expect(offered.sort()).toEqual([
    "analytics:planned",
    "connections:create",
    "connections:disconnect",
    "connections:list",
    "connections:updateCredentials",
    "connections:updateSettings",
    "inbox:acknowledge",
    "inbox:counts",
    "inbox:dismiss",
    "inbox:held",
    "inbox:list",
    "inbox:refreshSuggestions",
    "inbox:rejects",
    "inbox:reopen",
    "inbox:restore",
    "inbox:review",
    "inbox:reviewAllUnlinked",
    "jobs:list",
    "jobs:openProblems",
    "jobs:retryRejects",
    "jobs:rows",
    "jobs:undo",
    "reports:begin",
    "reports:compare",
    "reports:keep",
    "reports:ofJob",
    "reports:part",
    "sync:syncAll",
    "sync:syncNow",
    "worker:beat",
    "worker:bindAccount",
    "worker:claim",
    "worker:finish",
    "worker:ingest",
    "worker:watch",
  ]);
});

test("every kind of id has a sample", () => {
  for (const { args } of functions) for (const table of idTables(args)) expect(alice.ids).toHaveProperty(table);
});

describe("F4 another user with Alice's ids", () => {
  const takingOwnedIds = functions.filter(
    (fn) => !workerFunctions.includes(fn) && idTables(fn.args).some((table) => OWNED.has(table)),
  );

  test.each(takingOwnedIds)(
    "$name finds nothing and changes nothing",
    async (fn) => {
      const { ids, w } = alice;
      const before = await owned(w);
      if (fn.name.startsWith("tradeImport/")) {
        expect(await codeOf(call(w.bob, fn, ids))).toBe("not_found");
      } else {
        const answer = await call(w.bob, fn, ids).then(
          (result) => JSON.stringify(result),
          (error: unknown) => (error instanceof Error ? error.message : ""),
        );
        expect(["null", "[]", "Trade not found"]).toContain(answer);
      }
      expect(await owned(w)).toBe(before);
    },
  );

  test.each(functions.filter(({ kind, name }) => kind === "query" && !isWorkers(name)))(
    "$name shows nothing of hers",
    async (fn) => {
      const { ids, w } = alice;
      for (const caller of [w.bob, w.t]) {
        const answer = await call(caller, fn, ids).then(
          (result) => JSON.stringify(result),
          (error: unknown) => JSON.stringify(error instanceof ConvexError ? (error.data as unknown) : String(error)),
        );
        expect(answer).not.toMatch(/ALICE|\|alice/);
        expect(answer).not.toContain(ACCOUNT);
        expect(answer).not.toContain(ids.brokerageConnections);
      }
    },
  );
});

/** In the path of a place: in an object of a list. */
const EACH = "[]";

/** Every place in the arguments that takes one id or a list of them, one after the other. */
function idPlaces(schema: Schema): { isList: boolean; path: string[]; table: string }[] {
  switch (schema.type) {
    case "id":
      return [{ isList: false, path: [], table: schema.tableName }];
    case "array":
      return idPlaces(schema.value).map((place) =>
        schema.value.type === "id" ? { ...place, isList: true } : { ...place, path: [EACH, ...place.path] },
      );
    case "object":
      return Object.entries(schema.value).flatMap(([key, { fieldType }]) =>
        idPlaces(fieldType).map((place) => ({ ...place, path: [key, ...place.path] })),
      );
    case "union":
      return schema.value.flatMap(idPlaces);
    default:
      return [];
  }
}

function withValue(values: unknown, [key, ...rest]: string[], value: unknown): unknown {
  if (key === undefined) return value;
  if (key === EACH) {
    // Behind one that is all the caller's own.
    const [own] = values as unknown[];
    return [own, withValue(own, rest, value)];
  }
  const object = values as Record<string, unknown>;
  return { ...object, [key]: withValue(object[key], rest, value) };
}

describe("F4 F5 each id in its place, all others the caller's own", () => {
  const places = userFunctions.flatMap((fn) =>
    idPlaces(fn.args).map((place) => ({ ...place, fn, label: `${fn.name} ${place.path.join(".")}` })),
  );

  test("there are such places", () => {
    expect(places.length).toBeGreaterThan(10);
  });

  test.each(places)("$label: somebody else's and none at all are one answer, and nothing changes", async ({ fn, isList, path, table }) => {
    const { bobs, ids, w } = await bothWorlds();
    const answer = async (id: string | undefined) => {
      const own = bobs[table];
      const value = isList ? [own, id] : id;
      const values = withValue(sample(fn.args, bobs), path, value) as Record<string, unknown>;
      const error = await invoke(w.bob, fn, values).then(
        () => expect.fail("the call went through"),
        (reason: unknown) => reason,
      );
      if (!(error instanceof ConvexError)) throw error;
      return JSON.stringify(error.data);
    };
    const before = await owned(w);
    const missing = await answer(ids[`gone ${table}`]);
    expect(missing).toContain("not_found");
    // Plans and campaigns have no owner in the app.
    if (OWNED.has(table)) expect(await answer(ids[table])).toBe(missing);
    expect(await owned(w)).toBe(before);
  });
});

describe("who calls", () => {
  const nobody = (w: World) => w.t;

  test.each(userFunctions)("$name needs a user", async (fn) => {
    const { ids, w } = alice;
    const before = await owned(w);
    for (const caller of [nobody(w), w.worker]) expect(await codeOf(call(caller, fn, ids))).toBe("not_authenticated");
    expect(await owned(w)).toBe(before);
  });

  test.each(workerFunctions)("F3 $name answers nobody but the worker", async (fn) => {
    const { ids, w } = alice;
    const before = await owned(w);
    const strangers = [
      nobody(w),
      w.alice,
      w.t.withIdentity({ ...workerIdentity, subject: "someone" }),
      w.t.withIdentity({ ...workerIdentity, issuer: `${WORKER_ISSUER}.example` }),
      w.t.withIdentity(userIdentity(workerIdentity.subject)),
    ];
    for (const stranger of strangers) {
      const error = await call(stranger, fn, ids).then(
        () => expect.fail("the call went through"),
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(Error);
      expect(error).not.toBeInstanceOf(ConvexError);
      expect((error as Error).message).toMatch(/^Could not find public function/);
    }
    expect(await owned(w)).toBe(before);
  });
});

test("F13 no function of the app returns credentials", async () => {
  const { ids, w } = await alicesWorld();
  for (const fn of functions.filter(({ name }) => !isWorkers(name))) {
    const answer = await call(w.alice, fn, ids).then(
      (result) => JSON.stringify(result ?? null),
      (error: unknown) => JSON.stringify(error instanceof ConvexError ? (error.data as unknown) : String(error)),
    );
    expect(answer, fn.name).not.toContain(SECRET);
    expect(answer, fn.name).not.toContain(API_KEY);
    expect(answer, fn.name).not.toMatch(/"auth"|apiKey|apiSecret|accessToken|consumerKey/);
    expect(answer, fn.name).not.toMatch(/canary-(?:access|prime|encryption|signature)|CANARYKEY/);
  }
});

test("every function of the app answers its owner with pending and reviewed rows about", async () => {
  const { ids, w } = await alicesWorld();
  for (const fn of functions.filter(({ kind, name }) => kind === "query" && !isWorkers(name))) {
    await call(w.alice, fn, ids);
  }
  expect(await w.alice.query(api.trades.listTrades, {})).toHaveLength(2);
});
