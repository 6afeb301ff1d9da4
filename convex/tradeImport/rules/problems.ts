// What stands open, as lines that a person reads and acts on. Derived from what is stored, so that a line goes with
// its cause.
import type { ConnectionKind, Health, HeldReason, Problem, ProblemAction } from "../validators";
import type { Completeness } from "./completeness";

export type ConnectionFacts<Id> = {
  accountRef: string | undefined;
  connectionId: Id;
  gaps: Completeness["gaps"];
  health: Health;
  kind: ConnectionKind;
  problem: Problem | undefined;
};

/** Rejects of one connection that wait; those of another account than its own apart. */
export type RejectFacts<Id> = {
  /** The other account, if it is one. */
  accountRef: string | undefined;
  connectionId: Id;
  count: number;
  retrying: number;
  since: number;
};

export type HeldFacts = { count: number; reason: HeldReason; since: number };

export type ProblemLine<Id> = {
  /** What to do, for a person; empty where there is nothing to do. */
  action: string;
  actionCode: ProblemAction;
  connectionId: Id | null;
  /** Of rows, gaps or cancels that the line stands for. */
  count: number | null;
  sentence: string;
  since: number;
  url: string | null;
};

type Facts<Id> = {
  connections: ReadonlyArray<ConnectionFacts<Id>>;
  held: ReadonlyArray<HeldFacts>;
  rejects: ReadonlyArray<RejectFacts<Id>>;
  /** How long no worker has reported, if that is too long. */
  silence: { everReported: boolean; since: number } | null;
};

const DOES: Readonly<Record<ProblemAction, string>> = {
  check_flex_query: "Correct the Flex query; «trade-sync check-flex» names what is missing in it.",
  connect_account: "Connect that account to import them.",
  disconnect: "Disconnect one of the two connections.",
  import_statement: "Import a Flex statement of that time.",
  log_in: "Log in at the address.",
  none: "",
  retry_rejects: "Press Retry. What still cannot be read then, show to whoever runs the worker.",
  start_worker: "Start the worker: trade-sync run.",
  sync_now: "Press Sync now.",
  update_credentials: "Enter new credentials.",
};

/** The actions that the worker names. */
const NAMED: Readonly<Partial<Record<string, ProblemAction>>> = {
  check_flex_query: "check_flex_query",
  disconnect: "disconnect",
  import_flex: "import_statement",
  log_in: "log_in",
  update_credentials: "update_credentials",
};

/** Kinds that can read any part of their history again. The live API of Interactive Brokers remembers a week. */
const REREADS: ReadonlyArray<ConnectionKind> = ["ibkr_flex", "kraken"];

export function openProblems<Id>(facts: Facts<Id>): ProblemLine<Id>[] {
  return [
    ...(facts.silence === null ? [] : [ofWorker<Id>(facts.silence)]),
    // A sync is overdue because nobody does it: that is one problem, not two.
    ...facts.connections
      .filter(({ health }) => facts.silence === null || health.state !== "stale")
      .flatMap(ofConnection),
    ...facts.connections.flatMap(ofGaps),
    ...facts.rejects.map(ofRejects),
    ...facts.held.map((held) => ofHeld<Id>(held)),
  ];
}

function ofWorker<Id>({ everReported, since }: { everReported: boolean; since: number }): ProblemLine<Id> {
  return line<Id>("start_worker", {
    connectionId: null,
    count: null,
    sentence: everReported
      ? "The worker is not running: nothing is imported until it is."
      : "No worker has reported yet: nothing is imported until one runs.",
    since,
  });
}

