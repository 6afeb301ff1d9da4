"use client";

import { useMutation } from "convex/react";
import { useState } from "react";
import { api, type Job } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { useToast } from "../ui/toast";
import { undoSentence } from "./model/jobs";

type Props = { job: Job; onOpenChange: (open: boolean) => void; open: boolean };

export function UndoDialog({ job, onOpenChange, open }: Props) {
  const toast = useToast();
  const undo = useMutation(api.tradeImport.jobs.undo);
  const [includeReviewed, setIncludeReviewed] = useState(false);
  const [busy, setBusy] = useState(false);
  const confirm = () => {
    setBusy(true);
    undo({ includeReviewed, jobId: job.jobId })
      .then((step) => {
        toast.show({ text: step.more ? "Being taken back; the list shows how far." : undoSentence(step) });
        onOpenChange(false);
      })
      .catch((error: unknown) => toast.show({ text: sentenceOf(error), tone: "bad" }))
      .finally(() => setBusy(false));
  };
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title="Take this sync back?"
      description="The rows it added leave the inbox and the journal. The next sync reads that time again, and rows that return bring back what you decided about them."
      footer={
        <>
          <Button onClick={() => onOpenChange(false)}>Keep them</Button>
          <Button look="danger" busy={busy} onClick={confirm}>
            Take it back
          </Button>
        </>
      }
    >
      <label className="flex items-start gap-2.5">
        <input
          type="checkbox"
          checked={includeReviewed}
          onChange={(event) => setIncludeReviewed(event.target.checked)}
          className="ti-focus mt-0.5 size-4 accent-ti-accent"
        />
        <span>
          Also rows that I have reviewed.
          <span className="block text-[0.8125rem] text-ti-muted">Otherwise they stay, and are counted.</span>
        </span>
      </label>
    </Dialog>
  );
}
