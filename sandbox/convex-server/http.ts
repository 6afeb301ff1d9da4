// The HTTP API (reference convex section 2).
import type { IncomingMessage, ServerResponse } from "node:http";
import { convexToJson } from "convex/values";
import { Refused } from "./auth";
import { handleControl } from "./control";
import { errorText, type Caller, type Outcome } from "./engine";
import { canonicalPath, type Kind } from "./functions";
import { HttpError, parseJson, readJson, send, sendJson } from "./reply";
import type { Sandbox } from "./sandbox";
import { handleSite } from "./site";
import { encode, encodeTs, parseFormat, writeFloats, type Format } from "./values";

interface FunctionRequest {
  readonly kind: Kind | "any";
  readonly path: string;
  readonly args: unknown;
  readonly format: Format;
}

/** Request headers that browsers may send: those of the JavaScript clients and of error trackers. */
const ALLOWED_HEADERS =
  "authorization, baggage, content-type, convex-client, sentry-trace, traceparent, x-convex-client";

export async function handleApi(sandbox: Sandbox, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", sandbox.address);
  try {
    if (url.pathname.startsWith("/sandbox/")) {
      await handleControl(sandbox, url, request, response);
      return;
    }
    if (url.pathname === "/http" || url.pathname.startsWith("/http/")) {
      await handleSite(sandbox, (url.pathname.slice("/http".length) || "/") + url.search, request, response);
      return;
    }
    allowOrigin(request, response);
    if (request.method === "OPTIONS") {
      response.writeHead(200).end();
      return;
    }
    await route(sandbox, url, request, response);
  } catch (error) {
    sendError(response, error);
  }
}

async function route(sandbox: Sandbox, url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { engine } = sandbox;
  const endpoint = `${request.method ?? ""} ${url.pathname}`;
  switch (endpoint) {
    case "GET /":
      send(response, 200, "This Convex deployment is running. See https://docs.convex.dev/.", "text/plain");
      return;
    case "GET /version":
      send(response, 200, "unknown", "text/plain");
      return;
    case "GET /instance_name":
      send(response, 200, "sandbox", "text/plain");
      return;
    case "GET /api/query": {
      const args = parseJson(url.searchParams.get("args") ?? "{}", "The query's `args` are not JSON.");
      const body = { path: url.searchParams.get("path"), args, format: url.searchParams.get("format") };
      await answerFunction(sandbox, parse("query", body), request, response);
      return;
    }
    case "POST /api/query":
    case "POST /api/mutation":
    case "POST /api/action":
    case "POST /api/query_at_ts": {
      // Old states are not kept: a query at a timestamp sees the present one.
      const name = url.pathname === "/api/query_at_ts" ? "query" : (url.pathname.slice("/api/".length) as Kind);
      await answerFunction(sandbox, parse(name, await readJson(request)), request, response);
      return;
    }
    case "POST /api/function": {
      const caller = await sandbox.auth.fromHeader(request.headers.authorization);
      if (!caller.isAdmin) throw new HttpError(403, "Forbidden", "This endpoint needs the admin key.");
      await answerFunction(sandbox, parse("any", await readJson(request)), request, response);
      return;
    }
    case "POST /api/query_ts":
      sendJson(response, 200, { ts: encodeTs(engine.ts) });
      return;
    case "POST /api/query_batch": {
      const { queries } = await readJson(request);
      if (!Array.isArray(queries)) throw new HttpError(400, "BadJsonBody", "`queries` must be an array.");
      const caller = await sandbox.auth.fromHeader(request.headers.authorization);
      const results: string[] = [];
      for (const query of queries) {
        const asked = parse("query", query as Record<string, unknown>);
        results.push(outcomeJson(sandbox, await engine.run({ ...asked, caller }), asked.format));
      }
      send(response, 200, `{"results":[${results.join(",")}]}`, "application/json");
      return;
    }
  }
  const named = /^POST \/api\/run\/(.+)\/([^/]+)$/.exec(endpoint);
  if (named !== null) {
    const body = { ...(await readJson(request)), path: `${named[1] ?? ""}:${named[2] ?? ""}` };
    await answerFunction(sandbox, parse("any", body), request, response);
    return;
  }
  throw new HttpError(404, "NotFound", `There is nothing at ${url.pathname}.`);
}

