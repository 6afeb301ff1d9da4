import type { Authenticator } from "./auth";
import type { Engine } from "./engine";
import type { FaultBook } from "./faults";
import type { Issuer } from "./issuer";

/** One running deployment: what every request handler needs. */
export interface Sandbox {
  readonly address: string;
  readonly siteAddress: string;
  readonly adminKey: string;
  /** Whether errors and log lines are shown to clients, as a development deployment does. */
  readonly dev: boolean;
  readonly engine: Engine;
  readonly auth: Authenticator;
  readonly issuer: Issuer;
  readonly faults: FaultBook;
  /** Sets or removes an environment variable; throws, and changes nothing, where auth.config needs it. */
  setEnv(name: string, value: string | null): Promise<void>;
  /** Runs one job of crons.ts now. */
  runCron(name: string): Promise<void>;
}
