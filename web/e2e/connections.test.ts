// Connections and their troubles, with the real worker and the simulated brokers.
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inspect, openBrowser, openWindow, PHONE } from "./harness/browser";
import { World } from "./harness/world";

let world: World;
let browser: Browser;
let page: Page & { noise: string[] };

beforeAll(async () => {
  [world, browser] = await Promise.all([
    World.start({
      ibkr: ["--trades", "10", "--years", "0.2", "--seed", "pages", "--no-reset"],
      kraken: ["--trades", "60", "--years", "0.5", "--seed", "pages"],
    }),
    openBrowser(),
  ]);
  page = await openWindow(browser);
});

afterAll(async () => {
  await browser.close();
  await world.stop();
});

const card = (on: Page, name: string) => on.getByRole("article", { name });
const press = (on: Page, name: string) => on.getByRole("button", { exact: true, name }).click();

async function openPage(on: Page, place: "connections" | "errors" | "inbox"): Promise<void> {
  await on.goto(`${world.pages}/import/${place}`);
  await on.getByRole("navigation", { name: "Import" }).waitFor();
}

describe("connect Kraken", () => {
  test("what is missing or wrong is said before anything is sent", async () => {
    await openPage(page, "connections");
    await press(page, "Connect an account");
    await inspect(page, "connect-choose");
    await page.getByRole("button", { name: /^Kraken/ }).click();
    await page.getByText("Query closed orders & trades").waitFor();
    await press(page, "Connect");
    await page.getByText("API key is empty.").waitFor();
    expect(await page.evaluate(() => document.activeElement?.getAttribute("name"))).toBe("apiKey");
    await inspect(page, "connect-kraken-empty");

    await page.getByLabel("API key").fill(world.kraken?.apiKey ?? "");
    await page.getByLabel("Private key").fill("dG9vIHNob3J0");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("The private key is not complete. Copy it again, to the last character.").waitFor();
    expect(await world.journal.query<unknown[]>("tradeImport/connections:list")).toEqual([]);
  });

  test("saved, and the first sync tells whether the broker takes the key", async () => {
    await page.getByLabel("Private key").fill(world.kraken?.apiSecret ?? "");
    await page.getByLabel("Name (optional)").fill("Kraken spot");
    await press(page, "Connect");
    await page.getByRole("dialog").getByText("No worker has reported yet.").waitFor();
    await inspect(page, "connect-first-sync");
    world.startWorker();
    await page.getByText("The broker takes the credentials, and the first sync is done.").waitFor({ timeout: 60_000 });
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).first().click();
    await card(page, "Kraken spot").getByText("Up to date", { exact: true }).waitFor();
    const { pendingReview } = await world.journal.query<{ pendingReview: number }>("tradeImport/inbox:counts");
    expect(pendingReview).toBeGreaterThan(0);
    await page.getByRole("link", { name: `Inbox ${pendingReview}` }).waitFor();
    await inspect(page, "connections-one");
  });

  test("secrets come back nowhere, not even to their owner", async () => {
    await card(page, "Kraken spot").getByRole("button", { name: "New credentials" }).click();
    expect(await page.getByLabel("Private key").inputValue()).toBe("");
    expect(await page.content()).not.toContain(world.kraken?.apiSecret ?? "?");
    await inspect(page, "credentials");
    await page.keyboard.press("Escape");
    await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe("New credentials");
  });
});

