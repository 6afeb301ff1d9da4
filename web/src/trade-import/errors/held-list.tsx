"use client";

import { usePaginatedQuery } from "convex/react";
import { api, type HeldRow } from "../api";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Instant } from "../ui/instant";
import { Payload } from "../ui/payload";
import { LoadingRows } from "../ui/states";

const REASONS: Readonly<Record<NonNullable<HeldRow["heldReason"]>, string>> = {
  asset_class_not_supported: "The journal has no place for this class yet.",
  kind_not_supported: "No purchase or sale.",
  original_not_seen: "Waits for the trade that it cancels.",
};

/** Executions that are known and no trades: of classes the journal lacks, bookings, cancels that wait. */
export function HeldList() {
  const { loadMore, results, status } = usePaginatedQuery(api.tradeImport.inbox.held, {}, { initialNumItems: 20 });
  if (status === "LoadingFirstPage") return <LoadingRows label="Loading rows" count={3} />;
  return (
    <>
      <ul className="divide-y divide-ti-line">
        {results.map((row) => (
          <li key={row.executionId} className="px-4 py-2.5">
            <div className="flex flex-wrap items-baseline gap-x-3 gap-y-0.5 tabular-nums">
              <Instant at={row.occurredAt} className="text-ti-muted" />
              <BrokerText text={row.symbol} most={40} className="font-medium" />
              <Badge>{row.assetClass.replace("_", " ")}</Badge>
              <span>
                {row.kind === "fill" ? row.side : row.kind} <BrokerText text={row.quantity} most={32} /> @{" "}
                <BrokerText text={row.price} most={32} />
              </span>
              <span className="text-ti-muted">
                <BrokerText text={row.accountRef} most={40} />
              </span>
              <span className="text-ti-muted">{row.heldReason === null ? "" : REASONS[row.heldReason]}</span>
            </div>
            <Payload text={row.rawPayload} name={row.symbol} />
          </li>
        ))}
      </ul>
      {status === "Exhausted" ? null : (
        <Button look="quiet" className="mx-2 my-1" busy={status === "LoadingMore"} onClick={() => loadMore(50)}>
          Show more
        </Button>
      )}
    </>
  );
}
