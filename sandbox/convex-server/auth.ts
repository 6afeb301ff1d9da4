// Who is calling: tokens are verified against convex/auth.config.ts (reference convex 3.1).
import { timingSafeEqual } from "node:crypto";
import { pathToFileURL } from "node:url";
import type { UserIdentity } from "convex/server";
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify, type JSONWebKeySet, type JWTPayload } from "jose";
import { NOBODY, type Caller } from "./engine";
import { world } from "./world";

interface OidcProvider {
  readonly domain: string;
  readonly applicationID: string;
}

interface CustomJwtProvider {
  readonly type: "customJwt";
  readonly issuer: string;
  readonly jwks: string;
  readonly algorithm: "RS256" | "ES256";
  readonly applicationID?: string;
}

export type Provider = OidcProvider | CustomJwtProvider;

/** The token or key was refused; `code` and `message` are the body of the 401. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** convex/auth.config.ts cannot be used with the present environment variables. */
export class AuthConfigError extends Error {}

export interface Verified {
  readonly caller: Caller;
  /** Epoch ms; null where nothing expires. */
  readonly expiresAt: number | null;
}

const LEEWAY_SECONDS = 5;
const REGISTERED = new Set(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]);

const ATTRIBUTE_OF_CLAIM: Record<string, string> = {
  given_name: "givenName",
  family_name: "familyName",
  preferred_username: "preferredUsername",
  profile: "profileUrl",
  picture: "pictureUrl",
  email_verified: "emailVerified",
  birthdate: "birthday",
  zoneinfo: "timezone",
  locale: "language",
  phone_number: "phoneNumber",
  phone_number_verified: "phoneNumberVerified",
  updated_at: "updatedAt",
};

let generation = 0;

/** Evaluates auth.config anew, with `env` as its only environment. */
export async function loadProviders(file: string | null, env: Readonly<Record<string, string>>): Promise<Provider[]> {
  if (file === null) return [];
  const missing = new Set<string>();
  const watched = new Proxy(env, {
    get(target, name) {
      if (typeof name === "string" && !Object.hasOwn(target, name)) missing.add(name);
      return Reflect.get(target, name) as string | undefined;
    },
  });
  const deployment = {
    env: watched,
    now: Date.now,
    schedule: () => {
      throw new AuthConfigError("auth.config cannot use timers.");
    },
    committed: () => undefined,
  };
  generation += 1;
  const url = `${pathToFileURL(file).href}?generation=${String(generation)}`;
  const module = await world.run(
    { deployment, cause: "internal", documentsRead: 0, log: [] },
    async () => (await import(/* @vite-ignore */ url)) as { default?: { providers?: Provider[] } },
  );
  if (missing.size > 0) {
    const names = [...missing].join(", ");
    throw new AuthConfigError(
      `auth.config reads ${names}, which ${missing.size === 1 ? "is" : "are"} not set: ` +
        `start the server with ${[...missing].map((name) => `--env ${name}=…`).join(" ")}.`,
    );
  }
  return module.default?.providers ?? [];
}

export class Authenticator {
  private readonly keySets = new Map<string, { keys: JSONWebKeySet; until: number }>();

  constructor(
    private providers: readonly Provider[],
    private readonly adminKey: string,
    private readonly now: () => number,
  ) {}

  use(providers: readonly Provider[]): void {
    this.providers = providers;
  }

  /** The `Authorization` header of an HTTP request. */
  async fromHeader(header: string | undefined): Promise<Caller> {
    if (header === undefined) return NOBODY;
    const [scheme = "", credentials = ""] = header.split(" ", 2);
    if (scheme === "Bearer") return (await this.user(credentials)).caller;
    if (scheme === "Convex") return this.admin(credentials);
    throw new Refused("InvalidAuthHeader", "The Authorization header must start with Bearer or Convex.");
  }

