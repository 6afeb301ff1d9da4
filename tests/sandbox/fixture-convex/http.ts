import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";

const http = httpRouter();

http.route({
  path: "/hook",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const identity = await ctx.auth.getUserIdentity();
    const body = await request.text();
    return new Response(JSON.stringify({ body, subject: identity?.subject ?? null, tag: request.headers.get("x-tag") }), {
      status: 201,
      headers: { "content-type": "application/json" },
    });
  }),
});

http.route({
  pathPrefix: "/broken/",
  method: "GET",
  handler: httpAction(() => Promise.reject(new Error("a secret detail"))),
});

export default http;
