// The Import Inbox in a real browser: by keyboard, by mouse, on a phone, with hostile text.
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { DESK, inspect, openBrowser, openWindow, PHONE, wireOf } from "./harness/browser";
import { Account, ibkrFill, krakenFill, makeCampaign, makePlan, storedTrades, type Fill } from "./harness/fills";
import { pressUntilGone } from "./harness/latency";
import { World } from "./harness/world";

let world: World;
let browser: Browser;
let page: Page & { noise: string[] };
let wire: Awaited<ReturnType<typeof wireOf>>;

beforeAll(async () => {
  browser = await openBrowser();
});

afterAll(async () => {
  await browser.close();
});

beforeEach(async () => {
  world = await World.start();
});

afterEach(async () => {
  expect(page.noise).toEqual([]);
  await page.context().close();
  await world.stop();
});

const AN_HOUR_AGO = Date.now() - 3_600_000;

async function openInbox(query = "", options: Parameters<typeof openWindow>[1] = {}): Promise<void> {
  page = await openWindow(browser, options);
  wire = await wireOf(page);
  await page.goto(`${world.pages}/import/inbox${query}`);
  await page.getByRole("group", { name: "State" }).waitFor();
}

const grid = () => page.getByRole("treegrid", { name: "Imported trades" });
/** Lines as they are shown, without the details of open ones. */
const lines = () => page.locator("[data-line]");
const line = (text: RegExp | string) => lines().filter({ hasText: text });
const cursor = () => page.locator("[data-cursor]");
const toast = (text: RegExp | string) => page.getByRole("region", { name: "Messages" }).getByText(text);
/** In the list; where there is none, around it. */
const hasFocus = () =>
  page.evaluate(() => {
    const list = document.querySelector("[role=treegrid]");
    return document.activeElement !== document.body && (list === null || list === document.activeElement);
  });

async function decisions(): Promise<Record<string, string>> {
  const plans = (await world.server("GET", "documents?table=tradePlans")) as { _id: string; name: string }[];
  const campaigns = (await world.server("GET", "documents?table=campaigns")) as { _id: string; name: string }[];
  const names = new Map([...plans, ...campaigns].map(({ _id, name }) => [_id, name]));
  return Object.fromEntries(
    (await storedTrades(world)).map((trade) => [
      String(trade.externalExecutionId),
      trade.inboxStatus === "pending_review" ? "in review" : (names.get(String(trade.tradePlanId ?? trade.campaignId)) ?? "no plan"),
    ]),
  );
}

/** Four fills of one order, a second apart. */
function order(index: number, changes: Record<string, unknown>): Fill[] {
  return [1, 2, 3, 4].map((part) =>
    krakenFill(`O${index}-${part}`, {
      externalOrderId: `ORDER-${index}`,
      occurredAt: AN_HOUR_AGO - index * 60_000 - part * 1_000,
      price: `${100 + index}.5`,
      quantity: "0.25",
      ...changes,
    }),
  );
}

