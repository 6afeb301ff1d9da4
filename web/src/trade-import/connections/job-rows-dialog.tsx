"use client";

import { usePaginatedQuery } from "convex/react";
import { api, type Id, type JobRow } from "../api";
import { RejectList } from "../errors/reject-list";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Instant } from "../ui/instant";
import { LoadingRows } from "../ui/states";

type Props = { jobId: Id<"importJobs">; of: "executions" | "rejects"; onClose: () => void };

/** The rows behind a count of a job. */
export function JobRowsDialog({ jobId, of, onClose }: Props) {
  return (
    <Dialog
      open
      onOpenChange={onClose}
      wide
      title={of === "executions" ? "Rows this sync brought" : "Rows this sync could not read"}
      description={of === "executions" ? "As they are now." : undefined}
    >
      {of === "executions" ? <Executions jobId={jobId} /> : <RejectList jobId={jobId} />}
    </Dialog>
  );
}

const STATES: Readonly<Record<JobRow["state"], string | null>> = {
  dismissed: "dismissed",
  held: "held",
  live: null,
  superseded: "superseded",
  undone: "taken back",
  voided: "voided by the broker",
};

function Executions({ jobId }: { jobId: Id<"importJobs"> }) {
  const { loadMore, results, status } = usePaginatedQuery(api.tradeImport.jobs.rows, { jobId }, { initialNumItems: 50 });
  if (status === "LoadingFirstPage") return <LoadingRows label="Loading rows" />;
  if (results.length === 0) return <p className="text-ti-muted">A later sync brought these rows again; they belong to it now.</p>;
  return (
    <>
      <ul className="divide-y divide-ti-line">
        {results.map((row) => (
          <li key={row.executionId} className="flex flex-wrap items-baseline gap-x-3 gap-y-0.5 py-1.5 tabular-nums">
            <Instant at={row.occurredAt} className="text-ti-muted" />
            <span className="min-w-0 flex-1 basis-40">
              <BrokerText text={row.symbol} most={40} className="font-medium" /> {row.kind === "fill" ? row.side : row.kind}
            </span>
            <span>
              <BrokerText text={row.quantity} most={32} /> @ <BrokerText text={row.price} most={32} />
            </span>
            {STATES[row.state] === null ? null : <Badge>{STATES[row.state]}</Badge>}
          </li>
        ))}
      </ul>
      {status === "Exhausted" ? null : (
        <Button look="quiet" className="mt-2" busy={status === "LoadingMore"} onClick={() => loadMore(100)}>
          Show more
        </Button>
      )}
    </>
  );
}
