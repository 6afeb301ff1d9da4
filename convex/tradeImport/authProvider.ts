// Who the worker is to Convex. Free of server code, so that auth.config.ts can import it.
import { workerJwks } from "./env";

export const WORKER_AUDIENCE = "trade-import";
export const WORKER_ISSUER = "https://trade-sync-worker";
export const WORKER_SUBJECT = "sync-worker";

/**
 * The entry for `providers` in auth.config.ts. The worker signs its own tokens; Convex knows the public
 * key from TRADE_SYNC_JWKS, a data: URI, so nothing is fetched and no admin key leaves the deployment.
 */
export function workerAuthProvider() {
  const jwks = workerJwks();
  if (jwks === undefined) {
    throw new Error("Set TRADE_SYNC_JWKS on the Convex deployment: `trade-sync keys` prints the command.");
  }
  return {
    algorithm: "ES256" as const,
    applicationID: WORKER_AUDIENCE,
    issuer: WORKER_ISSUER,
    jwks,
    type: "customJwt" as const,
  };
}
