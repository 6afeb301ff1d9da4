import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium, type Browser, type Page } from "playwright-core";
import type { AxeResults, default as Axe } from "axe-core";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SHOTS = fileURLToPath(new URL("../shots/", import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A zone that is not UTC, so that a time shown in the wrong one is seen. */
export const ZONE = "Europe/Berlin";

export const DESK = { height: 860, width: 1280 };
export const PHONE = { height: 812, width: 375 };

export async function openBrowser(): Promise<Browser> {
  return await chromium.launch({
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    ],
    executablePath: EXECUTABLE,
  });
}

/** A window of a person of its own: own cookies, own storage. What the page logs as an error fails the test that asks `noise`. */
export async function openWindow(
  browser: Browser,
  options: { touch?: boolean; viewport?: { height: number; width: number } } = {},
): Promise<Page & { noise: string[] }> {
  const context = await browser.newContext({
    hasTouch: options.touch ?? false,
    ignoreHTTPSErrors: true,
    locale: "en-GB",
    timezoneId: ZONE,
    viewport: options.viewport ?? DESK,
  });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const noise: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") noise.push(message.text());
  });
  page.on("pageerror", (error) => noise.push(String(error)));
  return Object.assign(page, { noise });
}

/** The page's line to Convex, to be cut and mended; to be called before the page is opened. */
export async function wireOf(page: Page): Promise<{ cut: () => void; mend: () => void }> {
  let isCut = false;
  const open = new Set<{ close: () => Promise<void> }>();
  await page.routeWebSocket(/\/api\/.*sync/, (socket) => {
    if (isCut) {
      void socket.close();
      return;
    }
    const server = socket.connectToServer();
    const line = { close: async () => Promise.all([socket.close(), server.close()]).then(() => undefined) };
    open.add(line);
  });
  return {
    cut: () => {
      isCut = true;
      for (const line of open) void line.close();
      open.clear();
    },
    mend: () => (isCut = false),
  };
}

/** What axe finds on the page as it is now: one line a rule and element. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const results = await page.evaluate(async (): Promise<AxeResults> => {
    const { axe } = globalThis as unknown as { axe: typeof Axe };
    return await axe.run(document, { resultTypes: ["violations"] });
  });
  return results.violations.flatMap(({ help, id, nodes }) =>
    nodes.map(({ html, any }) => `${id}: ${help}: ${html.slice(0, 160)} ${any[0]?.message ?? ""}`),
  );
}

/**
 * A picture of the page in light, dark and phone width, and in each of them: axe finds nothing, nothing sticks out at
 * the side. Leaves the page light and as wide as it was.
 */
export async function inspect(page: Page, name: string): Promise<void> {
  mkdirSync(SHOTS, { recursive: true });
  const before = page.viewportSize() ?? DESK;
  for (const [look, viewport, colorScheme] of [
    ["light", DESK, "light"],
    ["dark", DESK, "dark"],
    ["phone", PHONE, "light"],
    ["phone-dark", PHONE, "dark"],
  ] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize(viewport);
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await page.screenshot({ path: `${SHOTS}${name}-${look}.png` });
    expect(await violations(page), `${name}, ${look}`).toEqual([]);
    const [inner, wanted] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth] as const);
    expect(wanted, `${name}, ${look}: width`).toBeLessThanOrEqual(inner);
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
  await page.setViewportSize(before);
}
