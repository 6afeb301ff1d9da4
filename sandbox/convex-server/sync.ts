// The sync protocol over WebSocket (reference convex section 1). One Session a connection: it keeps the set of
// live queries and brings the client from one state version to the next, one Transition at a time.
import { createHash } from "node:crypto";
import type { Server } from "node:http";
import type { Duplex } from "node:stream";
import type { UserIdentity } from "convex/server";
import { convexToJson, type JSONValue } from "convex/values";
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import { Refused } from "./auth";
import { errorText, NOBODY, type Caller, type LiveResult, type Outcome, type Subscription } from "./engine";
import type { Fault } from "./faults";
import { canonicalPath } from "./functions";
import { MAX_BODY_BYTES } from "./limits";
import type { Sandbox } from "./sandbox";
import { decodeTs, encodeTs } from "./values";
import type { Change, Journal, Read } from "./world";

const PING_EVERY = 5_000;
const PROTOCOL_PING_AFTER = 15_000;
const CLOSE_AFTER_SILENCE = 120_000;
/** How long a client may take to read the last message. */
const LINGER = 1_000;
/** "Try again later": the client reconnects and sends again. */
const TRY_AGAIN = 1_013;
const MAX_QUEUED_MUTATIONS = 1_000;

interface AddQuery {
  type: "Add";
  queryId: number;
  udfPath: string;
  args: unknown;
  journal?: string | null;
}

interface FunctionRequest {
  requestId: number;
  udfPath: string;
  args: unknown;
}

type ClientMessage =
  | { type: "Connect"; sessionId: string; maxObservedTimestamp?: string | null }
  | {
      type: "ModifyQuerySet";
      baseVersion: number;
      newVersion: number;
      modifications: (AddQuery | { type: "Remove"; queryId: number })[];
    }
  | ({ type: "Mutation" | "Action" } & FunctionRequest)
  | {
      type: "Authenticate";
      baseVersion: number;
      tokenType: "User" | "Admin" | "None";
      value?: string;
      impersonating?: Partial<UserIdentity>;
      acting_as?: Partial<UserIdentity>;
    }
  | { type: "Event" };

interface Version {
  readonly querySet: number;
  readonly identity: number;
  readonly ts: bigint;
}

interface LiveQuery extends Subscription {
  readonly queryId: number;
  journal: Journal;
  hasRun: boolean;
  reads: readonly Read[];
  /** Whether a commit touched what the last run read. */
  changed: boolean;
  /** The identity version of the last run. */
  identity: number;
  /** The last result sent, as text. */
  sent: string | null;
}

/** Nothing after this can be understood: the client is told why and the connection ends. */
class ProtocolError extends Error {}

export class SyncServer {
  /** Successful mutations by (session, request): sent again after a reconnect, they are answered and not re-run. */
  readonly completed = new Map<string, Promise<Outcome>>();
  private readonly sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_BODY_BYTES });
  private readonly sessions = new Set<Session>();
  private readonly timer: NodeJS.Timeout;

  constructor(sandbox: Sandbox, server: Server) {
    server.on("upgrade", (request, socket, head) => {
      // The version of JavaScript clients is part of the path; theirs may have a prefix before it.
      if (!/\/api(\/[^/]+)?\/sync$/.test((request.url ?? "").split("?")[0] ?? "")) {
        socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
        return;
      }
      this.sockets.handleUpgrade(request, socket, head, (accepted) => {
        const session = new Session(sandbox, accepted, socket, this.completed);
        this.sessions.add(session);
        accepted.on("close", () => this.sessions.delete(session));
      });
    });
    sandbox.engine.onCommit((changes) => {
      for (const session of this.sessions) session.committed(changes);
    });
    this.timer = setInterval(() => {
      for (const session of this.sessions) session.keepAlive();
    }, PING_EVERY);
  }

  close(): void {
    clearInterval(this.timer);
    for (const session of this.sessions) session.terminate();
    this.sockets.close();
  }
}

