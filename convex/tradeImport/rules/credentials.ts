// Shapes of credentials and settings, checked where a person enters them so that the answer is a sentence.
import type { Auth, ConnectionSettings } from "../validators";

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const MIN_SECRET_LENGTH = 24;

export type Checked<Value> = { ok: true; value: Value } | { message: string; ok: false };

/** Credentials as they are stored: pasted text comes with spaces and line ends. */
export function checkAuth(auth: Auth): Checked<Auth> {
  const apiKey = auth.apiKey.trim();
  const apiSecret = auth.apiSecret.trim();
  const otp = auth.otp?.trim();
  if (apiKey === "") return wrong("The API key is empty. Copy it from the key's page at Kraken.");
  if (!/^[\x21-\x7e]{8,256}$/.test(apiKey)) {
    return wrong("The API key has characters that no Kraken key has. Copy it again.");
  }
  if (apiSecret === "") return wrong("The private key is empty. Kraken shows it once, when the key is made.");
  if (!BASE64.test(apiSecret) || apiSecret.length < MIN_SECRET_LENGTH) {
    return wrong("The private key is not complete. Copy it again, to the last character.");
  }
  if (apiKey === apiSecret) return wrong("API key and private key are the same text. Kraken shows two different ones.");
  return { ok: true, value: { apiKey, apiSecret, kind: auth.kind, ...(otp ? { otp } : {}) } };
}

/** Enough to recognise a key by, too little to use it. */
export function maskedKey(auth: Auth): string {
  return `…${auth.apiKey.slice(-4)}`;
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
