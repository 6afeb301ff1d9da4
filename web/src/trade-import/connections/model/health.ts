// How a connection is, in two words, a colour and at most one thing to do.
import type { Health } from "../../api";

export type HealthTone = "accent" | "bad" | "good" | "plain" | "warn";

export const HEALTH: Readonly<Record<Health["state"], { name: string; tone: HealthTone }>> = {
  degraded: { name: "Trouble", tone: "warn" },
  disconnected: { name: "Disconnected", tone: "plain" },
  in_use_elsewhere: { name: "In use elsewhere", tone: "warn" },
  maintenance_window: { name: "Broker maintenance", tone: "warn" },
  needs_reauth: { name: "Needs you", tone: "bad" },
  never_synced: { name: "New", tone: "plain" },
  ok: { name: "Up to date", tone: "good" },
  stale: { name: "Overdue", tone: "warn" },
  syncing: { name: "Syncing", tone: "accent" },
  worker_offline: { name: "Worker offline", tone: "bad" },
};

export type NextStep =
  | { kind: "credentials" }
  | { kind: "import_statement" }
  | { kind: "check_query" }
  | { kind: "disconnect" }
  | { kind: "errors" }
  | { kind: "log_in"; url: string }
  | { kind: "text"; text: string };

/** The one thing to do about it. An action that is no code is a text for people already. */
export function nextStep(health: Pick<Health, "action" | "state" | "url">): NextStep | null {
  if (health.state === "disconnected") return { kind: "credentials" };
  switch (health.action) {
    case "":
      return null;
    case "log_in":
      return health.url === undefined ? { kind: "text", text: "Log in at the broker." } : { kind: "log_in", url: health.url };
    case "update_credentials":
      return { kind: "credentials" };
    case "import_flex":
      return { kind: "import_statement" };
    case "check_flex_query":
      return { kind: "check_query" };
    case "disconnect":
      return { kind: "disconnect" };
    case "Look at them under Import Errors.":
      return { kind: "errors" };
    default:
      return { kind: "text", text: health.action };
  }
}

/** Only these protocols are opened: what a broker or a worker sent is never a script. */
export function safeUrl(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
