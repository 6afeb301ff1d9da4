// Servers of the sandbox as children: each prints one JSON line when it is ready.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const PYTHON = process.env.TRADE_SYNC_PYTHON ?? `${ROOT}.venv/bin/python`;

const READY_MS = 60_000;
const PATIENCE_MS = 12_000;

const running = new Set<ChildProcess>();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A process that ends with us. `said` is what it wrote to its error output lately, for whoever looks for a reason. */
export class Child {
  private readonly process: ChildProcess;
  private tail = "";

  constructor(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const [program = "", ...args] = command;
    const inherited = Object.entries(process.env).filter(([name]) => !/^(?:TRADE_SYNC_|CONVEX_|KRAKEN_|IBKR_)/.test(name));
    this.process = spawn(program, args, {
      cwd: ROOT,
      env: { ...Object.fromEntries(inherited), ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    running.add(this.process);
    this.process.once("exit", () => running.delete(this.process));
    this.process.stderr?.on("data", (chunk: Buffer) => (this.tail = (this.tail + chunk.toString()).slice(-8_000)));
  }

  get said(): string {
    return this.tail;
  }

  get runs(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async firstLine(): Promise<Record<string, unknown>> {
    if (this.process.stdout === null) throw new Error("no output");
    const lines = createInterface({ input: this.process.stdout });
    const timer = setTimeout(() => this.process.kill("SIGKILL"), READY_MS);
    try {
      const line = await Promise.race([once(lines, "line"), once(this.process, "exit").then(() => null)]);
      if (line === null) throw new Error(`a server ended before it was ready: ${this.tail}`);
      return JSON.parse(String(line[0])) as Record<string, unknown>;
    } finally {
      clearTimeout(timer);
    }
  }

  /** As an operator would; by force when it takes too long. */
  async stop(): Promise<void> {
    if (!this.runs) return;
    const exited = once(this.process, "exit");
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), PATIENCE_MS);
    await exited;
    clearTimeout(timer);
  }
}