// The servers, the browser and perhaps others share the machine's cores: a slow moment of theirs is none of the page's.
test("forty fills in ten orders by keyboard alone: each action is seen within 100 ms, however slow the server", { retry: 2 }, async () => {
  const bases = ["BTC", "ETH", "SOL", "ADA", "DOT", "XMR"];
  for (const base of bases) await makePlan(world, `${base} plan`, `${base}/USD`);
  // Two for the same instrument: none is suggested.
  await makePlan(world, "Litecoin, the dip", "LTCUSD");
  await makePlan(world, "Litecoin, the break", "LTCUSD");
  const account = await Account.kraken(world);
  const symbols = [...bases, "LTC", "LTC", "ATOM", "NEAR"].map((base) => `${base}/USD`);
  await account.bring(symbols.flatMap((symbol, index) => order(index, { symbol })));
  await openInbox();
  await expect.poll(() => lines().count()).toBe(10);
  await expect.poll(hasFocus).toBe(true);
  // Half a second for every answer: what is seen does not wait for it.
  await world.server("POST", "faults", { function: "tradeImport/inbox:review", kind: "delay", ms: 500, times: 20 });

  let presses = 0;
  const taken: number[] = [];
  const act = async (key: string) => {
    presses += 1;
    taken.push(await pressUntilGone(page, key));
    await expect.poll(hasFocus).toBe(true);
  };
  for (const base of bases) {
    expect(await cursor().innerText()).toContain(`${base}/USD`);
    await act("Enter");
  }
  for (const typed of ["dip", "the b"]) {
    presses += 1;
    // Nobody waits for the chooser: what is typed at once is typed into it.
    await page.keyboard.press("p");
    await page.keyboard.type(typed);
    await expect.poll(() => page.getByRole("option", { name: /Litecoin/ }).count()).toBe(1);
    await act("Enter");
  }
  await act("b");
  await act("d");
  expect(await lines().count()).toBe(0);
  await page.getByRole("heading", { name: "Nothing waits for review" }).waitFor();
  await expect.poll(hasFocus).toBe(true);
  expect(presses).toBeLessThanOrEqual(40);
  expect(Math.max(...taken), `milliseconds: ${taken.map(Math.round).join(" ")}`).toBeLessThanOrEqual(100);

  const fills = (name: string, index: number) => [1, 2, 3, 4].map((part) => [`O${index}-${part}`, name]);
  const expected = [...bases.map((base) => `${base} plan`), "Litecoin, the dip", "Litecoin, the break", "no plan"].flatMap(fills);
  await expect.poll(decisions, { timeout: 20_000 }).toEqual(Object.fromEntries(expected));
});

test("whatever is decided is taken back by one key, in the order in which it was done", async () => {
  await makePlan(world, "Apple before earnings", "AAPL");
  const majors = await makeCampaign(world, "Majors");
  const account = await Account.ibkr(world);
  await account.bring([
    ibkrFill("A.01"),
    ibkrFill("B.01", { occurredAt: AN_HOUR_AGO - 1_000, symbol: "MSFT" }),
    ibkrFill("C.01", { occurredAt: AN_HOUR_AGO - 2_000, openClose: undefined, side: "sell", symbol: "TSLA" }),
    ibkrFill("D.01", { occurredAt: AN_HOUR_AGO - 3_000, symbol: "NVDA" }),
  ]);
  const before = await storedTrades(world);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(4);

  await page.keyboard.press("a");
  await toast(/AAPL.*saved with .*Apple before earnings/).waitFor();
  await page.keyboard.press("c");
  await page.getByPlaceholder("Campaign").waitFor();
  await page.keyboard.type("maj");
  await page.keyboard.press("Enter");
  await toast(/MSFT.*saved with .*Majors/).waitFor();
  // A guessed direction is turned, and saved with the decision.
  await expect.poll(() => cursor().innerText()).toContain("TSLA");
  await page.keyboard.press("t");
  await expect.poll(() => cursor().innerText()).toMatch(/Sell\s+long/);
  await page.keyboard.press("b");
  await toast(/TSLA.*saved without a plan/).waitFor();
  await page.keyboard.press("d");
  await page.getByRole("heading", { name: "Nothing waits for review" }).waitFor();
  await expect.poll(decisions).toEqual({ "A.01": "Apple before earnings", "B.01": "Majors", "C.01": "no plan" });
  expect((await storedTrades(world)).find(({ ticker }) => ticker === "TSLA")).toMatchObject({ direction: "long" });

  // The last one stands on the page, too.
  await page.getByRole("button", { name: "Undo" }).click();
  await expect.poll(() => lines().count()).toBe(1);
  for (const left of [2, 3, 4]) {
    await grid().focus();
    await page.keyboard.press("u");
    await expect.poll(() => lines().count()).toBe(left);
  }
  await page.keyboard.press("u");
  await toast("There is nothing to undo.").waitFor();
  const facts = (trades: Record<string, unknown>[]) =>
    trades
      .map(({ campaignId, direction, importFlags, inboxStatus, suggestedTradePlanId, ticker, tradePlanId }) => ({
        campaignId, direction, importFlags, inboxStatus, suggestedTradePlanId, ticker, tradePlanId,
      }))
      .sort((a, b) => String(a.ticker).localeCompare(String(b.ticker)));
  await expect.poll(async () => facts(await storedTrades(world))).toEqual(facts(before));
  expect(majors).not.toBe("");
});

