// Everything the pages need, on this machine: local Convex server, simulated brokers, the real worker, the built pages.
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { Child, PYTHON, ROOT } from "./child";
import { Caller, makeWorkerKeys, type WorkerKeys } from "./journal";
import { control } from "./simulator";

type Options = {
  /** Options of the local Convex server, such as `--crons`. */
  convex?: readonly string[];
  /** Options of the simulators; absent: none is started. */
  ibkr?: readonly string[];
  kraken?: readonly string[];
};

export type KrakenInfo = { address: string; apiKey: string; apiSecret: string };
export type IbkrInfo = {
  accounts: string[];
  address: string;
  flex: { activityQuery: string; address: string; confirmQuery: string; token: string };
  loginUrl: string;
};

export class World {
  private readonly children: Child[] = [];
  private workerChild: Child | null = null;

  private constructor(
    readonly convex: string,
    readonly keys: WorkerKeys,
    private readonly workerEnv: Record<string, string>,
  ) {}

  /** Where the pages are. */
  pages = "";
  kraken: KrakenInfo | null = null;
  ibkr: IbkrInfo | null = null;

  /** The app's functions as the pages' user. */
  get journal(): Caller {
    return new Caller(this.convex, () => this.userToken());
  }

  /** The worker's functions, for tests that bring rows of their own. */
  get asWorker(): Caller {
    return new Caller(this.convex, () => Promise.resolve(this.keys.token()));
  }

  static async start(options: Options = {}): Promise<World> {
    const keys = makeWorkerKeys();
    const secret = randomBytes(24).toString("hex");
    const port = await freePort();
    const convex = new Child([
      "node", "--import", "tsx", "sandbox/convex-server/main.ts", "--functions", "convex", "--port", "0", "--exit-with-stdin",
      "--env", `TRADE_SYNC_JWKS=${keys.jwks}`, "--env", `TRADE_SYNC_SECRET=${secret}`,
      "--env", `TRADE_SYNC_URL=http://127.0.0.1:${String(port)}`, ...(options.convex ?? []),
    ]);
    const kraken = options.kraken && new Child([PYTHON, "-m", "sandbox.brokers.kraken", "--port", "0", "--exit-with-stdin", ...options.kraken]);
    const ibkr = options.ibkr && new Child([PYTHON, "-m", "sandbox.brokers.ibkr", "--port", "0", "--exit-with-stdin", ...options.ibkr]);
    const { address } = (await convex.firstLine()) as { address: string };
    const env: Record<string, string> = {
      CONVEX_URL: address,
      TRADE_SYNC_API_PORT: String(port),
      TRADE_SYNC_PRIVATE_KEY: keys.pem,
      TRADE_SYNC_SECRET: secret,
    };
    const world = new World(address, keys, env);
    world.children.push(convex);
    if (kraken) {
      world.children.push(kraken);
      world.kraken = (await kraken.firstLine()) as KrakenInfo;
      env.KRAKEN_BASE_URL = world.kraken.address;
    }
    if (ibkr) {
      world.children.push(ibkr);
      world.ibkr = (await ibkr.firstLine()) as IbkrInfo;
      env.IBKR_GATEWAYS = world.ibkr.address;
      env.IBKR_FLEX_URL = world.ibkr.flex.address;
    }
    const pages = new Child(["node", `${ROOT}web/serve.mjs`, "--exit-with-stdin"], { CONVEX_URL: address, NEXT_TELEMETRY_DISABLED: "1" });
    world.children.push(pages);
    world.pages = ((await pages.firstLine()) as { address: string }).address;
    return world;
  }

  startWorker(): void {
    if (this.workerChild?.runs) return;
    this.workerChild = new Child([PYTHON, "-m", "worker", "run"], this.workerEnv);
  }

  async stopWorker(): Promise<void> {
    await this.workerChild?.stop();
    this.workerChild = null;
  }

  /** What the worker logged lately. */
  get workerLog(): string {
    return this.workerChild?.said ?? "";
  }

  /** Remote control of the local Convex server, `/sandbox/…`. */
  async server(method: "DELETE" | "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    return await control(this.convex, method, `/sandbox/${path}`, body);
  }

  async krakenDoes(method: "DELETE" | "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    return await control(this.kraken?.address ?? "", method, `/sandbox/${path}`, body);
  }

  async ibkrDoes(method: "DELETE" | "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    return await control(this.ibkr?.address ?? "", method, `/sandbox/${path}`, body);
  }

  private async userToken(): Promise<string> {
    return ((await this.server("POST", "token", { subject: "demo" })) as { token: string }).token;
  }

  async stop(): Promise<void> {
    await this.stopWorker();
    // The pages first: they hold subscriptions open.
    for (const child of this.children.reverse()) await child.stop();
  }
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
