// Rows that tests bring as the worker would, through the worker's own functions.
import type { World } from "./world";

export type Fill = Record<string, unknown> & { externalExecutionId: string };

export const KRAKEN_ACCOUNT = "AA11 N84G";
export const IBKR_ACCOUNT = "U1234567";

/** A purchase of bitcoin at Kraken. */
export function krakenFill(id: string, changes: Record<string, unknown> = {}): Fill {
  return {
    accountRef: KRAKEN_ACCOUNT,
    assetClass: "crypto",
    currency: "USD",
    externalExecutionId: id,
    fee: "0.26",
    feeCurrency: "USD",
    flags: [],
    ingestionHash: `hash-${id}`,
    kind: "fill",
    occurredAt: Date.now() - 3_600_000,
    price: "30010.5",
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

/** A purchase of a share at Interactive Brokers. */
export function ibkrFill(id: string, changes: Record<string, unknown> = {}): Fill {
  return {
    accountRef: IBKR_ACCOUNT,
    assetClass: "stock",
    conid: "265598",
    externalExecutionId: id,
    fee: "1.01",
    flags: [],
    ingestionHash: `hash-${id}`,
    kind: "fill",
    occurredAt: Date.now() - 3_600_000,
    openClose: "open",
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

/** A connection and what its worker brings. */
export class Account {
  private constructor(
    private readonly world: World,
    readonly connectionId: string,
    private readonly accountRef: string,
  ) {}

  static async kraken(world: World, label = "Main"): Promise<Account> {
    const auth = { apiKey: `key-${label}-1234567890`, apiSecret: Buffer.from("secret-".repeat(8)).toString("base64"), kind: "kraken" };
    const id = await world.journal.mutation<string>("tradeImport/connections:create", { auth, kind: "kraken", label });
    return new Account(world, id, KRAKEN_ACCOUNT);
  }

  static async ibkr(world: World, label = "Shares"): Promise<Account> {
    const auth = { baseUrl: "https://127.0.0.1:5000", kind: "ibkr_gateway" };
    const id = await world.journal.mutation<string>("tradeImport/connections:create", { auth, kind: "ibkr_gateway", label });
    return new Account(world, id, IBKR_ACCOUNT);
  }

  /** One sync that brings these; `pause` between its pages. */
  async bring(fills: readonly Fill[], { page = 500, pause = 0 }: { page?: number; pause?: number } = {}): Promise<void> {
    const worker = this.world.asWorker;
    const { connectionId } = this;
    const claimed = await worker.mutation<Claim>("tradeImport/worker:claim", { connectionId, mode: "manual", workerId: "test" });
    if (!claimed.granted) throw new Error(`not granted: ${claimed.reason}`);
    const { fence, jobId } = claimed.lease;
    await worker.mutation("tradeImport/worker:bindAccount", { accountRef: this.accountRef, fence, jobId });
    for (let from = 0, batch = 1; from < fills.length; from += page, batch += 1) {
      const executions = fills.slice(from, from + page);
      await worker.mutation("tradeImport/worker:ingest", { batch, executions, fence, jobId, rejects: [] });
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    await worker.mutation("tradeImport/worker:finish", {
      breaker: { failures: 0, phase: "closed" },
      counts: { errors: 0, fetched: fills.length, remembered: 0, skipped: 0 },
      fence,
      jobId,
      nextSyncIn: 900_000,
      outcome: { reason: "none", status: "succeeded" },
    });
  }
}

type Claim = { granted: false; reason: string } | { granted: true; lease: { fence: number; jobId: string } };

export async function makeCampaign(world: World, name: string): Promise<string> {
  return await world.journal.mutation<string>("campaigns:createCampaign", { name, status: "active", thesis: "Strength" });
}

export async function makePlan(world: World, name: string, instrumentSymbol: string, campaignId?: string): Promise<string> {
  return await world.journal.mutation<string>("tradePlans:createTradePlan", {
    entryConditions: "Close above the range",
    exitConditions: "Close below the range",
    instrumentSymbol,
    name,
    status: "active",
    targetConditions: "Twice the risk",
    ...(campaignId === undefined ? {} : { campaignId }),
  });
}

/** Every trade of the journal, as it is stored. */
export async function storedTrades(world: World): Promise<Record<string, unknown>[]> {
  return (await world.server("GET", "documents?table=trades")) as Record<string, unknown>[];
}
