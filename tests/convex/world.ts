// One deployment in memory with two users and a worker, and short words for what they do.
import { convexTest } from "convex-test";
import type { FunctionArgs } from "convex/server";
import { ConvexError } from "convex/values";
import { expect } from "vitest";
import { api, internal } from "../../convex/_generated/api";
import type { Doc, Id, TableNames } from "../../convex/_generated/dataModel";
import schema from "../../convex/schema";
import { WORKER_ISSUER, WORKER_SUBJECT } from "../../convex/tradeImport/authProvider";
import type { Execution, JobMode, JobOutcome } from "../../convex/tradeImport/validators";

export const modules = import.meta.glob("../../convex/**/*.ts");

export const T0 = Date.UTC(2026, 1, 16, 12);
export const SECRET = Buffer.from("canary-secret-canary-secret-canary-secret").toString("base64");
export const API_KEY = "canary-key-1234567890abcd";
export const ACCOUNT = "AA11 N84G ABCD EFGH";
export const IBKR_ACCOUNT = "U1234567";
export const GATEWAY = "https://localhost:5000";

export function userIdentity(subject: string) {
  const issuer = "https://clerk.example";
  return { issuer, subject, tokenIdentifier: `${issuer}|${subject}` };
}

export const workerIdentity = {
  issuer: WORKER_ISSUER,
  subject: WORKER_SUBJECT,
  tokenIdentifier: `${WORKER_ISSUER}|${WORKER_SUBJECT}`,
};

export function world() {
  const t = convexTest({ modules, schema, transactionLimits: true });
  return {
    alice: t.withIdentity(userIdentity("alice")),
    bob: t.withIdentity(userIdentity("bob")),
    t,
    worker: t.withIdentity(workerIdentity),
  };
}

export type World = ReturnType<typeof world>;
export type User = World["alice"];

export async function connect(user: User): Promise<Id<"brokerageConnections">> {
  return await user.mutation(api.tradeImport.connections.create, {
    auth: { apiKey: API_KEY, apiSecret: SECRET, kind: "kraken" },
    kind: "kraken",
    label: "Main",
  });
}

type NewConnection = FunctionArgs<typeof api.tradeImport.connections.create>;

/** A connection of Interactive Brokers through the gateway at this address. */
export async function connectGateway(user: User, changes: Partial<NewConnection> = {}, baseUrl = GATEWAY) {
  return await user.mutation(api.tradeImport.connections.create, {
    auth: { baseUrl, kind: "ibkr_gateway" },
    kind: "ibkr_gateway",
    ...changes,
  });
}

export async function claim(w: World, connectionId: string, mode: JobMode = "scheduled", early?: boolean) {
  return await w.worker.mutation(api.tradeImport.worker.claim, { connectionId, early, mode, workerId: "w1" });
}

/** A granted lease, its account not bound yet. */
export async function unbound(w: World, connectionId: string, mode: JobMode = "manual") {
  const claimed = await claim(w, connectionId, mode);
  if (!claimed.granted) throw new Error(`not granted: ${claimed.reason}`);
  return claimed.lease;
}

export async function bind(w: World, { fence, jobId }: Lease, accountRef: string) {
  return await w.worker.mutation(api.tradeImport.worker.bindAccount, { accountRef, fence, jobId });
}

/** A granted lease, its account bound. */
export async function lease(w: World, connectionId: string, mode: JobMode = "manual", accountRef = ACCOUNT) {
  const granted = await unbound(w, connectionId, mode);
  await bind(w, granted, accountRef);
  return granted;
}

type Lease = { fence: number; jobId: Id<"importJobs"> };
type IngestArgs = FunctionArgs<typeof api.tradeImport.worker.ingest>;

export async function ingest(
  w: World,
  held: Lease,
  batch: number,
  executions: Execution[],
  more: Partial<IngestArgs> = {},
) {
  return await w.worker.mutation(api.tradeImport.worker.ingest, {
    batch,
    executions,
    fence: held.fence,
    jobId: held.jobId,
    rejects: [],
    ...more,
  });
}

export async function finish(
  w: World,
  held: Lease,
  outcome: JobOutcome = { reason: "none", status: "succeeded" },
  nextSyncIn = 900_000,
) {
  return await w.worker.mutation(api.tradeImport.worker.finish, {
    breaker: { failures: 0, phase: "closed" },
    counts: { errors: 0, fetched: 0, remembered: 0, skipped: 0 },
    fence: held.fence,
    jobId: held.jobId,
    nextSyncIn,
    outcome,
  });
}

/** One whole sync of these rows. */
export async function sync(w: World, connectionId: string, executions: Execution[]) {
  const held = await lease(w, connectionId, "manual", executions[0]?.accountRef);
  const result = await ingest(w, held, 1, executions);
  await finish(w, held);
  return result;
}