  /** The admin key, optionally followed by `:` and the identity to act as (`convex run --identity`). */
  admin(credentials: string, actingAs?: Partial<UserIdentity>): Caller {
    const [key = "", encoded] = credentials.split(":");
    const given = Buffer.from(key);
    const expected = Buffer.from(this.adminKey);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new Refused("BadAdminKey", "The provided admin key was invalid for this instance");
    }
    const attributes = actingAs ?? (encoded === undefined ? undefined : decodeIdentity(encoded));
    return { identity: attributes === undefined ? null : impersonated(attributes), isAdmin: true };
  }

  async user(token: string): Promise<Verified> {
    let claims: JWTPayload;
    let header: { alg?: string; kid?: string };
    try {
      claims = decodeJwt(token);
      header = decodeProtectedHeader(token);
    } catch {
      throw new Refused("InvalidAuthHeader", "Could not parse as id token");
    }
    const provider = this.providers.find((candidate) => matches(candidate, claims));
    if (provider === undefined) {
      throw new Refused(
        "NoAuthProvider",
        "No auth provider found matching the given token. Check that your server auth config matches its issuer and audience.",
      );
    }
    try {
      const verified = "type" in provider
        ? await this.verifyCustom(token, header, provider)
        : await this.verifyOidc(token, claims, provider);
      const identity = "type" in provider ? customIdentity(verified) : oidcIdentity(verified);
      return { caller: { identity, isAdmin: false }, expiresAt: (verified.exp ?? 0) * 1000 };
    } catch (error) {
      if (error instanceof Refused) throw error;
      throw new Refused(
        "Unauthenticated",
        "Could not verify token claim. Check that the token signature is valid and the token hasn't expired. " +
          `(${error instanceof Error ? error.message : String(error)})`,
      );
    }
  }

  private async verifyCustom(
    token: string,
    header: { kid?: string },
    { jwks, algorithm, applicationID }: CustomJwtProvider,
  ): Promise<JWTPayload> {
    if (header.kid === undefined) throw new Refused("Unauthenticated", "The token's header has no kid");
    const keys = createLocalJWKSet(await this.keySet(jwks));
    const { payload } = await jwtVerify(token, keys, {
      ...this.rules(),
      algorithms: [algorithm],
      ...(applicationID === undefined ? {} : { audience: applicationID }),
    });
    return payload;
  }

  private async verifyOidc(token: string, claims: JWTPayload, { applicationID }: OidcProvider): Promise<JWTPayload> {
    if (Array.isArray(claims.aud) && claims.aud.length !== 1) {
      throw new Refused("Unauthenticated", "The token must name exactly one audience");
    }
    const issuer = withScheme(claims.iss ?? "").replace(/\/$/, "");
    const discovery = (await fetchJson(`${issuer}/.well-known/openid-configuration`)).body as { jwks_uri?: string };
    if (discovery.jwks_uri === undefined) throw new Error("the issuer's discovery document names no jwks_uri");
    const keys = createLocalJWKSet(await this.keySet(discovery.jwks_uri));
    const { payload } = await jwtVerify(token, keys, {
      ...this.rules(),
      algorithms: ["RS256", "EdDSA"],
      audience: applicationID,
    });
    return payload;
  }

  private rules() {
    return {
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(this.now()),
      requiredClaims: ["iss", "sub", "exp"],
    };
  }

  private async keySet(uri: string): Promise<JSONWebKeySet> {
    if (uri.startsWith("data:")) {
      return (await (await fetch(uri)).json()) as JSONWebKeySet;
    }
    const cached = this.keySets.get(uri);
    if (cached !== undefined && cached.until > Date.now()) return cached.keys;
    const { body, maxAgeSeconds } = await fetchJson(uri);
    const keys = body as JSONWebKeySet;
    this.keySets.set(uri, { keys, until: Date.now() + maxAgeSeconds * 1000 });
    return keys;
  }
}

function decodeIdentity(encoded: string): Partial<UserIdentity> {
  try {
    return JSON.parse(Buffer.from(encoded, "base64").toString("utf8")) as Partial<UserIdentity>;
  } catch {
    throw new Refused("InvalidAuthHeader", "The identity behind the admin key is not base64 of JSON.");
  }
}

async function fetchJson(url: string): Promise<{ body: unknown; maxAgeSeconds: number }> {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url} answered ${String(response.status)}`);
  const type = (response.headers.get("content-type") ?? "").split(";")[0]?.trim();
  if (type !== "application/json" && type !== "application/jwk-set+json") {
    throw new Error(`${url} answered with content type ${type ?? "none"}`);
  }
  const maxAge = /max-age=(\d+)/.exec(response.headers.get("cache-control") ?? "")?.[1] ?? "0";
  return { body: await response.json(), maxAgeSeconds: Number(maxAge) };
}

function matches(provider: Provider, { iss, aud }: JWTPayload): boolean {
  const issuer = "type" in provider ? provider.issuer : provider.domain;
  if (iss === undefined || normalised(iss) !== normalised(issuer)) return false;
  if (provider.applicationID === undefined) return true;
  return [aud ?? []].flat().includes(provider.applicationID);
}

function normalised(issuer: string): string {
  return withScheme(issuer).replace(/\/$/, "");
}

function withScheme(issuer: string): string {
  return /^https?:\/\//.test(issuer) ? issuer : `https://${issuer}`;
}

function oidcIdentity(claims: JWTPayload): UserIdentity {
  const rest = Object.entries(claims).filter(([name]) => !REGISTERED.has(name));
  return {
    ...core(claims),
    ...Object.fromEntries(rest.map(([name, value]) => [ATTRIBUTE_OF_CLAIM[name] ?? name, value])),
  };
}

function customIdentity(claims: JWTPayload): UserIdentity {
  const rest = Object.entries(claims).filter(([name]) => !REGISTERED.has(name));
  return { ...Object.fromEntries(rest.flatMap(([name, value]) => flattened(name, value))), ...core(claims) };
}

function flattened(name: string, value: unknown): [string, never][] {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([inner, field]) => flattened(`${name}.${inner}`, field));
  }
  return [[name, value as never]];
}

function core({ iss = "", sub = "" }: JWTPayload) {
  return { tokenIdentifier: `${iss}|${sub}`, issuer: iss, subject: sub };
}

function impersonated(attributes: Partial<UserIdentity>): UserIdentity {
  const issuer = attributes.issuer ?? "https://convex.test";
  const subject = attributes.subject ?? "";
  return { ...attributes, issuer, subject, tokenIdentifier: attributes.tokenIdentifier ?? `${issuer}|${subject}` };
}
