import { expect, test } from "vitest";
import type { Health, Id } from "../../api";
import { allSentence, answerSentence, waitingSentence } from "./feedback";

const jobId = "job" as Id<"importJobs">;
const health = (state: Health["state"]): Health => ({ action: "", sentence: "", since: 0, state });

test("what one press did", () => {
  expect(answerSentence({ result: "queued" }, 0)).toBeNull();
  expect(answerSentence({ jobId, result: "joined" }, 0)).toBe("A sync is running already; yours is part of it.");
  expect(answerSentence({ result: "limited", until: 8_200 }, 0)).toBe("Just synced. Again in 9 seconds.");
  expect(answerSentence({ result: "limited", until: 900 }, 1_000)).toBe("Just synced. Again in 1 second.");
  expect(answerSentence({ result: "limited", until: 600_000 }, 0)).toBe(
    "The broker has asked to wait. The next sync starts by itself.",
  );
});

test("what a press for all did", () => {
  expect(allSentence([])).toBe("There is nothing to sync.");
  expect(allSentence([{ result: "queued" }, { result: "limited", until: 1 }, { result: "queued" }])).toBe(
    "Sync: 2 requested, 1 just synced.",
  );
});

test("a waiting request says what it waits for", () => {
  expect(waitingSentence({ health: health("ok"), requestedAt: null })).toBeNull();
  expect(waitingSentence({ health: health("ok"), requestedAt: 1 })).toBe("Requested: it starts in a moment.");
  expect(waitingSentence({ health: health("worker_offline"), requestedAt: 1 })).toBe(
    "Requested: it starts as soon as the worker runs.",
  );
  expect(waitingSentence({ health: health("syncing"), requestedAt: 1 })).toBe("Requested: another look follows this sync.");
});