class Session {
  private sessionId = "";
  private caller: Caller = NOBODY;
  private expiresAt: number | null = null;
  /** What the client has been brought to. */
  private sent: Version = { querySet: 0, identity: 0, ts: 0n };
  /** What the client has asked for. */
  private received = { querySet: 0, identity: 0 };
  private readonly queries = new Map<number, LiveQuery>();
  private removed: number[] = [];
  private inbox = Promise.resolve();
  private mutations = Promise.resolve();
  private queuedMutations = 0;
  private transition: "idle" | "running" | "again" = "idle";
  /** Whether the client waits for a Transition even if nothing has changed. */
  private owed = false;
  private hasEnded = false;
  private lastSentAt = Date.now();
  private lastHeardAt = Date.now();

  constructor(
    private readonly sandbox: Sandbox,
    private readonly socket: WebSocket,
    private readonly stream: Duplex,
    private readonly completed: Map<string, Promise<Outcome>>,
  ) {
    const heard = () => {
      this.lastHeardAt = Date.now();
    };
    socket.on("pong", heard);
    socket.on("error", () => {
      socket.terminate();
    });
    socket.on("message", (data) => {
      heard();
      // One after another: a message may take effect only after the one before it, and verifying a token waits.
      this.inbox = this.inbox.then(() => this.receive(data));
    });
  }

  // --- From the server ---

  committed(changes: readonly Change[]): void {
    for (const query of this.queries.values()) {
      if (!query.changed && changes.some((change) => touches(change, query.reads))) query.changed = true;
    }
    this.advance();
  }

  keepAlive(): void {
    const now = Date.now();
    if (now - this.lastHeardAt > CLOSE_AFTER_SILENCE) {
      this.terminate();
      return;
    }
    this.socket.ping();
    if (now - this.lastSentAt > PROTOCOL_PING_AFTER) this.send({ type: "Ping" });
  }

  terminate(): void {
    this.socket.terminate();
  }

  // --- From the client ---

  private async receive(data: RawData): Promise<void> {
    if (!this.isOpen) return;
    try {
      let message: ClientMessage;
      try {
        message = JSON.parse((data as Buffer).toString("utf8")) as ClientMessage;
      } catch {
        throw new ProtocolError("Received invalid JSON on websocket");
      }
      await this.handle(message);
    } catch (error) {
      if (!(error instanceof ProtocolError)) process.stderr.write(`${String(error)}\n`);
      this.sendLast({ type: "FatalError", error: error instanceof Error ? error.message : String(error) });
    }
  }

  private async handle(message: ClientMessage): Promise<void> {
    switch (message.type) {
      case "Connect":
        this.sessionId = message.sessionId;
        // A client may have seen a clock that ran ahead; its next timestamps must not be lower.
        if (typeof message.maxObservedTimestamp === "string") {
          this.sandbox.engine.raiseTs(decodeTs(message.maxObservedTimestamp));
        }
        return;
      case "ModifyQuerySet":
        if (this.refuseExpired()) return;
        if (message.baseVersion !== this.received.querySet) {
          throw new ProtocolError(
            `BaseVersionMismatch: Base version ${String(message.baseVersion)} passed up doesn't match the current version ${String(this.received.querySet)}`,
          );
        }
        for (const modification of message.modifications) {
          if (modification.type === "Add") await this.add(modification);
          else if (this.queries.delete(modification.queryId)) this.removed.push(modification.queryId);
        }
        this.received = { ...this.received, querySet: message.newVersion };
        this.owe();
        return;
      case "Authenticate":
        if (message.baseVersion !== this.received.identity) {
          throw new ProtocolError(
            `BaseVersionMismatch: Base version ${String(message.baseVersion)} passed up doesn't match the current version ${String(this.received.identity)}`,
          );
        }
        await this.authenticate(message);
        return;
      case "Mutation":
        if (!this.refuseExpired()) this.enqueue(message);
        return;
      case "Action":
        if (!this.refuseExpired()) void this.action(message, this.caller);
        return;
      case "Event":
        return;
      default:
        throw new ProtocolError(`Received an unknown message on websocket`);
    }
  }

  private async add({ queryId, udfPath, args, journal }: AddQuery): Promise<void> {
    const path = canonicalPath(udfPath);
    const fault = this.sandbox.faults.take(path, "socket");
    if (fault !== null && (await this.failsBefore(fault))) return;
    this.queries.set(queryId, {
      queryId,
      path,
      args,
      journal: parseJournal(journal),
      hasRun: false,
      reads: [],
      changed: true,
      identity: this.received.identity,
      sent: null,
    });
  }