export function execution(id: string | undefined, changes: Partial<Execution> = {}): Execution {
  return {
    accountRef: ACCOUNT,
    assetClass: "crypto",
    currency: "USD",
    ...(id === undefined ? {} : { externalExecutionId: id }),
    externalOrderId: "OORDER-1",
    fee: "0.26",
    feeCurrency: "USD",
    flags: [],
    ingestionHash: `hash-${id ?? "none"}`,
    kind: "fill",
    occurredAt: T0 - 3_600_000,
    price: "30010",
    provider: "kraken",
    quantity: "0.5",
    rawPayload: "{}",
    rawSymbol: "XXBTZUSD",
    revision: 1,
    side: "buy",
    source: "kraken_trades",
    symbol: "BTC/USD",
    ...changes,
  };
}

/** A fill as Interactive Brokers' live API shows it: no currency, and an id that corrections share. */
export function ibkrFill(id: string, changes: Partial<Execution> = {}): Execution {
  return {
    accountRef: IBKR_ACCOUNT,
    assetClass: "stock",
    conid: "265598",
    externalExecutionId: id,
    fee: "1.01",
    flags: [],
    ingestionHash: `hash-${id}`,
    kind: "fill",
    occurredAt: T0 - 3_600_000,
    price: "192.26",
    provider: "ibkr",
    quantity: "5",
    rawPayload: "{}",
    rawSymbol: "AAPL",
    revision: 1,
    side: "buy",
    source: "ibkr_live",
    symbol: "AAPL",
    ...changes,
  };
}

/** The same fill as an activity statement shows it. */
export function flexFill(id: string, changes: Partial<Execution> = {}): Execution {
  return ibkrFill(id, {
    currency: "USD",
    externalOrderId: "4271",
    feeCurrency: "USD",
    multiplier: "1",
    source: "ibkr_flex_activity",
    tradeId: `T-${id}`,
    transactionId: `X-${id}`,
    ...changes,
  });
}

/** A booking that voids the fill of this id; `transactionId` is the cancel's own. */
export function flexCancel(id: string, transactionId: string, changes: Partial<Execution> = {}): Execution {
  return flexFill(`tx:${transactionId}`, {
    cancels: `tx:X-${id}`,
    fee: "0",
    kind: "cancel",
    side: "sell",
    tradeId: `T-${id}`,
    transactionId,
    ...changes,
  });
}

/** The same cancel as a trade confirmation shows it: all that it names is the trade. */
export function confirmCancel(id: string, number = 1): Execution {
  const { tradeId: _trade, transactionId: _own, ...cancel } = flexCancel(id, "");
  const externalExecutionId = `trade:T-${id}:TradeCancel:${number}`;
  return {
    ...cancel,
    cancels: `trade:T-${id}`,
    externalExecutionId,
    ingestionHash: `hash-${externalExecutionId}`,
    source: "ibkr_flex_confirm",
  };
}

export async function rows<Table extends TableNames>(w: World, table: Table): Promise<Doc<Table>[]> {
  return await w.t.run(async (ctx) => await ctx.db.query(table).collect());
}

export async function plan(
  w: World,
  changes: Partial<FunctionArgs<typeof api.tradePlans.createTradePlan>> = {},
): Promise<Id<"tradePlans">> {
  return await w.alice.mutation(api.tradePlans.createTradePlan, {
    entryConditions: "",
    exitConditions: "",
    instrumentSymbol: "BTC/USD",
    name: "Breakout",
    status: "active",
    targetConditions: "",
    ...changes,
  });
}

/** The code of the ConvexError that the call ends with. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => expect.fail("the call went through"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConvexError)) throw error;
  const data: unknown = typeof error.data === "string" ? JSON.parse(error.data) : error.data;
  return (data as { code: string }).code;
}

export async function inboxRows(user: User, filters: Partial<FunctionArgs<typeof api.tradeImport.inbox.list>> = {}) {
  const { page } = await user.query(api.tradeImport.inbox.list, {
    paginationOpts: { cursor: null, numItems: 100 },
    ...filters,
  });
  return page;
}

/** Does now what is scheduled for when positions rest. */
export async function settlePositions(w: World): Promise<void> {
  for (let runs = 0; runs < 1_000; runs += 1) {
    const [dirty] = (await rows(w, "importPositions")).filter(({ dirtyFrom }) => dirtyFrom !== undefined);
    if (dirty === undefined) return;
    await w.t.run(async (ctx) => {
      await ctx.db.patch("importPositions", dirty._id, { touchedAt: 0 });
    });
    await w.t.mutation(internal.tradeImport.positions.recompute, { positionId: dirty._id });
  }
  throw new Error("the positions do not come to rest");
}