describe("syncs", () => {
  test("each count opens its rows", async () => {
    const kraken = card(page, "Kraken spot");
    await kraken.getByRole("button", { name: "Recent syncs" }).click();
    const added = kraken.getByRole("button", { name: /^\d+ new$/ }).first();
    const count = Number((await added.textContent())?.split(" ")[0]);
    await inspect(page, "connections-jobs");
    await added.click();
    const dialog = page.getByRole("dialog", { name: "Rows this sync brought" });
    await dialog.getByRole("listitem").first().waitFor();
    if (count > 50) await dialog.getByRole("button", { name: "Show more" }).click();
    await expect.poll(() => dialog.getByRole("listitem").count(), { timeout: 10_000 }).toBe(count);
    await inspect(page, "job-rows");
    await page.keyboard.press("Escape");
  });

  test("a sync is taken back, and the next one brings its rows again", async () => {
    const pending = async () => (await world.journal.query<{ pendingReview: number }>("tradeImport/inbox:counts")).pendingReview;
    const before = await pending();
    const kraken = card(page, "Kraken spot");
    const line = kraken.getByRole("listitem").filter({ hasText: /\d+ new/ }).last();
    await line.getByRole("button", { name: "Undo" }).click();
    await inspect(page, "undo");
    await press(page, "Take it back");
    await line.getByText(/Taken back: \d+ rows/).waitFor({ timeout: 30_000 });
    expect(await pending()).toBeLessThan(before);
    await kraken.getByRole("button", { name: "Sync now" }).click();
    await expect.poll(pending, { interval: 250, timeout: 40_000 }).toBe(before);
  });

  test("pressed again at once, it says when it may be pressed again", async () => {
    const kraken = card(page, "Kraken spot");
    await kraken.getByText("Up to date", { exact: true }).waitFor();
    // Served just now: refused for ten seconds. A first press may still be queued.
    await expect
      .poll(
        async () => {
          await kraken.getByRole("button", { name: "Sync now" }).click();
          return await page.getByRole("status").getByText(/Just synced\. Again in \d+ seconds?\./).count();
        },
        { interval: 700, timeout: 30_000 },
      )
      .toBeGreaterThan(0);
  });

  test("B12 F10 a row that cannot be read is kept, readable, and read again on Retry", async () => {
    await world.krakenDoes("POST", "fills", { overrides: { price: "<script>alert(1)</script>" }, pair: "XXBTZUSD" });
    await expect
      .poll(async () => {
        await world.journal.mutation("tradeImport/sync:syncAll");
        return (await world.journal.query<{ rejects: number }>("tradeImport/inbox:counts")).rejects;
      }, { interval: 1_000, timeout: 40_000 })
      .toBe(1);
    await openPage(page, "errors");
    const problem = page.getByRole("region", { name: "Open problems" }).getByRole("listitem");
    await problem.getByText("1 row from the broker could not be read and is kept with the reason.").waitFor();
    const rows = page.getByRole("region", { name: "Rows that could not be read" });
    await rows.getByText("As the broker sent it").click();
    await rows.getByText("<script>alert(1)</script>").first().waitFor();
    await inspect(page, "errors-reject");
    await problem.getByRole("button", { name: "Retry" }).click();
    await page.getByRole("status").getByText(/1 row is read again by the next sync/).waitFor();
  });
});

describe("the session of Interactive Brokers", () => {
  test("connect the gateway and the reports", async () => {
    await openPage(page, "connections");
    await press(page, "Connect an account");
    await page.getByRole("button", { name: /^Interactive Brokers, gateway/ }).click();
    await page.getByLabel("Address of the gateway").fill(world.ibkr?.address ?? "");
    await page.getByLabel("Name (optional)").fill("IBKR live");
    await press(page, "Connect");
    await page.getByText("The broker takes the credentials").waitFor({ timeout: 60_000 });
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).first().click();

    await press(page, "Connect an account");
    await page.getByRole("button", { name: /^Interactive Brokers, Flex/ }).click();
    await inspect(page, "connect-flex");
    await page.getByLabel("Flex Web Service token").fill(world.ibkr?.flex.token ?? "");
    await page.getByLabel("Id of the Activity query (optional)").fill(world.ibkr?.flex.activityQuery ?? "");
    await page.getByLabel("Id of the Trade Confirmation query (optional)").fill(world.ibkr?.flex.confirmQuery ?? "");
    await page.getByLabel("The token ends on (optional)").fill("2027-06-30");
    await page.getByLabel("Account number").fill(world.ibkr?.accounts[0] ?? "");
    await page.getByLabel("Name (optional)").fill("IBKR reports");
    await press(page, "Connect");
    await page.getByText("The broker takes the credentials").waitFor({ timeout: 90_000 });
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).first().click();
    await card(page, "IBKR reports").getByText("Token ends").waitFor();
    await inspect(page, "connections-all");
  });

  test("it ends: a sentence and a button; somebody logs in: it heals without a click", async () => {
    const ibkr = card(page, "IBKR live");
    const id = (await world.journal.query<{ connectionId: string; label: string }[]>("tradeImport/connections:list")).find(
      ({ label }) => label === "IBKR live",
    )?.connectionId;
    await world.ibkrDoes("POST", "session", { do: "expire" });
    await expect
      .poll(async () => {
        await world.journal.mutation("tradeImport/sync:syncNow", { connectionId: id });
        return await ibkr.getByText("Needs you", { exact: true }).count();
      }, { interval: 1_500, timeout: 60_000 })
      .toBe(1);
    await ibkr.getByText(/Log in/).first().waitFor();
    await inspect(page, "connections-expired");

    const errors = await openWindow(browser, { touch: true, viewport: PHONE });
    await openPage(errors, "errors");
    const line = errors.getByRole("region", { name: "Open problems" }).getByRole("listitem").filter({ hasText: "IBKR live" });
    const link = line.getByRole("link", { name: /Log in at the gateway/ });
    await link.waitFor();
    await inspect(errors, "errors-expired");
    const [login] = await Promise.all([errors.context().waitForEvent("page"), link.click()]);
    await login.getByRole("button", { name: "Log in" }).click();
    await login.getByText("Client login succeeds").waitFor();
    await login.close();

    // The worker looks once a minute whether somebody has logged in.
    await line.waitFor({ state: "detached", timeout: 100_000 });
    await ibkr.getByText("Up to date", { exact: true }).waitFor({ timeout: 30_000 });
    await errors.context().close();
  }, 240_000);
});

