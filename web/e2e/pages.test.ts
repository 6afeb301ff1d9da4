// The three pages before anything is connected.
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { inspect, openBrowser, openWindow } from "./harness/browser";
import { World } from "./harness/world";

let world: World;
let browser: Browser;

beforeAll(async () => {
  [world, browser] = await Promise.all([World.start(), openBrowser()]);
});

afterAll(async () => {
  await browser.close();
  await world.stop();
});

test.each([
  ["inbox", "Import Inbox"],
  ["errors", "Import Errors"],
  ["connections", "Connections"],
])("%s", async (place, title) => {
  const page = await openWindow(browser);
  await page.goto(`${world.pages}/import/${place}`);
  await page.getByRole("heading", { level: 1, name: title }).waitFor();
  await page.getByRole("navigation", { name: "Import" }).waitFor();
  await inspect(page, `empty-${place}`);
  expect(page.noise).toEqual([]);
  await page.context().close();
});
