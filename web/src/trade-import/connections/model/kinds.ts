// What kinds of connections there are, in the words of whoever chooses one.
import type { ConnectionKind } from "../../api";

export type KindWords = {
  /** What it is good for, in a sentence. */
  for: string;
  name: string;
  short: string;
};

export const KINDS: Readonly<Record<ConnectionKind, KindWords>> = {
  kraken: {
    for: "Spot and margin trades of one Kraken account, from its beginning. Needs an API key that may only read.",
    name: "Kraken",
    short: "Kraken",
  },
  ibkr_gateway: {
    for: "Today's trades within minutes. You run IBKR's gateway beside the worker and log in about once a day.",
    name: "Interactive Brokers, gateway",
    short: "IBKR gateway",
  },
  ibkr_flex: {
    for: "The whole history, corrections and fees, without any login. Trades of today arrive after some minutes.",
    name: "Interactive Brokers, Flex reports",
    short: "IBKR Flex",
  },
  ibkr_oauth: {
    for: "As the gateway, without anybody logging in. Only where IBKR has activated a consumer key for you.",
    name: "Interactive Brokers, OAuth",
    short: "IBKR OAuth",
  },
};

export const KIND_ORDER: readonly ConnectionKind[] = ["kraken", "ibkr_flex", "ibkr_gateway", "ibkr_oauth"];

/** What a connection is called where its owner gave it no name. */
export function nameOf(connection: { kind: ConnectionKind; label: string | null }): string {
  return connection.label ?? KINDS[connection.kind].name;
}
