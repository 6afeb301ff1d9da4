// npx tsx sandbox/convex-server/main.ts --functions convex --port 0 --env NAME=VALUE …
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { Authenticator, loadProviders } from "./auth";
import { CronTable } from "./crons";
import { Engine } from "./engine";
import { FaultBook } from "./faults";
import { handleApi, sendError } from "./http";
import { Issuer } from "./issuer";
import { HttpError } from "./reply";
import type { Sandbox } from "./sandbox";
import { handleSite } from "./site";
import { SyncServer } from "./sync";

const HOST = "127.0.0.1";
const DEFAULT_PORT = 3210;

const USAGE = `Serves a convex folder over Convex's own protocols, with all data in memory.

  npx tsx sandbox/convex-server/main.ts [options]

  --functions DIR     the convex folder (default: convex)
  --port N            API and WebSocket port; 0 takes a free one (default: 3210)
  --site-port N       port of the HTTP actions (default: 3211 beside 3210, else a free one)
  --env NAME=VALUE    an environment variable of the deployment; repeatable
  --admin-key KEY     instead of a random one
  --dev               show error texts and logs to clients, as development deployments do
  --crons             run the jobs of crons.ts on time
  --exit-with-stdin   stop when standard input closes
`;

type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

interface Options {
  readonly functions: string;
  readonly port: number;
  readonly sitePort: number;
  readonly env: Record<string, string>;
  readonly adminKey: string;
  readonly dev: boolean;
  readonly crons: boolean;
  readonly exitWithStdin: boolean;
}

function readOptions(argv: string[]): Options | "help" {
  const { values } = parseArgs({
    args: argv,
    options: {
      functions: { type: "string", default: "convex" },
      port: { type: "string", default: String(DEFAULT_PORT) },
      "site-port": { type: "string" },
      env: { type: "string", multiple: true, default: [] },
      "admin-key": { type: "string" },
      dev: { type: "boolean", default: false },
      crons: { type: "boolean", default: false },
      "exit-with-stdin": { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const port = portNumber(values.port);
  const pairs = values.env.map((pair): [string, string] => {
    const at = pair.indexOf("=");
    if (at < 1) throw new Error(`--env ${pair} is not of the form NAME=VALUE.`);
    return [pair.slice(0, at), pair.slice(at + 1)];
  });
  return {
    functions: values.functions,
    port,
    sitePort: portNumber(values["site-port"] ?? (port === DEFAULT_PORT ? String(DEFAULT_PORT + 1) : "0")),
    env: Object.fromEntries(pairs),
    adminKey: values["admin-key"] ?? `sandbox|${randomBytes(24).toString("hex")}`,
    dev: values.dev,
    crons: values.crons,
    exitWithStdin: values["exit-with-stdin"],
  };
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`${text} is not a port number.`);
  return port;
}

/** Listens at once, so that the addresses are known, and answers 503 until there is a handler. */
async function listen(port: number): Promise<{ server: Server; address: string; handle: (handler: Handler) => void }> {
  let handler: Handler = () => Promise.reject(new HttpError(503, "ServiceUnavailable", "The sandbox is starting."));
  const server = createServer((request, response) => {
    handler(request, response).catch((error: unknown) => {
      sendError(response, error);
    });
  });
  server.listen(port, HOST);
  await once(server, "listening");
  const address = `http://${HOST}:${String((server.address() as AddressInfo).port)}`;
  return {
    server,
    address,
    handle: (ready) => {
      handler = ready;
    },
  };
}

async function start(options: Options): Promise<{ sandbox: Sandbox; stop: () => void }> {
  const api = await listen(options.port);
  const site = await listen(options.sitePort);
  const issuerUrl = `${api.address}/sandbox/issuer`;
  const env: Record<string, string> = {
    NEXT_PUBLIC_CLERK_FRONTEND_API_URL: issuerUrl,
    ...options.env,
    CONVEX_CLOUD_URL: api.address,
    CONVEX_SITE_URL: site.address,
  };
  const engine = await Engine.open(options.functions, env);
  const providers = await loadProviders(engine.authConfigFile, env);
  const auth = new Authenticator(providers, options.adminKey, () => engine.now());
  const crons = new CronTable(engine);
  const sandbox: Sandbox = {
    address: api.address,
    siteAddress: site.address,
    adminKey: options.adminKey,
    dev: options.dev,
    engine,
    auth,
    issuer: await Issuer.create(issuerUrl, () => engine.now()),
    faults: new FaultBook(),
    async setEnv(name, value) {
      const { [name]: _replaced, ...rest } = env;
      const changed = value === null ? rest : { ...rest, [name]: value };
      auth.use(await loadProviders(engine.authConfigFile, changed));
      if (value === null) Reflect.deleteProperty(env, name);
      else env[name] = value;
    },
    runCron: (name) => crons.runNow(name),
  };
  const sync = new SyncServer(sandbox, api.server);
  api.handle((request, response) => handleApi(sandbox, request, response));
  site.handle((request, response) => handleSite(sandbox, request.url ?? "/", request, response));
  if (options.crons) crons.start();
  const stop = () => {
    sync.close();
    engine.clock.cancelAll();
    for (const { server } of [api, site]) {
      server.close();
      server.closeAllConnections();
    }
  };
  return { sandbox, stop };
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === "help") {
    process.stdout.write(USAGE);
    return;
  }
  const { sandbox, stop } = await start(options);
  const exit = () => {
    stop();
    // Timers and requests of functions still running must not hold the process.
    process.exit(0);
  };
  process.once("SIGTERM", exit);
  process.once("SIGINT", exit);
  if (options.exitWithStdin) process.stdin.once("close", exit).resume();
  const { address, siteAddress, adminKey, issuer } = sandbox;
  process.stdout.write(`${JSON.stringify({ address, siteAddress, adminKey, issuer: issuer.url })}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
