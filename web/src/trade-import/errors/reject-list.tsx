"use client";

import { usePaginatedQuery } from "convex/react";
import { api, type Id } from "../api";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Ago } from "../ui/instant";
import { LoadingRows } from "../ui/states";
import { Payload } from "../ui/payload";

type Props = { connectionId?: Id<"brokerageConnections">; jobId?: Id<"importJobs"> };

/** Rows that nobody could read: why, and as they came. */
export function RejectList({ connectionId, jobId }: Props) {
  const { loadMore, results, status } = usePaginatedQuery(
    api.tradeImport.inbox.rejects,
    { ...(connectionId ? { connectionId } : {}), ...(jobId ? { jobId } : {}) },
    { initialNumItems: 20 },
  );
  if (status === "LoadingFirstPage") return <LoadingRows label="Loading rows" count={3} />;
  if (results.length === 0) return <p className="px-4 py-3 text-ti-muted">All of them have been read since.</p>;
  return (
    <>
      <ul className="divide-y divide-ti-line">
        {results.map((row) => (
          <li key={row.rejectId} className="px-4 py-2.5">
            <p className="flex flex-wrap items-baseline gap-x-3">
              <BrokerText text={row.reason} most={400} className="min-w-0 flex-1 basis-60" />
              <span className="text-ti-muted">
                {row.retryAt === null ? null : "waits for the next sync · "}
                <Ago at={row.rejectedAt} />
              </span>
            </p>
            <Payload text={row.rawPayload} name={row.externalExecutionId ?? "row"} />
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
