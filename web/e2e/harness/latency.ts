// How long it takes from a key to what can be seen of it.
import type { Page } from "playwright-core";

declare global {
  interface Window {
    tiLatency?: { gone: number | null; key: number | null; line: string };
  }
}

/**
 * Presses a key and returns the milliseconds from its event until the line of the cursor is gone and the frame without
 * it is painted.
 */
export async function pressUntilGone(page: Page, key: string): Promise<number> {
  await page.evaluate(() => {
    const grid = document.querySelector("[role=treegrid]");
    const line = grid?.getAttribute("aria-activedescendant") ?? "";
    const watch: NonNullable<Window["tiLatency"]> = { gone: null, key: null, line };
    window.tiLatency = watch;
    document.addEventListener("keydown", (event) => (watch.key ??= event.timeStamp), { capture: true });
    const look = () => {
      if (watch.key === null || document.getElementById(line) !== null) return;
      observer.disconnect();
      requestAnimationFrame(() => {
        // A message comes after the frame is painted.
        const channel = new MessageChannel();
        channel.port1.onmessage = () => (watch.gone = performance.now());
        channel.port2.postMessage(null);
      });
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { attributes: true, childList: true, subtree: true });
  });
  await page.keyboard.press(key);
  const taken = await page.waitForFunction(() => {
    const watch = window.tiLatency;
    return watch?.gone != null && watch.key !== null ? watch.gone - watch.key : null;
  }, null, { polling: 5 });
  return (await taken.jsonValue()) ?? Infinity;
}