function ofConnection<Id>(connection: ConnectionFacts<Id>): ProblemLine<Id>[] {
  const { connectionId, gaps, health, problem } = connection;
  switch (health.state) {
    case "disconnected":
    case "never_synced":
    case "ok":
    case "syncing":
    case "worker_offline":
      return [];
    case "stale":
      return [line("sync_now", { connectionId, count: null, sentence: health.sentence, since: health.since })];
    case "degraded":
    case "in_use_elsewhere":
    case "maintenance_window":
    case "needs_reauth": {
      // The rows themselves tell how many of them are still not read.
      if (problem?.code === "bad_records") return [];
      const needsPerson = health.state === "needs_reauth";
      const actionCode = NAMED[problem?.action ?? ""] ?? (needsPerson ? "update_credentials" : "none");
      const count = problem?.code === "gap" ? gaps.length : null;
      const shown = { connectionId, count, sentence: health.sentence, since: health.since, url: health.url ?? null };
      return [
        // An action that is no code is a text for people already.
        actionCode === "none" && problem !== undefined ? { ...line("none", shown), action: problem.action } : line(actionCode, shown),
      ];
    }
  }
}

function ofGaps<Id>({ connectionId, gaps, health, kind, problem }: ConnectionFacts<Id>): ProblemLine<Id>[] {
  const last = gaps[gaps.length - 1];
  const [first] = gaps;
  if (first === undefined || last === undefined) return [];
  // While a sync runs they are its work; the worker's own sentence about them says more.
  if (health.state === "syncing" || health.state === "disconnected" || problem?.code === "gap") return [];
  const range = `${minute(last.start)} to ${minute(last.end)} (UTC)`;
  const others = gaps.length === 1 ? "" : ` and ${gaps.length - 1} earlier ${gaps.length === 2 ? "range" : "ranges"}`;
  return [
    line(REREADS.includes(kind) ? "sync_now" : "import_statement", {
      connectionId,
      count: gaps.length,
      sentence: `Executions from ${range}${others} may be missing. If you did not trade then, nothing is missing.`,
      since: first.start,
    }),
  ];
}

function ofRejects<Id>({ accountRef, connectionId, count, retrying, since }: RejectFacts<Id>): ProblemLine<Id> {
  const rows = `${count} ${count === 1 ? "row" : "rows"}`;
  if (accountRef !== undefined) {
    return line("connect_account", {
      connectionId,
      count,
      sentence: `${rows} ${count === 1 ? "belongs" : "belong"} to account ${accountRef}, which is not connected.`,
      since,
    });
  }
  const kept = `${rows} from the broker could not be read and ${count === 1 ? "is" : "are"} kept with the reason.`;
  return retrying === count
    ? line("none", { connectionId, count, sentence: `${kept} The next sync tries again.`, since })
    : line("retry_rejects", { connectionId, count, sentence: kept, since });
}

function ofHeld<Id>({ count, reason, since }: HeldFacts): ProblemLine<Id> {
  const one = count === 1;
  const executions = `${count} ${one ? "execution" : "executions"}`;
  const shown = { connectionId: null, count, since };
  switch (reason) {
    case "asset_class_not_supported":
      return line<Id>("none", {
        ...shown,
        sentence: `${executions} of a class that the journal has no place for ${one ? "is" : "are"} kept outside it.`,
      });
    case "kind_not_supported":
      return line<Id>("none", {
        ...shown,
        sentence: `${executions} that ${one ? "is" : "are"} no purchase or sale (expiry, assignment, exercise) ${one ? "is" : "are"} kept outside the journal. Positions do not count ${one ? "it" : "them"}.`,
      });
    case "original_not_seen":
      return line<Id>("import_statement", {
        ...shown,
        sentence: `${count} ${one ? "cancel waits for the trade that it cancels" : "cancels wait for the trades that they cancel"}.`,
      });
  }
}

function line<Id>(
  actionCode: ProblemAction,
  shown: Pick<ProblemLine<Id>, "connectionId" | "count" | "sentence" | "since"> & { url?: string | null },
): ProblemLine<Id> {
  return { action: DOES[actionCode], actionCode, ...shown, url: shown.url ?? null };
}

function minute(instant: number): string {
  return new Date(instant).toISOString().slice(0, 16).replace("T", " ");
}