test("by mouse: review, bulk apply, and the campaign's figures change", async () => {
  const campaignId = await makeCampaign(world, "Majors, autumn");
  await makePlan(world, "Bitcoin above the range", "btcusd", campaignId);
  await makePlan(world, "Ether against the dollar", "ETH/USD");
  const kraken = await Account.kraken(world);
  await kraken.bring([
    krakenFill("B1", { occurredAt: AN_HOUR_AGO - 5_000, price: "100", quantity: "2" }),
    krakenFill("B2", { occurredAt: AN_HOUR_AGO - 4_000, price: "110", quantity: "2", side: "sell" }),
    krakenFill("E1", { occurredAt: AN_HOUR_AGO - 3_000, price: "10", quantity: "3", symbol: "ETH/USD" }),
    krakenFill("E2", { occurredAt: AN_HOUR_AGO - 2_000, price: "11", quantity: "3", side: "sell", symbol: "ETH/USD" }),
  ]);
  const figures = () => world.journal.query("campaigns:getCampaignPL", { campaignId });
  const campaign = await openWindow(browser);
  await campaign.goto(`${world.pages}/campaigns/${campaignId}`);
  await campaign.getByText("No trade belongs to this campaign yet.").waitFor();
  const shownResult = () => campaign.getByRole("definition").first().innerText();
  await openInbox();
  await expect.poll(() => lines().count()).toBe(4);
  expect(await figures()).toMatchObject({ realizedPL: 0, tradeCount: 0 });

  // One line: its button.
  await line("BTC/USD").filter({ hasText: "Buy" }).getByRole("button", { name: /Save with the suggested plan/ }).click();
  await expect.poll(() => lines().count()).toBe(3);
  await expect.poll(figures).toMatchObject({ realizedPL: 0, tradeCount: 1 });
  // By the chooser of a line.
  await line("BTC/USD").getByRole("button", { name: /^Plan:/ }).click();
  await page.getByRole("option", { name: /Bitcoin above the range/ }).click();
  await expect.poll(() => lines().count()).toBe(2);
  // 2 x (110 - 100)
  await expect.poll(figures).toMatchObject({ losingTrades: 0, realizedPL: 20, tradeCount: 2, winningTrades: 1 });
  await expect.poll(shownResult).toBe("+20.00");

  // Many at once: a plan of the campaign for the other two, against what is suggested.
  await line("Sell").getByRole("checkbox").click();
  await line("Buy").getByRole("checkbox").click({ modifiers: ["Shift"] });
  const bar = page.getByRole("toolbar", { name: "Selected rows" });
  await bar.getByText("2 rows selected").waitFor();
  await inspect(page, "inbox-selected");
  await bar.getByRole("button", { name: "Choose plan" }).click();
  await page.getByPlaceholder("Plan, symbol or campaign").fill("majors");
  await page.getByRole("option", { name: /Bitcoin above the range/ }).click();
  await page.getByRole("heading", { name: "Nothing waits for review" }).waitFor();
  // + 3 x (11 - 10)
  await expect.poll(figures).toMatchObject({ realizedPL: 23, tradeCount: 4, winningTrades: 2 });
  expect(await decisions()).toEqual(Object.fromEntries(["B1", "B2", "E1", "E2"].map((id) => [id, "Bitcoin above the range"])));

  // Reviewed rows stay in reach: the campaign is the plan's and only read; without a plan it goes.
  await page.getByRole("button", { name: "Reviewed" }).click();
  await expect.poll(() => lines().count()).toBe(4);
  await expect.poll(() => page.getByRole("region", { name: "Planned against unplanned" }).innerText()).toContain("With a plan: 4 trades, realized +23.00");
  expect(await line("ETH/USD").first().innerText()).toContain("Majors, autumn");
  expect(await page.getByRole("button", { name: /^Campaign:/ }).count()).toBe(0);
  await line("ETH/USD").filter({ hasText: "Sell" }).getByRole("button", { name: /Save without a plan/ }).click();
  await expect.poll(figures).toMatchObject({ realizedPL: 20, tradeCount: 3 });
  await expect.poll(() => page.getByRole("region", { name: "Planned against unplanned" }).innerText()).toContain("Without a plan: 1 trade, realized +3.00");
  await expect.poll(shownResult).toBe("+20.00");
  // What was suggested is over with the decision.
  expect(await line("ETH/USD").filter({ hasText: "Sell" }).innerText()).toContain("No plan");
  // Without a plan it may belong to the campaign itself.
  await page.getByRole("button", { name: /^Campaign:/ }).click();
  await page.getByRole("option", { name: "Majors, autumn" }).click();
  await expect.poll(figures).toMatchObject({ realizedPL: 23, tradeCount: 4 });
  await expect.poll(shownResult).toBe("+23.00");
  await inspect(page, "inbox-reviewed");
  expect(campaign.noise).toEqual([]);
  await campaign.context().close();
});

