// What tests and demos steer the sandbox with: everything under /sandbox/. No real deployment has it.
import type { IncomingMessage, ServerResponse } from "node:http";
import { convexToJson } from "convex/values";
import { AuthConfigError } from "./auth";
import { HttpError, readJson, sendJson } from "./reply";
import type { Sandbox } from "./sandbox";
import type { TokenRequest } from "./issuer";
import type { Cause } from "./world";

export async function handleControl(
  sandbox: Sandbox,
  url: URL,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { engine, faults, issuer } = sandbox;
  if (request.headers.origin !== undefined) {
    // Any page a browser opens can reach a loopback port; none of them may steer the sandbox.
    throw new HttpError(403, "Forbidden", "The sandbox's controls are not for browsers.");
  }
  switch (`${request.method ?? ""} ${url.pathname.slice("/sandbox".length)}`) {
    case "GET /issuer/.well-known/openid-configuration":
      sendJson(response, 200, issuer.discovery);
      return;
    case "GET /issuer/.well-known/jwks.json":
      sendJson(response, 200, issuer.jwks);
      return;
    case "POST /token": {
      const body = (await readJson(request)) as Partial<TokenRequest>;
      if (typeof body.subject !== "string" || body.subject === "") bad("`subject` names the user the token is for.");
      sendJson(response, 200, { token: await issuer.token(body as TokenRequest) });
      return;
    }
    case "POST /env": {
      const { name, value } = await readJson(request);
      if (typeof name !== "string" || !(typeof value === "string" || value === null)) {
        bad("Send `name` and `value`; a value of null removes the variable.");
      }
      try {
        await sandbox.setEnv(name, value);
      } catch (error) {
        if (error instanceof AuthConfigError) bad(error.message);
        throw error;
      }
      sendJson(response, 200, {});
      return;
    }
    case "POST /clock": {
      const { offsetMs } = await readJson(request);
      if (typeof offsetMs !== "number") bad("`offsetMs` is how far the clock runs ahead of the machine's.");
      engine.clock.shift(offsetMs);
      sendJson(response, 200, { now: engine.now() });
      return;
    }
    case "GET /calls":
      // Calls by clients unless asked otherwise: ?cause=subscription counts re-runs, ?cause=internal the rest.
      sendJson(response, 200, engine.callCounts(causeOf(url.searchParams.get("cause") ?? "client")));
      return;
    case "GET /reads":
      sendJson(response, 200, engine.readCounts(causeOf(url.searchParams.get("cause") ?? "client")));
      return;
    case "DELETE /calls":
      engine.resetCallCounts();
      sendJson(response, 200, {});
      return;
    case "GET /functions":
      sendJson(response, 200, engine.functions());
      return;
    case "GET /documents": {
      const table = url.searchParams.get("table");
      if (table === null) bad("Name the table: ?table=…");
      const wanted = [...url.searchParams].filter(([name]) => name !== "table");
      const documents = engine.documents(table).filter((row) => wanted.every(([name, value]) => row[name] === value));
      sendJson(response, 200, documents.map((document) => convexToJson(document)));
      return;
    }
    case "POST /faults": {
      const ordered = attempt(faults.order.bind(faults), await readJson(request));
      sendJson(response, 200, ordered);
      return;
    }
    case "GET /faults":
      sendJson(response, 200, faults.pending());
      return;
    case "DELETE /faults":
      faults.clear();
      sendJson(response, 200, {});
      return;
    case "POST /crons": {
      const { name } = await readJson(request);
      if (typeof name !== "string") bad("`name` is the cron job to run now.");
      await sandbox.runCron(name);
      sendJson(response, 200, {});
      return;
    }
    default:
      throw new HttpError(404, "NotFound", `There is nothing at ${url.pathname}.`);
  }
}

function causeOf(name: string): Cause {
  if (name === "client" || name === "subscription" || name === "internal") return name;
  return bad("`cause` is client, subscription or internal.");
}

function bad(message: string): never {
  throw new HttpError(400, "BadRequest", message);
}

function attempt<In, Out>(action: (input: In) => Out, input: In): Out {
  try {
    return action(input);
  } catch (error) {
    return bad(error instanceof Error ? error.message : String(error));
  }
}
