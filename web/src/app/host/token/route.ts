// Stands in for the app's sign-in service: a token of the sandbox's user. The sandbox's server refuses browsers.
export async function GET(): Promise<Response> {
  const answer = await fetch(`${process.env.CONVEX_URL ?? ""}/sandbox/token`, {
    body: JSON.stringify({ subject: process.env.SANDBOX_USER ?? "demo" }),
    cache: "no-store",
    headers: { "Content-Type": "application/json" },
    method: "POST",
  });
  const { token } = (await answer.json()) as { token?: string };
  return Response.json({ token: token ?? null }, { headers: { "Cache-Control": "no-store" }, status: answer.status });
}