test("a plan is made from a line with its symbol, and one made elsewhere reaches the list by itself", async () => {
  const account = await Account.kraken(world);
  await account.bring([krakenFill("S1", { symbol: "SOL/USD" }), krakenFill("A1", { occurredAt: AN_HOUR_AGO - 9_000, symbol: "ADA/EUR" })]);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(2);
  await page.keyboard.press("p");
  await page.getByPlaceholder("Plan, symbol or campaign").waitFor();
  await page.keyboard.type("Solana swing");
  await page.getByRole("option", { name: /New plan .Solana swing/ }).waitFor();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "New plan" });
  expect(await dialog.getByLabel("Symbol").inputValue()).toBe("SOL/USD");
  expect(await dialog.getByLabel("Name").inputValue()).toBe("Solana swing");
  await inspect(page, "inbox-new-plan");
  await dialog.getByRole("button", { name: "Create and save" }).click();
  await expect.poll(() => lines().count()).toBe(1);
  await expect.poll(decisions).toEqual({ A1: "in review", S1: "Solana swing" });
  await expect.poll(hasFocus).toBe(true);

  await makePlan(world, "Cardano dip", "adaeur");
  await line("ADA/EUR").getByRole("button", { name: /Cardano dip/ }).waitFor();
});

test("filters are in the address and come back with it; dismissed rows are restored", async () => {
  const [kraken, ibkr] = [await Account.kraken(world, "Coins"), await Account.ibkr(world, "Shares")];
  await kraken.bring([krakenFill("K1"), krakenFill("K2", { occurredAt: Date.UTC(2026, 2, 29, 21, 59, 59), symbol: "ETH/USD" })]);
  await ibkr.bring([ibkrFill("I1.01")]);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(3);
  await page.getByLabel("Broker").selectOption("Kraken");
  await expect.poll(() => lines().count()).toBe(2);
  await page.keyboard.press("Escape");
  await grid().focus();
  await page.keyboard.press("/");
  await page.keyboard.type("eth-usd");
  await page.keyboard.press("Enter");
  await expect.poll(() => lines().count()).toBe(1);
  expect(await hasFocus()).toBe(true);
  // The last second of the local day on which clocks change.
  await page.getByLabel("To").fill("2026-03-29");
  await expect.poll(() => new URL(page.url()).search).toBe("?provider=kraken&symbol=eth-usd&to=2026-03-29");
  await expect.poll(() => lines().count()).toBe(1);
  await page.reload();
  await expect.poll(() => lines().count()).toBe(1);
  expect(await page.getByLabel("Symbol").inputValue()).toBe("eth-usd");
  await page.getByLabel("To").fill("2026-03-28");
  await page.getByRole("heading", { name: "Nothing matches the filters" }).waitFor();
  await inspect(page, "inbox-no-match");
  await page.getByRole("button", { name: "Clear filters" }).click();
  await expect.poll(() => lines().count()).toBe(3);
  await page.getByLabel("Account").selectOption("U1234567");
  await expect.poll(() => lines().count()).toBe(1);
  await grid().focus();
  await page.keyboard.press("d");
  await page.keyboard.press("3");
  await expect.poll(() => lines().count()).toBe(1);
  await inspect(page, "inbox-dismissed");
  await grid().focus();
  await page.keyboard.press("r");
  await page.getByRole("heading", { name: "Nothing matches the filters" }).waitFor();
  await page.getByRole("button", { name: "To review" }).click();
  await expect.poll(() => lines().count()).toBe(1);
  await expect.poll(decisions).toMatchObject({ "I1.01": "in review" });
});

