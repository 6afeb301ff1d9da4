// Two views of one execution: is the second one news?
import type { Execution } from "../validators";

/** All that an execution states; its raw text and the revision's number are not part of what it says. */
const FACTS = [
  "assetClass",
  "cancels",
  "conid",
  "currency",
  "externalOrderId",
  "fee",
  "feeCurrency",
  "kind",
  "multiplier",
  "occurredAt",
  "openClose",
  "price",
  "quantity",
  "rawSymbol",
  "side",
  "symbol",
] as const satisfies ReadonlyArray<keyof Execution>;

/** Higher revisions are news even if they say the same, lower ones never are. */
export function isNews(stored: Execution, incoming: Execution): boolean {
  if (incoming.revision !== stored.revision) return incoming.revision > stored.revision;
  return !sameFacts(stored, incoming);
}

function sameFacts(a: Execution, b: Execution): boolean {
  return FACTS.every((fact) => a[fact] === b[fact]) && [...a.flags].sort().join() === [...b.flags].sort().join();
}
