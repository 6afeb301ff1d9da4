// Two views of one execution: is the second one news, and what is kept of the first?
import type { Infer } from "convex/values";
import type { Execution, vEarlierRevision } from "../validators";

type EarlierRevision = Infer<typeof vEarlierRevision>;

/** Corrections of one execution are few; a history that grew without end would outgrow its document. */
export const MAX_EARLIER_REVISIONS = 10;

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

/** The history after a correction, which keeps what `stored` said; other news of one revision leave no trace. */
export function historyAfter(
  stored: Execution & { earlierRevisions?: EarlierRevision[] },
  incoming: Execution,
  correction: Pick<EarlierRevision, "importJobId" | "replacedAt">,
): EarlierRevision[] | undefined {
  if (incoming.revision <= stored.revision) return stored.earlierRevisions;
  const { fee, occurredAt, price, quantity, rawPayload, revision, side, source, symbol } = stored;
  const replaced = { ...correction, fee, occurredAt, price, quantity, rawPayload, revision, side, source, symbol };
  return [...(stored.earlierRevisions ?? []), replaced].slice(-MAX_EARLIER_REVISIONS);
}
