// The chores of convex/crons.ts, on time, as the local server runs them.
import { expect, test } from "vitest";
import { createRobot, TestServer, until } from "./server";

test("the import's chores run each minute and each hour", async () => {
  const environment = ["TRADE_SYNC_JWKS=data:application/json,{}", "NEXT_PUBLIC_CLERK_FRONTEND_API_URL=https://clerk.example"];
  const server = await TestServer.start(
    await createRobot(),
    ...["--functions", "convex", "--crons"],
    ...environment.flatMap((variable) => ["--env", variable]),
  );
  const runs = async () => (await server.control("GET", "calls?cause=internal")) as Record<string, number>;
  try {
    await server.control("POST", "clock", { offsetMs: 61_000 });
    await until(async () => {
      const silences = (await server.control("GET", "documents?table=workerSilence")) as unknown[];
      return silences.length === 1;
    }, "the worker's silence to be noticed");
    expect(await runs()).toMatchObject({ "tradeImport/maintenance:everyMinute": 1 });

    await server.control("POST", "clock", { offsetMs: 3_661_000 });
    await until(async () => (await runs())["tradeImport/maintenance:forgetHeartbeats"] === 1, "the hour's chores");
    expect(await runs()).toMatchObject({
      "tradeImport/maintenance:checkPositions": 1,
      "tradeImport/maintenance:everyHour": 1,
      "tradeImport/maintenance:forgetJobs": 1,
      "tradeImport/maintenance:forgetPayloads": 1,
    });
  } finally {
    await server.stop();
  }
});