  private async authenticate(message: ClientMessage & { type: "Authenticate" }): Promise<void> {
    try {
      const { auth } = this.sandbox;
      const value = message.value ?? "";
      this.expiresAt = null;
      if (message.tokenType === "User") {
        const verified = await auth.user(value);
        this.caller = verified.caller;
        this.expiresAt = verified.expiresAt;
      } else if (message.tokenType === "Admin") {
        this.caller = auth.admin(value, message.impersonating ?? message.acting_as);
      } else {
        this.caller = NOBODY;
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.authError(error.message, true);
      return;
    }
    this.received = { ...this.received, identity: this.received.identity + 1 };
    this.owe();
  }

  /** An expired token is noticed when the client next wants something; an idle connection is left alone. */
  private refuseExpired(): boolean {
    if (this.expiresAt === null || this.sandbox.engine.now() < this.expiresAt) return false;
    this.authError("Convex token identity expired", false);
    return true;
  }

  private authError(error: string, authUpdateAttempted: boolean): void {
    this.sendLast({ type: "AuthError", error, baseVersion: this.received.identity, authUpdateAttempted });
  }

  private enqueue(request: FunctionRequest): void {
    if (this.queuedMutations >= MAX_QUEUED_MUTATIONS) {
      throw new ProtocolError("Too many mutations are waiting on this connection.");
    }
    const { caller } = this;
    this.queuedMutations += 1;
    this.mutations = this.mutations.then(async () => {
      if (this.isOpen) await this.mutation(request, caller);
      this.queuedMutations -= 1;
    });
  }

  private async mutation(request: FunctionRequest, caller: Caller): Promise<void> {
    const fault = this.sandbox.faults.take(canonicalPath(request.udfPath), "socket");
    if (fault !== null && (await this.failsBefore(fault))) return;
    const outcome = await this.once(request, caller);
    if (fault?.kind === "die_after_commit") this.terminate();
    const ts = outcome.ok ? { ts: encodeTs(outcome.ts) } : {};
    this.send({ type: "MutationResponse", ...this.response(request, outcome), ...ts });
    if (fault?.kind === "die_before_transition") this.terminate();
    // Python waits for a Transition after every mutation, failed ones included (reference convex 1.4).
    this.owe();
  }

  private async once(request: FunctionRequest, caller: Caller): Promise<Outcome> {
    const key = `${this.sessionId} ${String(request.requestId)}`;
    const earlier = await this.completed.get(key);
    if (earlier?.ok === true) return earlier;
    const running = this.sandbox.engine.run({ kind: "mutation", path: request.udfPath, args: request.args, caller });
    this.completed.set(key, running);
    return running;
  }

  private async action(request: FunctionRequest, caller: Caller): Promise<void> {
    const fault = this.sandbox.faults.take(canonicalPath(request.udfPath), "socket");
    if (fault !== null && (await this.failsBefore(fault))) return;
    const { udfPath: path, args } = request;
    const outcome = await this.sandbox.engine.run({ kind: "action", path, args, caller });
    if (fault?.kind === "die_after_commit") this.terminate();
    this.send({ type: "ActionResponse", ...this.response(request, outcome) });
    if (fault?.kind === "die_before_transition") this.terminate();
    this.owe();
  }

  /** Whether the fault ends this request before its function runs. */
  private async failsBefore(fault: Fault): Promise<boolean> {
    switch (fault.kind) {
      case "die_before_commit":
        this.terminate();
        return true;
      case "refuse":
      case "conflict":
        this.socket.close(TRY_AGAIN, "OptimisticConcurrencyControlFailure");
        return true;
      case "hang":
        return true;
      case "delay":
        await new Promise((resolve) => setTimeout(resolve, fault.ms ?? 0));
        return !this.isOpen;
      case "die_after_commit":
      case "die_before_transition":
        return false;
    }
  }

  private response({ requestId }: FunctionRequest, outcome: Outcome) {
    const { dev } = this.sandbox;
    const logLines = dev ? outcome.log : [];
    if (outcome.ok) return { requestId, success: true, result: convexToJson(outcome.value), logLines };
    const result = errorText(outcome, dev, this.requestId(String(requestId)));
    return { requestId, success: false, result, logLines, ...errorData(outcome) };
  }

  // --- Transitions ---

  private owe(): void {
    this.owed = true;
    this.advance();
  }

  /** Sees to it that a Transition is built soon; what happens until then goes into the same one. */
  private advance(): void {
    if (this.transition !== "idle") {
      this.transition = "again";
      return;
    }
    this.transition = "running";
    setImmediate(() => void this.transitions());
  }

  private async transitions(): Promise<void> {
    try {
      do {
        this.transition = "running";
        await this.buildTransition();
        // A commit or message during the build has set it back to "again".
      } while ((this.transition as string) === "again" && this.isOpen);
    } catch (error) {
      process.stderr.write(`${String(error)}\n`);
      this.terminate();
    } finally {
      this.transition = "idle";
    }
  }

  private async buildTransition(): Promise<void> {
    const target = this.received;
    const stale = [...this.queries.values()].filter(
      ({ changed, identity }) => changed || identity !== target.identity,
    );
    if (!this.owed && stale.length === 0) return;
    if (stale.some(({ hasRun }) => hasRun) && this.refuseExpired()) return;
    const { owed } = this;
    this.owed = false;
    const modifications: JSONValue[] = this.removed.splice(0).map((queryId) => ({ type: "QueryRemoved", queryId }));
    const ts = await this.sandbox.engine.subscribe(stale, this.caller, (query, result) => {
      query.reads = result.reads;
      query.journal = result.journal;
      query.changed = false;
      query.identity = target.identity;
      query.hasRun = true;
      const modification = this.modification(query.queryId, result);
      const text = JSON.stringify(modification);
      if (text === query.sent) return;
      query.sent = text;
      const journal = result.journal.endCursor === null ? null : JSON.stringify(result.journal);
      modifications.push({ ...modification, queryId: query.queryId, journal });
    });
    if (modifications.length === 0 && !owed) return;
    const end: Version = { ...target, ts: ts > this.sent.ts ? ts : this.sent.ts };
    const start = this.sent;
    this.sent = end;
    this.send({
      type: "Transition",
      startVersion: { ...start, ts: encodeTs(start.ts) },
      endVersion: { ...end, ts: encodeTs(end.ts) },
      modifications,
    });
  }

  private modification(queryId: number, { outcome }: LiveResult): { type: string } & Record<string, JSONValue> {
    const { dev } = this.sandbox;
    const logLines = dev ? [...outcome.log] : [];
    if (outcome.ok) return { type: "QueryUpdated", value: convexToJson(outcome.value), logLines };
    // A fresh id would make every re-run of a failing query look like a new result.
    const errorMessage = errorText(outcome, dev, this.requestId(`query ${String(queryId)}`));
    return { type: "QueryFailed", errorMessage, logLines, ...errorData(outcome) };
  }

  /** Derived, so that the same request has the same id when it is sent again. */
  private requestId(name: string): string {
    return createHash("sha256").update(`${this.sessionId} ${name}`).digest("hex").slice(0, 16);
  }

  // --- The wire ---

  private get isOpen(): boolean {
    return !this.hasEnded && this.socket.readyState === this.socket.OPEN;
  }

  private send(message: unknown): void {
    if (!this.isOpen) return;
    this.lastSentAt = Date.now();
    this.socket.send(JSON.stringify(message));
  }

  /** Sends a message and ends the connection without a close frame. */
  private sendLast(message: unknown): void {
    if (!this.isOpen) return;
    // Whatever the client has sent meanwhile, it must not run any more: after a refused token, as nobody.
    this.hasEnded = true;
    this.socket.send(JSON.stringify(message), () => {
      // Only our side at first: a reset, which unread input would cause, could overtake the message.
      this.stream.end();
      setTimeout(() => {
        this.terminate();
      }, LINGER).unref();
    });
  }
}

function touches({ table, before, after }: Change, reads: readonly Read[]): boolean {
  return reads.some(
    (read) =>
      read.table === table && ((before !== null && read.covers(before)) || (after !== null && read.covers(after))),
  );
}

function errorData(outcome: Outcome): { errorData?: JSONValue } {
  return outcome.ok || outcome.data === undefined ? {} : { errorData: convexToJson(outcome.data) };
}

function parseJournal(text: string | null | undefined): Journal {
  if (text === null || text === undefined) return { endCursor: null };
  const { endCursor } = JSON.parse(text) as Partial<Journal>;
  return { endCursor: endCursor ?? null };
}