function parse(kind: Kind | "any", { path, args, format: name }: Record<string, unknown>): FunctionRequest {
  if (typeof path !== "string" || !/^[\w./]+(:\w+)?$/.test(path)) {
    throw new HttpError(400, "BadConvexFunctionIdentifier", "`path` must look like `module:function`.");
  }
  if (args !== undefined && (typeof args !== "object" || args === null)) {
    throw new HttpError(400, "BadJsonBody", "`args` must be an object.");
  }
  const format = parseFormat(name);
  if (format === null) throw new HttpError(400, "BadFormat", "`format` must be json or convex_encoded_json.");
  return { kind, path, args, format };
}

async function answerFunction(
  sandbox: Sandbox,
  asked: FunctionRequest,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const fault = sandbox.faults.take(canonicalPath(asked.path), "http");
  switch (fault?.kind) {
    case "refuse":
      if (fault.body !== undefined) {
        send(response, fault.status ?? 503, fault.body, fault.contentType ?? "text/html");
        return;
      }
      throw new HttpError(fault.status ?? 503, "ServiceUnavailable", "Refused by the sandbox, as ordered.");
    case "conflict":
      throw new HttpError(
        503,
        "OptimisticConcurrencyControlFailure",
        "Data read or written in this mutation changed while it was being run. Consider reducing the amount of data read.",
      );
    case "hang":
      return;
    case "die_before_commit":
      request.socket.destroy();
      return;
    case "delay":
      await new Promise((resolve) => setTimeout(resolve, fault.ms ?? 0));
      break;
    case "die_after_commit":
    case "die_before_transition":
    case undefined:
      break;
  }
  const caller: Caller = await sandbox.auth.fromHeader(request.headers.authorization);
  const outcome = await sandbox.engine.run({ ...asked, caller });
  if (fault?.kind === "die_after_commit") {
    request.socket.destroy();
    return;
  }
  send(response, 200, outcomeJson(sandbox, outcome, asked.format), "application/json");
}

function outcomeJson({ dev }: Sandbox, outcome: Outcome, format: Format): string {
  const logLines = dev && outcome.log.length > 0 ? { logLines: outcome.log } : {};
  if (outcome.ok) {
    const rest = JSON.stringify({ status: "success", ...logLines });
    return `${rest.slice(0, -1)},"value":${writeFloats(encode(outcome.value, format))}}`;
  }
  return JSON.stringify({
    status: "error",
    errorMessage: errorText(outcome, dev),
    ...(outcome.data === undefined ? {} : { errorData: convexToJson(outcome.data) }),
    ...logLines,
  });
}

function allowOrigin(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader("Vary", "Origin");
  if (request.headers.origin === undefined) return;
  response.setHeader("Access-Control-Allow-Origin", request.headers.origin);
  response.setHeader("Access-Control-Allow-Credentials", "true");
  response.setHeader("Access-Control-Allow-Methods", "GET, POST, OPTIONS, PATCH, DELETE, PUT");
  response.setHeader("Access-Control-Allow-Headers", ALLOWED_HEADERS);
  response.setHeader("Access-Control-Max-Age", "86400");
}

export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (error instanceof HttpError) {
    sendJson(response, error.status, { code: error.code, message: error.message });
  } else if (error instanceof Refused) {
    const status = error.code === "BadAdminKey" ? 403 : 401;
    sendJson(response, status, { code: error.code, message: error.message });
  } else {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    sendJson(response, 500, { code: "InternalServerError", message: "Your request couldn't be completed." });
  }
}
