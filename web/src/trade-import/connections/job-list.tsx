"use client";

import { usePaginatedQuery } from "convex/react";
import { useState } from "react";
import { api, type Id, type Job } from "../api";
import { span } from "../format/instant";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Instant } from "../ui/instant";
import { LoadingRows } from "../ui/states";
import { JobRowsDialog } from "./job-rows-dialog";
import { canUndo, countsOf, MODE, STATUS, undoSentence, type Count } from "./model/jobs";
import { UndoDialog } from "./undo-dialog";

const FIRST = 5;

/** What the last syncs did, newest first; each count opens its rows. */
export function JobList({ connectionId }: { connectionId: Id<"brokerageConnections"> }) {
  const { loadMore, results, status } = usePaginatedQuery(api.tradeImport.jobs.list, { connectionId }, { initialNumItems: FIRST });
  if (status === "LoadingFirstPage") return <LoadingRows label="Loading syncs" count={3} />;
  if (results.length === 0) return <p className="px-4 pt-1 pb-4 text-ti-muted">No sync has run yet.</p>;
  return (
    <div className="border-t border-ti-line">
      <ul className="divide-y divide-ti-line">
        {results.map((job) => (
          <JobLine key={job.jobId} job={job} />
        ))}
      </ul>
      {status === "Exhausted" ? null : (
        <div className="px-2 py-1.5">
          <Button look="quiet" size="sm" busy={status === "LoadingMore"} onClick={() => loadMore(20)}>
            Earlier syncs
          </Button>
        </div>
      )}
    </div>
  );
}

function JobLine({ job }: { job: Job }) {
  const [rows, setRows] = useState<Count["opens"]>(null);
  const [undoing, setUndoing] = useState(false);
  const { name, tone } = STATUS[job.status];
  return (
    <li className="flex flex-wrap items-center gap-x-3 gap-y-1 px-4 py-2">
      <Instant at={job.startedAt} className="tabular-nums" />
      <Badge tone={tone}>{name}</Badge>
      <span className="text-ti-muted">
        {MODE[job.mode]}
        {job.finishedAt === null || job.finishedAt - job.startedAt < 60_000 ? null : `, ${span(job.finishedAt - job.startedAt)}`}
      </span>
      <span className="flex flex-wrap items-center gap-x-1 tabular-nums">
        {countsOf(job).map((each) => (
          <CountShown key={each.name} count={each} onOpen={setRows} />
        ))}
      </span>
      <span className="ml-auto flex items-center gap-2">
        {job.undo === null ? null : (
          <span className="text-ti-muted">{job.undo.running ? "Being taken back …" : undoSentence(job.undo)}</span>
        )}
        {canUndo(job) ? (
          <Button look="quiet" size="sm" onClick={() => setUndoing(true)}>
            Undo
          </Button>
        ) : null}
      </span>
      {job.errorSummary === null ? null : (
        <p className="w-full text-[0.8125rem] text-ti-muted">
          <BrokerText text={job.errorSummary.sentence} most={600} />
        </p>
      )}
      {rows === null ? null : <JobRowsDialog jobId={job.jobId} of={rows} onClose={() => setRows(null)} />}
      <UndoDialog job={job} open={undoing} onOpenChange={setUndoing} />
    </li>
  );
}

function CountShown({ count, onOpen }: { count: Count; onOpen: (of: Count["opens"]) => void }) {
  const { count: number, name, opens } = count;
  if (opens === null) {
    return (
      <span className="px-1 text-ti-muted">
        {number} {name}
      </span>
    );
  }
  return (
    <button
      type="button"
      className="ti-focus min-h-6 rounded px-1 text-ti-accent underline decoration-ti-line underline-offset-3 hover:decoration-current pointer-coarse:min-h-10"
      onClick={() => onOpen(opens)}
    >
      {number} {name}
    </button>
  );
}
