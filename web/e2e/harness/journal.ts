// The deployment's functions, called as the pages' user or as the worker.
import { createHash, createPrivateKey, generateKeyPairSync, sign, type JsonWebKey } from "node:crypto";

export class Refused extends Error {}

/** Query and mutation of one caller; an answer that is an error throws what the function said. */
export class Caller {
  constructor(
    private readonly address: string,
    private readonly token: () => Promise<string>,
  ) {}

  readonly query = <Value = unknown>(path: string, args: Record<string, unknown> = {}): Promise<Value> =>
    this.call("query", path, args) as Promise<Value>;

  readonly mutation = <Value = unknown>(path: string, args: Record<string, unknown> = {}): Promise<Value> =>
    this.call("mutation", path, args) as Promise<Value>;

  private async call(kind: string, path: string, args: Record<string, unknown>): Promise<unknown> {
    const answer = await fetch(`${this.address}/api/${kind}`, {
      body: JSON.stringify({ args, format: "json", path }),
      headers: { Authorization: `Bearer ${await this.token()}`, "Content-Type": "application/json" },
      method: "POST",
    });
    const body = (await answer.json()) as { errorData?: unknown; errorMessage?: string; status?: string; value?: unknown };
    if (body.status !== "success") throw new Refused(`${path}: ${JSON.stringify(body.errorData ?? body.errorMessage ?? body)}`);
    return body.value;
  }
}

export type WorkerKeys = { jwks: string; pem: string; token: () => string };

/** A worker's identity, as `trade-sync keys` makes it. */
export function makeWorkerKeys(): WorkerKeys {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { crv, kty, x, y } = publicKey.export({ format: "jwk" }) as JsonWebKey & Record<"crv" | "kty" | "x" | "y", string>;
  const kid = createHash("sha256").update(JSON.stringify({ crv, kty, x, y })).digest("base64url");
  const document = JSON.stringify({ keys: [{ alg: "ES256", crv, kid, kty, use: "sig", x, y }] });
  const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  return {
    jwks: `data:application/json;base64,${Buffer.from(document).toString("base64")}`,
    pem,
    token: () => {
      const now = Math.floor(Date.now() / 1000);
      const claims = { aud: "trade-import", exp: now + 900, iat: now, iss: "https://trade-sync-worker", sub: "sync-worker" };
      const head = [{ alg: "ES256", kid, typ: "JWT" }, claims]
        .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
        .join(".");
      const signature = sign("sha256", Buffer.from(head), { dsaEncoding: "ieee-p1363", key: createPrivateKey(pem) });
      return `${head}.${signature.toString("base64url")}`;
    },
  };
}
