// How a connection is drawn while it works and when something of its history is missing. The rows come as the worker's do.
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { inspect, openBrowser, openWindow } from "./harness/browser";
import { ibkrFill } from "./harness/fills";
import { World } from "./harness/world";

const DAY = 86_400_000;
const NOW = Date.now();

let world: World;
let browser: Browser;
let page: Page & { noise: string[] };
let connectionId: string;
let lease: { fence: number; jobId: string };
let batch = 0;

beforeAll(async () => {
  [world, browser] = await Promise.all([World.start(), openBrowser()]);
  page = await openWindow(browser);
  connectionId = await world.journal.mutation<string>("tradeImport/connections:create", {
    accountRef: "U1234567",
    auth: { baseUrl: "https://localhost:5000", kind: "ibkr_gateway" },
    kind: "ibkr_gateway",
    label: "IBKR live",
  });
  await world.asWorker.mutation("tradeImport/worker:beat", { startedAt: NOW, version: "1.0.0", workerId: "e2e" });
  lease = await claim();
  await page.goto(`${world.pages}/import/connections`);
});

afterAll(async () => {
  await browser.close();
  await world.stop();
});

async function claim(): Promise<typeof lease> {
  const answer = await world.asWorker.mutation<{ granted: boolean; lease: typeof lease }>("tradeImport/worker:claim", {
    connectionId,
    mode: "manual",
    workerId: "e2e",
  });
  expect(answer.granted).toBe(true);
  return answer.lease;
}

async function ingest(rows: Record<string, unknown>): Promise<void> {
  batch += 1;
  const { fence, jobId } = lease;
  await world.asWorker.mutation("tradeImport/worker:ingest", { batch, executions: [], fence, jobId, rejects: [], ...rows });
}

async function finish(outcome: Record<string, unknown>): Promise<void> {
  const { fence, jobId } = lease;
  await world.asWorker.mutation("tradeImport/worker:finish", {
    breaker: { failures: 0, phase: "closed" },
    counts: { errors: 0, fetched: 0, remembered: 0, skipped: 0 },
    fence,
    jobId,
    nextSyncIn: 900_000,
    outcome,
  });
}

test("a history that is being read shows how far it is", async () => {
  await ingest({ progress: { completeBackTo: NOW - 40 * DAY, rows: 3_000, total: 12_000 } });
  await page.getByText(/Reading history: 3,000 of 12,000 rows, complete back to/).waitFor();
  expect(await page.getByRole("progressbar", { name: "History read" }).getAttribute("aria-valuenow")).toBe("25");
  await page.getByRole("button", { name: "Sync now" }).click();
  await page.getByRole("status").getByText("A sync is running already; yours is part of it.").waitFor();
  await inspect(page, "connections-backfill");
});

test("a gap is drawn, named, and has something to do; it goes when the time has been read", async () => {
  const interval = (from: number, to: number) => ({ end: NOW - to * DAY, source: "ibkr_live", start: NOW - from * DAY });
  await ingest({ coverage: [interval(90, 30), interval(9, 0)], executions: [ibkrFill("a.1")] });
  await finish({
    problem: {
      action: "import_flex",
      code: "gap",
      sentence: "Executions of some days may be missing. If you did not trade then, nothing is missing.",
    },
    reason: "gap",
    status: "partial",
  });
  await page.getByText("but for 1 gap").waitFor();
  await page.getByText("Times that may be missing").click();
  await inspect(page, "connections-gap");
  await page.getByRole("button", { name: "How to close the gap" }).click();
  await page.getByText(`trade-sync import-flex FILE.xml --connection ${connectionId}`).waitFor();
  await inspect(page, "close-gap");
  await page.keyboard.press("Escape");

  const errors = await openWindow(browser);
  await errors.goto(`${world.pages}/import/errors`);
  const line = errors.getByRole("region", { name: "Open problems" }).getByRole("listitem");
  await line.getByRole("button", { name: "How to import it" }).waitFor();
  await inspect(errors, "errors-gap");

  lease = await claim();
  batch = 0;
  await ingest({ coverage: [interval(90, 0)] });
  await finish({ reason: "none", status: "succeeded" });
  await line.waitFor({ state: "detached" });
  await errors.getByRole("heading", { name: "Nothing is wrong" }).waitFor();
  await page.getByText("but for 1 gap").waitFor({ state: "detached" });
});

test("executions that are no trades are kept readable, with their reason", async () => {
  await page.goto(`${world.pages}/import/errors`);
  await page.getByRole("heading", { name: "Nothing is wrong" }).waitFor();
  lease = await claim();
  batch = 0;
  await ingest({
    executions: [
      ibkrFill("opt.1", { assetClass: "option", rawPayload: '{"sec_type":"OPT","price":1.250}', rawSymbol: "IWM", symbol: "IWM 210319C00226000" }),
    ],
  });
  await finish({ reason: "none", status: "succeeded" });
  await page.getByText("1 execution of a class that the journal has no place for is kept outside it.").waitFor();
  const held = page.getByRole("region", { name: "Held outside the journal" });
  await held.getByText("The journal has no place for this class yet.").waitFor();
  await held.getByText("As the broker sent it").click();
  // To the last digit: 1.250, not 1.25.
  await held.getByText('"price": 1.250').waitFor();
  await inspect(page, "errors-held");
});

test("F12 what a job says of its failure is text, and an address that is none of the web is no link", async () => {
  await page.goto(`${world.pages}/import/connections`);
  lease = await claim();
  batch = 0;
  await finish({
    problem: {
      action: "log_in",
      code: "hostile",
      sentence: "<img src=x onerror=alert(1)> \u202Eevil",
      url: "javascript:alert(1)",
    },
    reason: "auth",
    status: "blocked_reauth",
  });
  await page.getByText("Needs you", { exact: true }).waitFor();
  expect(await page.locator("article img").count()).toBe(0);
  expect(await page.locator('a[href^="javascript"]').count()).toBe(0);
  expect(await page.getByText("\u202E").count()).toBe(0);
  await inspect(page, "connections-hostile");
  expect(page.noise).toEqual([]);
});
