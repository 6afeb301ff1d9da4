// Serves the built pages on a loopback port for the sandbox. Like its other servers it prints one JSON line when it is
// ready, and leaves when its standard input closes. CONVEX_URL says which deployment the pages are for.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import next from "next";

const HOST = "127.0.0.1";

const { values } = parseArgs({
  options: { "exit-with-stdin": { type: "boolean", default: false }, port: { type: "string", default: "0" } },
});

let handle = (_request, response) => response.writeHead(503).end();
const server = createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(Number(values.port), HOST, resolve));
const { port } = server.address();

const app = next({ dev: false, dir: import.meta.dirname, hostname: HOST, httpServer: server, port });
await app.prepare();
handle = app.getRequestHandler();

const exit = () => process.exit(0);
process.once("SIGTERM", exit);
process.once("SIGINT", exit);
if (values["exit-with-stdin"]) process.stdin.once("close", exit).resume();
process.stdout.write(`${JSON.stringify({ address: `http://${HOST}:${String(port)}` })}\n`);
