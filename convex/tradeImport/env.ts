// The deployment's variables. Declaring them in convex.config.ts would make the merge touch a file that the app owns.

/** Public keys of the worker, as a data: URI. */
export function workerJwks(): string | undefined {
  return process.env.TRADE_SYNC_JWKS;
}

export type SyncEndpoint = { secret: string; url: string };

/** Where a requested sync is announced; null where the worker has no inbound port or shares no secret. */
export function syncEndpoint(): SyncEndpoint | null {
  const secret = process.env.TRADE_SYNC_SECRET;
  const url = process.env.TRADE_SYNC_URL;
  return secret && url ? { secret, url: `${url.replace(/\/+$/, "")}/v1/sync` } : null;
}
