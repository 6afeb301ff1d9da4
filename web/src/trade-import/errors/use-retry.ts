"use client";

import { useMutation } from "convex/react";
import { useState } from "react";
import { api, type OpenProblem } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useToast } from "../ui/toast";
import { retrySentence } from "./model/problems";

export function useRetry(connectionId: OpenProblem["connectionId"]): { busy: boolean; retry: () => void } {
  const [busy, setBusy] = useState(false);
  const toast = useToast();
  const mutate = useMutation(api.tradeImport.jobs.retryRejects);
  const retry = () => {
    setBusy(true);
    mutate(connectionId === null ? {} : { connectionId })
      .then((answer) => toast.show({ text: retrySentence(answer) }))
      .catch((error: unknown) => toast.show({ text: sentenceOf(error), tone: "bad" }))
      .finally(() => setBusy(false));
  };
  return { busy, retry };
}
