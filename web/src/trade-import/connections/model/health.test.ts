import { expect, test } from "vitest";
import { nextStep, safeUrl } from "./health";

test("a code becomes its button, a text stays a text, nothing stays nothing", () => {
  expect(nextStep({ action: "", state: "ok" })).toBeNull();
  expect(nextStep({ action: "log_in", state: "needs_reauth", url: "https://localhost:5000" })).toEqual({
    kind: "log_in",
    url: "https://localhost:5000",
  });
  expect(nextStep({ action: "log_in", state: "needs_reauth" })).toEqual({ kind: "text", text: "Log in at the broker." });
  expect(nextStep({ action: "update_credentials", state: "needs_reauth" })).toEqual({ kind: "credentials" });
  expect(nextStep({ action: "import_flex", state: "degraded" })).toEqual({ kind: "import_statement" });
  expect(nextStep({ action: "Look at them under Import Errors.", state: "degraded" })).toEqual({ kind: "errors" });
  expect(nextStep({ action: "Start the worker: trade-sync run.", state: "worker_offline" })).toEqual({
    kind: "text",
    text: "Start the worker: trade-sync run.",
  });
});

test("a disconnected connection comes back by new credentials", () => {
  expect(nextStep({ action: "Enter credentials to connect again.", state: "disconnected" })).toEqual({ kind: "credentials" });
});

test("F12 an address is opened only where it is one of the web", () => {
  expect(safeUrl("https://localhost:5000")).toBe("https://localhost:5000/");
  expect(safeUrl("javascript:alert(1)")).toBeNull();
  expect(safeUrl("data:text/html,x")).toBeNull();
  expect(safeUrl("not an address")).toBeNull();
});
