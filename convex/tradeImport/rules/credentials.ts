// Shapes of credentials and settings, checked where a person enters them so that the answer is a sentence.
import type { Auth, ConnectionSettings } from "../validators";

const PRINTABLE = /^[\x21-\x7e]+$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const MIN_SECRET_LENGTH = 24;

/** Protocol, host and port, and no more behind them than the slash that browsers add. */
const ORIGIN = /^https?:\/\/[^\s/\\?#@]+\/?$/i;
const EXAMPLE_GATEWAY = "https://localhost:5000";

/** Nine letters that the user chose; the broker's own test consumer has eight (reference ibkr 3.1). */
const CONSUMER_KEY = /^(?:[A-Z]{9}|TESTCONS)$/;
const REALMS: ReadonlyArray<string> = ["limited_poa", "test_realm"];

const FLEX_TOKEN = /^\d{6,64}$/;
const FLEX_QUERY = /^\d{1,20}$/;

type AuthOf<Kind extends Auth["kind"]> = Extract<Auth, { kind: Kind }>;

export type Checked<Value> = { ok: true; value: Value } | { message: string; ok: false };

/** Credentials as they are stored: pasted text comes with spaces and line ends. */
export function checkAuth(auth: Auth): Checked<Auth> {
  switch (auth.kind) {
    case "kraken":
      return checkKraken(auth);
    case "ibkr_gateway":
      return checkGateway(auth);
    case "ibkr_oauth":
      return checkOAuth(auth);
    case "ibkr_flex":
      return checkFlex(auth);
  }
}

function checkKraken(auth: AuthOf<"kraken">): Checked<Auth> {
  const apiKey = auth.apiKey.trim();
  const apiSecret = auth.apiSecret.trim();
  const otp = auth.otp?.trim();
  if (apiKey === "") return wrong("The API key is empty. Copy it from the key's page at Kraken.");
  if (!PRINTABLE.test(apiKey) || apiKey.length < 8 || apiKey.length > 256) {
    return wrong("The API key has characters that no Kraken key has. Copy it again.");
  }
  if (apiSecret === "") return wrong("The private key is empty. Kraken shows it once, when the key is made.");
  if (!BASE64.test(apiSecret) || apiSecret.length < MIN_SECRET_LENGTH) {
    return wrong("The private key is not complete. Copy it again, to the last character.");
  }
  if (apiKey === apiSecret) return wrong("API key and private key are the same text. Kraken shows two different ones.");
  return { ok: true, value: { apiKey, apiSecret, kind: auth.kind, ...(otp ? { otp } : {}) } };
}

function checkGateway(auth: AuthOf<"ibkr_gateway">): Checked<Auth> {
  const text = auth.baseUrl.trim();
  if (text === "") {
    return wrong(`The gateway's address is empty. Enter the address where you log in, such as ${EXAMPLE_GATEWAY}.`);
  }
  const url = ORIGIN.test(text) ? parsed(text) : null;
  if (url === null) {
    return wrong(
      `This is not the address of a gateway. Enter https://, the host and the port and nothing else, such as ${EXAMPLE_GATEWAY}.`,
    );
  }
  if (url.protocol !== "https:" && !isLoopback(url.hostname)) {
    return wrong("Only a gateway on the worker's own computer may be reached by http. Begin the address with https.");
  }
  return { ok: true, value: { baseUrl: `${url.protocol}//${url.host}`, kind: auth.kind } };
}

function parsed(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

function checkOAuth(auth: AuthOf<"ibkr_oauth">): Checked<Auth> {
  const consumerKey = auth.consumerKey.trim().toUpperCase();
  const accessToken = auth.accessToken.trim();
  // Long enough to be shown, and copied, in several lines.
  const accessTokenSecret = auth.accessTokenSecret.replace(/\s+/g, "");
  const realm = auth.realm?.trim();
  if (!CONSUMER_KEY.test(consumerKey)) {
    return wrong("The consumer key is the nine letters you chose at Interactive Brokers. Enter them as on its OAuth page.");
  }
  if (!PRINTABLE.test(accessToken)) {
    return wrong("The access token is empty or not complete. Copy it from Interactive Brokers' OAuth page.");
  }
  if (accessTokenSecret === "" || !BASE64.test(accessTokenSecret)) {
    return wrong(
      "The access token secret is empty or not complete. It is shown once; if you have no copy, make a new token.",
    );
  }
  if (realm && !REALMS.includes(realm)) {
    return wrong("The realm is limited_poa or test_realm. Leave it empty if you are not sure.");
  }
  const keys: Partial<Record<"dhParam" | "encryptionKey" | "signatureKey", string>> = {};
  for (const [name, file] of [
    ["signatureKey", "private_signature.pem"],
    ["encryptionKey", "private_encryption.pem"],
    ["dhParam", "dhparam.pem"],
  ] as const) {
    const text = auth[name]?.trim();
    if (!text) continue;
    if (!text.startsWith("-----BEGIN")) {
      return wrong(`This is not the content of ${file}. Paste the whole file, from the line that starts with -----BEGIN.`);
    }
    keys[name] = text;
  }
  return {
    ok: true,
    value: { accessToken, accessTokenSecret, consumerKey, kind: auth.kind, ...keys, ...(realm ? { realm } : {}) },
  };
}

function checkFlex(auth: AuthOf<"ibkr_flex">): Checked<Auth> {
  const token = auth.token.trim();
  const activityQueryId = auth.activityQueryId?.trim();
  const confirmQueryId = auth.confirmQueryId?.trim();
  if (!FLEX_TOKEN.test(token)) {
    return wrong("The Flex token is the number shown under Flex Web Service in Client Portal. Copy it again.");
  }
  for (const queryId of [activityQueryId, confirmQueryId]) {
    if (queryId && !FLEX_QUERY.test(queryId)) {
      return wrong("A query id is a number. Click the information mark beside the Flex query to see it.");
    }
  }
  if (!activityQueryId && !confirmQueryId) {
    return wrong("Enter the id of an Activity Flex query, of a Trade Confirmation Flex query, or of both.");
  }
  const { tokenEndsAt } = auth;
  if (tokenEndsAt !== undefined && !(Number.isSafeInteger(tokenEndsAt) && tokenEndsAt > 0)) {
    return wrong("The end of the token is a date, as Client Portal shows it beside the token.");
  }
  if (activityQueryId === confirmQueryId) return wrong("Both query ids are the same. They are two different queries.");
  return {
    ok: true,
    value: {
      kind: auth.kind,
      token,
      ...(activityQueryId ? { activityQueryId } : {}),
      ...(confirmQueryId ? { confirmQueryId } : {}),
      ...(tokenEndsAt === undefined ? {} : { tokenEndsAt }),
    },
  };
}

/** Enough to recognise credentials by, too little to use them. */
export function maskedKey(auth: Auth): string {
  switch (auth.kind) {
    case "kraken":
      return `…${auth.apiKey.slice(-4)}`;
    case "ibkr_gateway":
      return auth.baseUrl;
    case "ibkr_oauth":
      return `…${auth.consumerKey.slice(-4)}`;
    case "ibkr_flex":
      return `…${auth.token.slice(-4)}`;
  }
}

/** Do both go through one gateway, one consumer or one token? Each of Kraken's keys is a way of its own. */
export function sameLogin(a: Auth, b: Auth): boolean {
  switch (a.kind) {
    case "kraken":
      return false;
    case "ibkr_gateway":
      return b.kind === a.kind && gatewayOf(b.baseUrl) === gatewayOf(a.baseUrl);
    case "ibkr_oauth":
      return b.kind === a.kind && b.consumerKey === a.consumerKey;
    case "ibkr_flex":
      return b.kind === a.kind && b.token === a.token;
  }
}

/** The worker's own computer has three names, and behind each the same gateway. */
function gatewayOf(baseUrl: string): string {
  return baseUrl.replace(/^(https?:\/\/)(?:127\.0\.0\.1|\[::1\])(?=:|$)/, "$1localhost");
}

export const DEFAULT_SETTINGS: ConnectionSettings = { intervalMinutes: 15 };

export function checkSettings(settings: ConnectionSettings, now: number): Checked<ConnectionSettings> {
  const { importFrom, intervalMinutes } = settings;
  if (!Number.isInteger(intervalMinutes) || intervalMinutes < 1 || intervalMinutes > 1_440) {
    return wrong("The interval is a whole number of minutes between 1 and 1440.");
  }
  if (importFrom !== undefined && !(Number.isSafeInteger(importFrom) && importFrom >= 0 && importFrom <= now)) {
    return wrong("The import starts at a time between 1970 and now.");
  }
  return { ok: true, value: settings };
}

function wrong(message: string): { message: string; ok: false } {
  return { message, ok: false };
}