test("F10 F12 hostile text is text: script, direction override, formula, a symbol without end", async () => {
  const hostile = {
    H1: { externalOrderId: "<img src=x onerror=alert(1)>", symbol: "<script>alert(1)</script>" },
    H2: { rawSymbol: "a\u202Egpj.exe", symbol: "AB\u202ECD" },
    H3: { rawSymbol: '=HYPERLINK("http://x","y")', symbol: '=HYPERLINK("http://x")' },
    H4: { symbol: "ENDLESS".repeat(30).slice(0, 200) },
  };
  const account = await Account.ibkr(world);
  await account.bring(
    Object.entries(hostile).map(([id, changes], index) => ibkrFill(`${id}.01`, { occurredAt: AN_HOUR_AGO - index * 1_000, ...changes })),
  );
  await expect(account.bring([ibkrFill("H5.01", { symbol: "X".repeat(1_000_000) })])).rejects.toThrow("invalid_row");
  await openInbox();
  let dialogs = 0;
  page.on("dialog", (dialog) => {
    dialogs += 1;
    void dialog.dismiss();
  });
  await expect.poll(() => lines().count()).toBe(4);
  for (let count = 0; count < 4; count += 1) {
    await page.keyboard.press("o");
    await page.keyboard.press("j");
  }
  const text = await grid().innerText();
  expect(text).toContain("<script>alert(1)");
  expect(text).toContain("<img src=x onerror=alert(1)>");
  expect(text).toContain('=HYPERLINK("http://x","y")');
  // The override is shown, not obeyed; a long symbol is cut where it is shown.
  expect(text).toContain("AB\\u202eCD");
  expect(text).toContain("a\\u202egpj.exe");
  expect(text).not.toContain("\u202e");
  expect(text).not.toContain("ENDLESS".repeat(10));
  expect(await page.locator("[role=treegrid] script, [role=treegrid] img, [role=treegrid] a").count()).toBe(0);
  expect(dialogs).toBe(0);
  await inspect(page, "inbox-hostile");
  // It is also what a message repeats.
  await page.keyboard.press("Home");
  await page.keyboard.press("b");
  await toast(/<script>alert\(1\)/).waitFor();
});