describe("without a worker", () => {
  test("Sync now waits, is seen in two windows, and is served when the worker starts", async () => {
    await world.stopWorker();
    const other = await openWindow(browser);
    await openPage(other, "connections");
    const there = card(other, "Kraken spot");
    await there.getByText("Kraken · ").first().waitFor();
    await card(page, "Kraken spot").getByRole("button", { name: "Sync now" }).click();
    await card(page, "Kraken spot").getByText("Requested: it starts in a moment.").waitFor();
    await there.getByText("Requested: it starts in a moment.").waitFor();

    // Three minutes later, for one of the windows: nobody has heard of the worker for longer than it may be silent.
    const later = await openWindow(browser);
    await later.addInitScript(() => {
      const { now } = Date;
      Date.now = () => now() + 180_000;
    });
    await openPage(later, "connections");
    await card(later, "Kraken spot").getByText("Requested: it starts as soon as the worker runs.").waitFor();
    await inspect(later, "connections-offline-worker");
    await openPage(later, "errors");
    await later.getByText("The worker is not running: nothing is imported until it is.").waitFor();
    await inspect(later, "errors-offline-worker");
    await later.context().close();

    world.startWorker();
    for (const window of [page, other]) {
      await expect.poll(() => card(window, "Kraken spot").getByText(/^Requested/).count(), { timeout: 60_000 }).toBe(0);
      await card(window, "Kraken spot").getByText("Up to date", { exact: true }).waitFor({ timeout: 30_000 });
    }
    await other.context().close();
  }, 240_000);
});

describe("settings and the end", () => {
  test("a wrong interval is refused with a sentence, a right one is kept, and another window shows it", async () => {
    const other = await openWindow(browser);
    await openPage(other, "connections");
    const kraken = card(page, "Kraken spot");
    await kraken.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Minutes between syncs").fill("0");
    await press(page, "Save");
    await page.getByRole("alert").getByText("The interval is a whole number of minutes between 1 and 1440.").waitFor();
    await inspect(page, "settings");
    await page.getByLabel("Minutes between syncs").fill("30");
    await press(page, "Save");
    await kraken.getByText("every 30 min").waitFor();
    await card(other, "Kraken spot").getByText("every 30 min").waitFor();
    await other.context().close();
  });

  test("disconnect keeps the trades and can be taken back by new credentials", async () => {
    const before = await world.journal.query<{ pendingReview: number }>("tradeImport/inbox:counts");
    const kraken = card(page, "Kraken spot");
    await kraken.getByRole("button", { exact: true, name: "Disconnect" }).click();
    await inspect(page, "disconnect");
    await page.getByRole("dialog").getByRole("button", { exact: true, name: "Disconnect" }).click();
    await kraken.getByText("Disconnected. The imported trades stay.").waitFor();
    expect(await world.journal.query("tradeImport/inbox:counts")).toMatchObject({ pendingReview: before.pendingReview });
    expect(await kraken.getByRole("button", { name: "Sync now" }).count()).toBe(0);
    await kraken.getByRole("button", { name: "Connect again" }).click();
    await page.getByLabel("API key").fill(world.kraken?.apiKey ?? "");
    await page.getByLabel("Private key").fill(world.kraken?.apiSecret ?? "");
    await press(page, "Save");
    await kraken.getByText("Up to date", { exact: true }).waitFor({ timeout: 60_000 });
    expect(page.noise).toEqual([]);
  });
});
