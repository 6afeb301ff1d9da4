// What «Sync now» did, in a sentence that is true when it is read.
import type { Connection, SyncRequest } from "../../api";

/** Said at once, where there is more to say than the line below the button says. */
export function answerSentence(answer: SyncRequest, now: number): string | null {
  switch (answer.result) {
    case "queued":
      return null;
    case "joined":
      return "A sync is running already; yours is part of it.";
    case "limited": {
      const seconds = Math.max(1, Math.ceil((answer.until - now) / 1000));
      return seconds > 90
        ? "The broker has asked to wait. The next sync starts by itself."
        : `Just synced. Again in ${seconds} second${seconds === 1 ? "" : "s"}.`;
    }
  }
}

export function allSentence(answers: readonly SyncRequest[]): string {
  const count = (result: SyncRequest["result"]) => answers.filter((answer) => answer.result === result).length;
  const parts = [
    [count("queued"), "requested"],
    [count("joined"), "running already"],
    [count("limited"), "just synced"],
  ] as const;
  const said = parts.filter(([number]) => number > 0).map(([number, what]) => `${number} ${what}`);
  return said.length === 0 ? "There is nothing to sync." : `Sync: ${said.join(", ")}.`;
}

/** While a request waits: for what. It stays recorded until a job has served it. */
export function waitingSentence(connection: Pick<Connection, "health" | "requestedAt">): string | null {
  if (connection.requestedAt === null) return null;
  switch (connection.health.state) {
    case "syncing":
      return "Requested: another look follows this sync.";
    case "worker_offline":
      return "Requested: it starts as soon as the worker runs.";
    default:
      return "Requested: it starts in a moment.";
  }
}