test("an open line tells all: flags, corrections, typed twins; a correction is marked until it is seen", async () => {
  await world.journal.mutation("trades:createTrade", {
    assetType: "crypto", date: AN_HOUR_AGO, direction: "long", price: 30_000, quantity: 0.5, side: "buy", ticker: "BTC/USD",
  });
  const [kraken, ibkr] = [await Account.kraken(world), await Account.ibkr(world)];
  await kraken.bring([krakenFill("T1", { occurredAt: AN_HOUR_AGO })]);
  await ibkr.bring([ibkrFill("C.01", { externalExecutionId: "C", occurredAt: AN_HOUR_AGO - 5_000 })]);
  await ibkr.bring([ibkrFill("C.02", { externalExecutionId: "C", occurredAt: AN_HOUR_AGO - 5_000, price: "192.30", revision: 2 })]);
  await ibkr.bring([ibkrFill("S.01", { occurredAt: AN_HOUR_AGO - 9_000, openClose: undefined, side: "sell", symbol: "TSLA" })]);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(3);
  await inspect(page, "inbox");

  await page.keyboard.press("o");
  await page.getByText("You have typed a trade like this one.").waitFor();
  await inspect(page, "inbox-twin");
  await page.getByRole("button", { name: "Delete the typed one" }).click();
  await page.getByRole("button", { name: "Delete it for good" }).click();
  await page.getByText("You have typed a trade like this one.").waitFor({ state: "detached" });
  expect(await storedTrades(world)).toHaveLength(3);

  await grid().focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("j");
  await page.keyboard.press("o");
  const corrections = page.getByRole("table", { name: "What the broker corrected" });
  await corrections.waitFor();
  expect((await corrections.innerText()).replace(/\s+/g, " ")).toMatch(/192\.26.*now.*192\.30/);
  await inspect(page, "inbox-corrected");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("j");
  await page.keyboard.press("o");
  await page.getByText("The broker does not say whether this opens or closes").waitFor();
  await page.keyboard.press("e");
  await page.keyboard.type("Was it a hedge?");
  await page.keyboard.press("Escape");
  await expect.poll(hasFocus).toBe(true);
  await page.keyboard.press("b");
  await expect.poll(async () => (await storedTrades(world)).find(({ ticker }) => ticker === "TSLA")).toMatchObject({ inboxStatus: "reviewed", notes: "Was it a hedge?" });
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await inspect(page, "inbox-keys");
  await page.keyboard.press("Escape");
  await expect.poll(hasFocus).toBe(true);
});

test("a correction of a reviewed row is news: its decision stays, and Y takes the mark off", async () => {
  await makePlan(world, "Apple before earnings", "AAPL");
  const ibkr = await Account.ibkr(world);
  await ibkr.bring([ibkrFill("C.01", { externalExecutionId: "C" })]);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(1);
  await page.keyboard.press("a");
  await page.getByRole("button", { name: "Reviewed" }).click();
  await expect.poll(() => lines().count()).toBe(1);
  await ibkr.bring([ibkrFill("C.02", { externalExecutionId: "C", price: "192.30", revision: 2 })]);
  await line("changed").getByRole("button", { name: /Plan: Apple before earnings/ }).waitFor();
  expect(await line("changed").innerText()).toContain("192.30");
  await grid().focus();
  await page.keyboard.press("y");
  await expect.poll(() => line("changed").count()).toBe(0);
  await expect.poll(async () => (await storedTrades(world))[0]?.importFlags).toEqual([]);
  expect(await decisions()).toEqual({ C: "Apple before earnings" });
});

test("all that the filters show is saved without a plan, loaded or not", async () => {
  const [kraken, ibkr] = [await Account.kraken(world), await Account.ibkr(world)];
  await kraken.bring(Array.from({ length: 230 }, (_, index) => krakenFill(`K${index}`, { occurredAt: AN_HOUR_AGO - index * 1_000 })));
  await ibkr.bring([ibkrFill("I.01")]);
  await openInbox("?provider=kraken");
  await line("BTC/USD").first().waitFor();
  await page.keyboard.press("Shift+b");
  await page.getByRole("dialog", { name: /Save all that the filters show/ }).waitFor();
  await inspect(page, "inbox-all-unlinked");
  await page.getByRole("button", { name: "Save without a plan" }).click();
  await toast("230 rows saved without a plan.").waitFor();
  await page.getByRole("heading", { name: "Nothing matches the filters" }).waitFor();
  expect(Object.entries(await decisions()).filter(([, decision]) => decision === "in review")).toEqual([["I.01", "in review"]]);
});

