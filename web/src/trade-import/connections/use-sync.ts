"use client";

import { useMutation } from "convex/react";
import type { OptimisticLocalStore } from "convex/browser";
import { useState } from "react";
import { api, type Id } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useToast } from "../ui/toast";
import { allSentence, answerSentence } from "./model/feedback";

type ConnectionId = Id<"brokerageConnections">;

/** Shows the request as recorded before the server has said so. */
function requested(store: OptimisticLocalStore, wanted: (connectionId: ConnectionId) => boolean): void {
  for (const { args, value } of store.getAllQueries(api.tradeImport.connections.list)) {
    if (value === undefined) continue;
    store.setQuery(
      api.tradeImport.connections.list,
      args,
      value.map((each) =>
        each.requestedAt === null && each.status !== "disconnected" && wanted(each.connectionId)
          ? { ...each, requestedAt: Date.now() }
          : each,
      ),
    );
  }
}

/** «Sync now»: asks, and says what became of it where the page itself does not show it. */
export function useSyncNow(connectionId: ConnectionId): { busy: boolean; sync: () => void } {
  const [busy, setBusy] = useState(false);
  const toast = useToast();
  const mutate = useMutation(api.tradeImport.sync.syncNow).withOptimisticUpdate((store, args) =>
    requested(store, (id) => id === args.connectionId),
  );
  const sync = () => {
    setBusy(true);
    mutate({ connectionId })
      .then((answer) => {
        const sentence = answerSentence(answer, Date.now());
        if (sentence !== null) toast.show({ text: sentence });
      })
      .catch((error: unknown) => toast.show({ text: sentenceOf(error), tone: "bad" }))
      .finally(() => setBusy(false));
  };
  return { busy, sync };
}

export function useSyncAll(): { busy: boolean; sync: () => void } {
  const [busy, setBusy] = useState(false);
  const toast = useToast();
  const mutate = useMutation(api.tradeImport.sync.syncAll).withOptimisticUpdate((store) => requested(store, () => true));
  const sync = () => {
    setBusy(true);
    mutate({})
      .then((answers) => toast.show({ text: allSentence(answers.map(({ request }) => request)) }))
      .catch((error: unknown) => toast.show({ text: sentenceOf(error), tone: "bad" }))
      .finally(() => setBusy(false));
  };
  return { busy, sync };
}
