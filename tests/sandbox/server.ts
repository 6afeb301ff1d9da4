// Starts the local Convex server as its users do: as a process of its own.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey } from "jose";

export interface Ready {
  readonly address: string;
  readonly siteAddress: string;
  readonly adminKey: string;
  readonly issuer: string;
}

export interface Robot {
  readonly jwks: string;
  token(claims?: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>;
}

/** A machine identity for the fixture's customJwt provider. */
export async function createRobot(): Promise<Robot> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const keys = [{ ...(await exportJWK(publicKey)), kid: "robot-1", alg: "ES256" }];
  return {
    jwks: `data:application/json;base64,${Buffer.from(JSON.stringify({ keys })).toString("base64")}`,
    token: (claims, header) => robotToken(privateKey, claims, header),
  };
}

export function robotToken(
  key: CryptoKey,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const standard = { iss: "https://robot.example", aud: "fixture", sub: "robot", iat: now, exp: now + 600 };
  return new SignJWT({ ...standard, ...claims }).setProtectedHeader({ alg: "ES256", kid: "robot-1", ...header }).sign(key);
}

export class TestServer {
  private constructor(
    private readonly child: ChildProcess,
    readonly ready: Ready,
  ) {}

  static async start(robot: Robot, ...options: string[]): Promise<TestServer> {
    const child = spawn(
      process.execPath,
      ["--import", "tsx", "sandbox/convex-server/main.ts", "--functions", "tests/sandbox/fixture-convex"]
        .concat(["--port", "0", "--exit-with-stdin", "--env", `ROBOT_JWKS=${robot.jwks}`])
        .concat(options),
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    for await (const line of createInterface(child.stdout)) {
      return new TestServer(child, JSON.parse(line) as Ready);
    }
    throw new Error(`The server did not start: ${errors}`);
  }

  get address(): string {
    return this.ready.address;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await exited;
  }

  async token(subject: string, details: Record<string, unknown> = {}): Promise<string> {
    const { token } = (await this.control("POST", "token", { subject, ...details })) as { token: string };
    return token;
  }

  async control(method: string, what: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.address}/sandbox/${what}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
    return response.json();
  }

  fault(details: Record<string, unknown>): Promise<unknown> {
    return this.control("POST", "faults", details);
  }

  /** A raw call of the HTTP API. */
  async call(
    endpoint: string,
    body: unknown,
    authorization?: string,
  ): Promise<{ status: number; body: Record<string, unknown>; text: string }> {
    const response = await fetch(`${this.address}/api/${endpoint}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(authorization === undefined ? {} : { authorization }) },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, text, body: JSON.parse(text) as Record<string, unknown> };
  }
}

/** Waits for a condition that another process brings about. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, seconds = 10): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${String(seconds)} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
