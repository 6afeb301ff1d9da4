// The three pages when there is nothing to show, or nothing can be shown.
import type { Browser, Page, WebSocketRoute } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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

const PLACES = [
  ["inbox", "Import Inbox"],
  ["errors", "Import Errors"],
  ["connections", "Connections"],
] as const;

async function withWindow(act: (page: Page & { noise: string[] }) => Promise<void>): Promise<void> {
  const page = await openWindow(browser);
  try {
    await act(page);
  } finally {
    await page.context().close();
  }
}

describe.each(PLACES)("%s", (place, title) => {
  test("empty, before anything is connected", async () => {
    await withWindow(async (page) => {
      await page.goto(`${world.pages}/import/${place}`);
      await page.getByRole("heading", { level: 1, name: title }).waitFor();
      await page.getByRole("heading", { level: 2 }).waitFor();
      await inspect(page, `empty-${place}`);
      expect(page.noise).toEqual([]);
    });
  });

  test("loading, while the server has not answered", async () => {
    await withWindow(async (page) => {
      await page.routeWebSocket(/\/sync$/, () => undefined);
      await page.goto(`${world.pages}/import/${place}`);
      await page.getByRole("status", { name: /^Loading/ }).first().waitFor();
      await inspect(page, `loading-${place}`);
    });
  });

  test("an error of the server is a sentence and a button, which works once it is over", async () => {
    await withWindow(async (page) => {
      let failing = true;
      await page.routeWebSocket(/\/sync$/, (socket) => {
        const server = socket.connectToServer();
        server.onMessage((message) => socket.send(failing ? failed(String(message)) : message));
      });
      await page.goto(`${world.pages}/import/${place}`);
      await page.getByRole("heading", { name: "This could not be loaded" }).waitFor();
      await inspect(page, `error-${place}`);
      failing = false;
      // The socket is made anew, and with it the answers.
      await page.reload();
      await page.getByRole("heading", { level: 2 }).waitFor();
      expect(await page.getByRole("heading", { name: "This could not be loaded" }).count()).toBe(0);
    });
  });

  test("signed out", async () => {
    await withWindow(async (page) => {
      await page.route("**/host/token", (route) => route.fulfill({ json: { token: null } }));
      await page.goto(`${world.pages}/import/${place}`);
      await page.getByRole("heading", { name: "You are signed out" }).waitFor();
      await inspect(page, `signed-out-${place}`);
    });
  });

  test("offline: a notice, what is shown stays, and it goes by itself", async () => {
    await withWindow(async (page) => {
      let reachable = true;
      const sockets: WebSocketRoute[] = [];
      await page.routeWebSocket(/\/sync$/, (socket) => {
        if (!reachable) {
          void socket.close();
          return;
        }
        sockets.push(socket);
        socket.connectToServer();
      });
      await page.goto(`${world.pages}/import/${place}`);
      const shown = page.getByRole("heading", { level: 2 });
      await shown.waitFor();
      const before = await shown.textContent();
      reachable = false;
      await Promise.all(sockets.map((socket) => socket.close()));
      const notice = page.getByText("No connection. What you see may be out of date; what you do is saved when the connection is back.");
      await notice.waitFor();
      expect(await shown.textContent()).toBe(before);
      await inspect(page, `offline-${place}`);
      reachable = true;
      await notice.waitFor({ state: "detached", timeout: 40_000 });
    });
  });
});

/** A message of the server in which every answer to a query is an error. */
function failed(message: string): string {
  const parsed = JSON.parse(message) as { modifications?: { queryId: number; type: string }[]; type: string };
  if (parsed.type !== "Transition") return message;
  const modifications = parsed.modifications?.map((each) =>
    each.type === "QueryUpdated"
      ? { errorMessage: "Server Error", logLines: [], queryId: each.queryId, type: "QueryFailed" }
      : each,
  );
  return JSON.stringify({ ...parsed, modifications });
}
