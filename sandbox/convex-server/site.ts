// HTTP actions of convex/http.ts: on the site's own port, and under /http/ on the API's.
import type { IncomingMessage, ServerResponse } from "node:http";
import { NOBODY, newRequestId, type Caller } from "./engine";
import { HttpError, readBody, sendJson } from "./reply";
import type { Sandbox } from "./sandbox";

export async function handleSite(
  sandbox: Sandbox,
  pathAndQuery: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (!sandbox.engine.hasHttp) {
    throw new HttpError(404, "NotFound", "This Convex deployment does not have HTTP actions enabled.");
  }
  const method = request.method ?? "GET";
  const body = await readBody(request);
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    for (const single of [value ?? []].flat()) headers.append(name, single);
  }
  const init = { method, headers, ...(method === "GET" || method === "HEAD" ? {} : { body: new Uint8Array(body) }) };
  let answer: Response;
  try {
    answer = await sandbox.engine.fetch(pathAndQuery, init, await tryCaller(sandbox, request));
  } catch (error) {
    const trace = error instanceof Error ? error.message : String(error);
    sendJson(response, 500, {
      code: `[Request ID: ${newRequestId()}] Server Error`,
      ...(sandbox.dev ? { trace } : {}),
    });
    return;
  }
  const answered: Record<string, string | string[]> = Object.fromEntries(answer.headers);
  const cookies = answer.headers.getSetCookie();
  if (cookies.length > 0) answered["set-cookie"] = cookies;
  response.writeHead(answer.status, answered);
  response.end(Buffer.from(await answer.arrayBuffer()));
}

/** A header that is no valid Convex token may be meant for the action itself: it runs without identity. */
async function tryCaller({ auth }: Sandbox, request: IncomingMessage): Promise<Caller> {
  try {
    return await auth.fromHeader(request.headers.authorization);
  } catch {
    return NOBODY;
  }
}
