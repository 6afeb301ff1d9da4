// The inbox with ten thousand rows, and while an import writes more.
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openBrowser, openWindow } from "./harness/browser";
import { Account, krakenFill, makePlan } from "./harness/fills";
import { World } from "./harness/world";

const ROWS = 10_000;
const BEFORE = Date.now() - 3_600_000;

let world: World;
let browser: Browser;
let account: Account;

beforeAll(async () => {
  [world, browser] = await Promise.all([World.start(), openBrowser()]);
  account = await Account.kraken(world);
  const fills = Array.from({ length: ROWS }, (_, index) =>
    krakenFill(`OLD-${index}`, {
      occurredAt: BEFORE - index * 1_000,
      price: `${30_000 + index}`,
      quantity: "0.1",
      symbol: `${index % 25 === 0 ? "BTC" : `COIN${index % 25}`}/USD`,
    }),
  );
  await account.bring(fills);
}, 300_000);

afterAll(async () => {
  await browser.close();
  await world.stop();
});

async function openInbox(): Promise<Page & { noise: string[] }> {
  const page = await openWindow(browser);
  await page.goto(`${world.pages}/import/inbox`);
  await page.locator("[data-line]").first().waitFor();
  return page;
}

async function documentsRead(): Promise<Record<string, number>> {
  const [first, again] = (await Promise.all(["client", "subscription"].map((cause) => world.server("GET", `reads?cause=${cause}`)))) as Record<string, number>[];
  const names = new Set([...Object.keys(first ?? {}), ...Object.keys(again ?? {})]);
  return Object.fromEntries([...names].map((name) => [name, (first?.[name] ?? 0) + (again?.[name] ?? 0)]));
}

test("the first 50 of 10,000 rows are shown without reading the others, and the others as they are scrolled to", async () => {
  // Suggestions are brought in step once when the plans have changed, by the first page that is open then.
  await makePlan(world, "Bitcoin above the range", "BTC/USD");
  await world.journal.mutation("tradeImport/inbox:refreshSuggestions");
  await world.server("DELETE", "calls");
  const page = await openInbox();
  await page.getByText("Bitcoin above the range").first().waitFor();
  await expect.poll(() => page.locator("[data-line]").count()).toBeGreaterThan(15);
  await page.getByText("100+").waitFor();
  const read = await documentsRead();
  // Of 50 rows the trade, its execution and its suggested plan; for the number on the tab as many as it can say.
  expect(read["tradeImport/inbox:list"], JSON.stringify(read)).toBeLessThanOrEqual(3 * 50 + 10);
  expect(read["tradeImport/inbox:counts"]).toBeLessThanOrEqual(100);
  expect(Object.values(read).reduce((sum, each) => sum + each, 0), JSON.stringify(read)).toBeLessThan(300);

  // Few lines exist at any time, wherever the list stands.
  for (let pages = 0; pages < 25; pages += 1) {
    await page.mouse.wheel(0, 2_000);
    await page.waitForTimeout(40);
  }
  await expect.poll(async () => Number(await page.locator("[data-line]").last().getAttribute("aria-rowindex"))).toBeGreaterThan(400);
  expect(await page.locator("[data-line]").count()).toBeLessThan(80);
  expect(page.noise).toEqual([]);
  await page.context().close();
});

declare global {
  interface Window {
    tiFrames?: { busy: number; frames: number; moved: string[]; stop: boolean };
  }
}

test("while an import writes 500 rows nothing on the screen moves or vanishes, and the new ones are announced", async () => {
  const page = await openInbox();
  for (let count = 0; count < 5; count += 1) await page.keyboard.press("j");
  await page.waitForTimeout(500);
  // Every frame is compared with the first: each line on the screen and where it stands.
  await page.evaluate(() => {
    const seen: NonNullable<Window["tiFrames"]> = { busy: 0, frames: 0, moved: [], stop: false };
    window.tiFrames = seen;
    const look = () =>
      new Map(
        [...document.querySelectorAll("[data-line]")].flatMap((element) => {
          const { bottom, top } = element.getBoundingClientRect();
          const text = element instanceof HTMLElement ? element.innerText : "";
          return top >= 110 && bottom <= innerHeight - 80 ? [[element.getAttribute("data-line"), `${Math.round(top)} ${text.replace(/\s+/g, " ")}`] as const] : [];
        }),
      );
    const first = look();
    const frame = () => {
      seen.frames += 1;
      const now = look();
      for (const [key, place] of first) {
        if (now.get(key) !== place && seen.moved.length < 5) seen.moved.push(`frame ${seen.frames}: ${place} -> ${now.get(key) ?? "gone"}`);
      }
      if (document.querySelector("[role=treegrid][aria-busy=true]") !== null) seen.busy += 1;
      if (!seen.stop) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const fills = Array.from({ length: 500 }, (_, index) => krakenFill(`NEW-${index}`, { occurredAt: BEFORE + (index + 1) * 1_000 }));
  await account.bring(fills, { page: 50, pause: 50 });
  await page.getByRole("button", { name: "500 newer lines" }).waitFor();
  await page.waitForTimeout(500);
  const seen = await page.evaluate(() => {
    const frames = window.tiFrames;
    if (frames !== undefined) frames.stop = true;
    return frames;
  });
  expect(seen?.frames).toBeGreaterThan(30);
  expect(seen?.moved).toEqual([]);
  expect(seen?.busy).toBe(0);
  // They are there when they are wanted.
  await page.getByRole("button", { name: "500 newer lines" }).click();
  await expect.poll(() => page.locator("[data-cursor]").getAttribute("aria-rowindex")).toBe("2");
  await expect.poll(() => page.getByRole("button", { name: /newer/ }).count()).toBe(0);
  expect(page.noise).toEqual([]);
  await page.context().close();
});