test("a refused decision comes back with the reason; without a connection it waits and is saved later", async () => {
  const account = await Account.kraken(world);
  await account.bring([krakenFill("K1"), krakenFill("K2", { occurredAt: AN_HOUR_AGO - 9_000, symbol: "ETH/USD" })]);
  await openInbox();
  await expect.poll(() => lines().count()).toBe(2);
  const [trade] = (await storedTrades(world)).filter(({ externalExecutionId }) => externalExecutionId === "K1");
  // The app deletes the trade behind the page's back, while its news are held up.
  await world.server("POST", "faults", { function: "tradeImport/inbox:review", kind: "delay", ms: 1_000, times: 1 });
  const pressed = page.keyboard.press("b");
  await world.journal.mutation("trades:deleteTrade", { tradeId: trade?._id });
  await pressed;
  await toast(/Not saved\. Trade not found\./).waitFor();
  await expect.poll(() => lines().count()).toBe(1);

  wire.cut();
  await page.getByText("No connection. What you see may be out of date").waitFor();
  await inspect(page, "inbox-offline");
  await grid().focus();
  await page.keyboard.press("b");
  await expect.poll(() => lines().count()).toBe(0);
  expect(await decisions()).toEqual({ K2: "in review" });
  wire.mend();
  await expect.poll(decisions, { timeout: 30_000 }).toEqual({ K2: "no plan" });
  await page.getByText("No connection. What you see may be out of date").waitFor({ state: "detached" });
  // Convex's client reports the refusal itself.
  expect(page.noise.filter((said) => !said.includes("[CONVEX M(tradeImport/inbox:review)]"))).toEqual([]);
  page.noise.length = 0;
});

test("two windows stay in step, and the cursor goes to the next line that is left", async () => {
  const account = await Account.kraken(world);
  await account.bring(["BTC", "ETH", "SOL"].map((base, index) => krakenFill(base, { occurredAt: AN_HOUR_AGO - index * 1_000, symbol: `${base}/USD` })));
  await openInbox();
  const first = page;
  await openInbox();
  const second = page;
  for (const each of [first, second]) await expect.poll(() => each.locator("[data-line]").count()).toBe(3);
  await second.keyboard.press("j");
  await first.keyboard.press("j");
  await first.keyboard.press("b");
  await expect.poll(() => second.locator("[data-line]").count()).toBe(2);
  expect(await second.locator("[data-cursor]").innerText()).toContain("SOL/USD");
  expect(first.noise).toEqual([]);
  await first.context().close();
});

test("at 375 px by touch: filter, open, review, undo", async () => {
  await makePlan(world, "Bitcoin above the range", "btcusd");
  const account = await Account.kraken(world);
  await account.bring([krakenFill("K1"), ...order(1, { symbol: "ETH/USD" })]);
  await openInbox("", { touch: true, viewport: PHONE });
  await expect.poll(() => lines().count()).toBe(2);
  await page.getByRole("button", { name: "4 fills of one order" }).tap();
  await expect.poll(() => lines().count()).toBe(6);
  await line("BTC/USD").getByRole("button", { name: /Save with the suggested plan/ }).tap();
  await expect.poll(decisions).toMatchObject({ K1: "Bitcoin above the range" });
  await page.getByRole("button", { name: "Undo" }).tap();
  await line("BTC/USD").waitFor();
  await page.getByRole("button", { name: /^Filters/ }).tap();
  await page.getByLabel("Symbol").fill("BTC/USD");
  await page.getByLabel("Symbol").press("Enter");
  await expect.poll(() => lines().count()).toBe(1);
  await line("BTC/USD").getByRole("button", { name: "Details" }).tap();
  await page.getByRole("button", { name: "Choose campaign" }).waitFor();
  // What is touched is large enough to be hit.
  const small = await page.locator("button:visible, select:visible, input:visible:not([type=radio])").evaluateAll((all) =>
    all.flatMap((element) => {
      const target = element.closest("label") ?? element;
      const { height, width } = target.getBoundingClientRect();
      return height < 24 || width < 24 ? [`${element.outerHTML.slice(0, 100)} ${Math.round(width)} x ${Math.round(height)}`] : [];
    }),
  );
  expect(small).toEqual([]);
  await page.setViewportSize(DESK);
});
