"use client";

import { useMutation } from "convex/react";
import { useRef, useState } from "react";
import { api } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useZone } from "../hooks/use-zone";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { isFiltered, rowFiltersOf, type Filters } from "./model/filters";
import { countOf } from "./model/sentences";

/** Saves everything that the filters show, loaded or not, as trades without a plan. */
export function BlankAllDialog({ filters, onClose, onClosed, onDone }: { filters: Filters; onClose: () => void; onClosed: () => void; onDone: (count: number) => void }) {
  const reviewAll = useMutation(api.tradeImport.inbox.reviewAllUnlinked);
  const zone = useZone();
  const [count, setCount] = useState<number | null>(null);
  const [error, setError] = useState<string>();
  const stopped = useRef(false);
  const isStopped = () => stopped.current;
  const run = async () => {
    setError(undefined);
    stopped.current = false;
    let total = count ?? 0;
    let cursor = "";
    let more = true;
    try {
      while (more && !isStopped()) {
        setCount(total);
        const step = await reviewAll({ ...rowFiltersOf(filters, zone), cursor: cursor === "" ? null : cursor });
        total += step.reviewed;
        cursor = step.continueCursor;
        more = step.more;
      }
      onDone(total);
    } catch (failure) {
      setError(sentenceOf(failure));
    }
  };
  const isRunning = count !== null && error === undefined;
  return (
    <Dialog
      open
      onClosed={onClosed}
      onOpenChange={(open) => {
        if (open) return;
        stopped.current = true;
        onClose();
      }}
      title={isFiltered(filters) ? "Save all that the filters show without a plan?" : "Save everything without a plan?"}
      description="«Traded without a plan» is an answer too. Rows that arrive meanwhile stay in review. There is no undo for all at once; single rows can be changed under Reviewed."
      footer={
        <>
          <Button
            onClick={() => {
              stopped.current = true;
              onClose();
            }}
          >
            {isRunning ? "Stop" : "Cancel"}
          </Button>
          <Button look="primary" busy={isRunning} onClick={() => void run()}>
            Save without a plan
          </Button>
        </>
      }
    >
      <p role="status" className="text-ti-muted tabular-nums">
        {error ?? (count === null ? null : `${countOf(count, "row")} saved so far …`)}
      </p>
    </Dialog>
  );
}
