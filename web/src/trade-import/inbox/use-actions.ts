"use client";

import { useConvex } from "convex/react";
import type { OptimisticLocalStore } from "convex/browser";
import type { FunctionArgs } from "convex/server";
import { useCallback, useMemo, useRef } from "react";
import { api, type Id, type InboxRow } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useToast, type ToastMessage } from "../ui/toast";
import { acceptable, inParts, reopenRows, reviewCalls, type Draft, type Drafts, type Link } from "./model/decisions";
import { rowKey } from "./model/lines";
import { changed, inserted, reviewed, without } from "./model/optimistic";
import { countOf, nameOf, reviewedWith } from "./model/sentences";

type Undo = { run: () => Promise<unknown>; says: string };

/** Actions that can be taken back, the newest last. */
const MAX_UNDOS = 100;

export type Actions = ReturnType<typeof useActions>;

/** What the user does with rows: shown at once, saved behind, taken back by `undo`. */
export function useActions() {
  const convex = useConvex();
  const toast = useToast();
  const undos = useRef<Undo[]>([]);
  const said = useRef<number | null>(null);

  const say = useCallback(
    (message: ToastMessage) => {
      if (said.current !== null) toast.dismiss(said.current);
      const key = toast.show(message);
      said.current = message.tone === "bad" ? null : key;
    },
    [toast],
  );

  const undo = useCallback(async () => {
    const last = undos.current.pop();
    if (last === undefined) {
      say({ text: "There is nothing to undo." });
      return;
    }
    say({ text: `Undone: ${last.says}` });
    try {
      await last.run();
    } catch (error) {
      say({ text: `Not undone. ${sentenceOf(error)}`, tone: "bad" });
    }
  }, [say]);

  /** Says what was done; where the server refuses, takes it off the list of what can be undone and says so. */
  const perform = useCallback(
    async (says: string, work: Promise<unknown>[], takeBack: (() => Promise<unknown>) | null) => {
      const entry = takeBack && { run: takeBack, says };
      if (entry !== null) undos.current = [...undos.current, entry].slice(-MAX_UNDOS);
      say(entry === null ? { text: says } : { action: { name: "Undo", run: () => void undo() }, text: says });
      const results = await Promise.allSettled(work);
      const failed = results.find((result) => result.status === "rejected");
      if (failed === undefined) return true;
      if (results.every((result) => result.status === "rejected")) {
        undos.current = undos.current.filter((each) => each !== entry);
      }
      say({ text: `Not saved. ${sentenceOf(failed.reason)}`, tone: "bad" });
      return false;
    },
    [say, undo],
  );

  const reopen = useCallback(
    async (rows: readonly InboxRow[], tradeIds?: ReadonlyMap<string, Id<"trades">>) => {
      await Promise.all(
        inParts(rows).map((part) =>
          convex.mutation(
            api.tradeImport.inbox.reopen,
            { rows: reopenRows(part, tradeIds) },
            { optimisticUpdate: (store) => showAgain(store, part) },
          ),
        ),
      );
    },
    [convex],
  );

  const decide = useCallback(
    async (rows: readonly InboxRow[], link: Link, drafts: Drafts): Promise<boolean> => {
      const { calls, skipped } = reviewCalls(rows, link, drafts);
      const decided = calls.flatMap((call) => call.rows);
      if (decided.length === 0) {
        say({ text: link.kind === "accept" ? "No plan is suggested here. P chooses one, B saves without." : "Nothing to save here." });
        return false;
      }
      const work = calls.map(({ args, rows: part }) =>
        convex.mutation(api.tradeImport.inbox.review, args, {
          optimisticUpdate: (store) => showReviewed(store, part, args),
        }),
      );
      const left = skipped.length === 0 ? "" : ` ${countOf(skipped.length, "row")} without a suggestion left.`;
      return await perform(`${reviewedWith(decided, link, acceptable(decided))}${left}`, work, () => reopen(decided));
    },
    [convex, perform, reopen, say],
  );

  /** Saves a correction of rows that are reviewed already; their links stay. */
  const correct = useCallback(
    async (rows: readonly InboxRow[], { direction, notes }: Draft) => {
      const tradeIds = rows.flatMap((row) => row.tradeId ?? []);
      const args = {
        ...(direction === undefined ? {} : { direction }),
        ...(notes === undefined ? {} : { notes: notes === "" ? null : notes }),
        tradeIds,
      };
      const work = convex.mutation(api.tradeImport.inbox.review, args, {
        optimisticUpdate: (store) => showReviewed(store, rows, args),
      });
      return await perform(`${nameOf(rows)}: saved.`, [work], () => reopen(rows));
    },
    [convex, perform, reopen],
  );

  const restoreAs = useCallback(
    async (rows: readonly InboxRow[]) => {
      await Promise.all(
        inParts([...new Set(rows.map((row) => row.executionId))]).map((executionIds) =>
          convex.mutation(
            api.tradeImport.inbox.restore,
            { executionIds },
            { optimisticUpdate: (store) => showAgain(store, rows.map((row) => ({ ...row, tradeId: null }))) },
          ),
        ),
      );
      const decided = rows.filter((row) => row.status === "reviewed");
      if (decided.length > 0) await reopen(decided, await tradeIdsOf(convex, decided));
    },
    [convex, reopen],
  );

  const dismiss = useCallback(
    async (rows: readonly InboxRow[]) => {
      const present = rows.filter((row) => row.tradeId !== null);
      if (present.length === 0) return false;
      const work = inParts(present).map((part) =>
        convex.mutation(
          api.tradeImport.inbox.dismiss,
          { tradeIds: part.flatMap((row) => row.tradeId ?? []) },
          { optimisticUpdate: (store) => hide(store, part, ["pending_review", "reviewed"]) },
        ),
      );
      return await perform(`${nameOf(present)}: dismissed. No sync brings it back.`, work, () => restoreAs(present));
    },
    [convex, perform, restoreAs],
  );

  const restore = useCallback(
    async (rows: readonly InboxRow[]) => {
      const work = inParts([...new Set(rows.map((row) => row.executionId))]).map((executionIds) =>
        convex.mutation(
          api.tradeImport.inbox.restore,
          { executionIds },
          { optimisticUpdate: (store) => hide(store, rows, ["dismissed"]) },
        ),
      );
      const dismissAgain = async () => {
        const tradeIds = [...(await tradeIdsOf(convex, rows)).values()];
        await Promise.all(inParts(tradeIds).map((part) => convex.mutation(api.tradeImport.inbox.dismiss, { tradeIds: part })));
      };
      return await perform(`${nameOf(rows)}: restored, to be reviewed.`, work, dismissAgain);
    },
    [convex, perform],
  );

  const acknowledge = useCallback(
    async (rows: readonly InboxRow[]) => {
      const news = rows.filter((row) => row.flags.includes("changed_by_broker") || row.flags.includes("voided_by_broker"));
      if (news.length === 0) {
        say({ text: "The broker has changed nothing here." });
        return false;
      }
      const cancelled = news.filter((row) => row.flags.includes("voided_by_broker"));
      const work = inParts(news).map((part) =>
        convex.mutation(
          api.tradeImport.inbox.acknowledge,
          { tradeIds: part.flatMap((row) => row.tradeId ?? []) },
          { optimisticUpdate: (store) => showSeen(store, part) },
        ),
      );
      const says = cancelled.length === 0 ? "the change is seen." : "the cancelled row has left the journal.";
      return await perform(`${nameOf(news)}: ${says}`, work, cancelled.length === 0 ? null : () => restoreAs(cancelled));
    },
    [convex, perform, restoreAs, say],
  );

  return useMemo(
    () => ({ acknowledge, correct, decide, dismiss, restore, say, undo }),
    [acknowledge, correct, decide, dismiss, restore, say, undo],
  );
}

type RowStatus = InboxRow["status"];

/** Every page that is on screen or was a moment ago. */
function pagesOf(store: OptimisticLocalStore, statuses: readonly RowStatus[]) {
  return store.getAllQueries(api.tradeImport.inbox.list).flatMap(({ args, value }) => {
    const status = args.status ?? "pending_review";
    return value !== undefined && statuses.includes(status) ? { args, status, value } : [];
  });
}

function write(
  store: OptimisticLocalStore,
  { args, value }: Pick<ReturnType<typeof pagesOf>[number], "args" | "value">,
  page: InboxRow[] | null | undefined,
): void {
  if (page) store.setQuery(api.tradeImport.inbox.list, args, { ...value, page });
}

function hide(store: OptimisticLocalStore, rows: readonly InboxRow[], statuses: readonly RowStatus[]): void {
  const keys = new Set(rows.map(rowKey));
  for (const each of pagesOf(store, statuses)) write(store, each, without(each.value.page, keys));
  if (statuses.includes("pending_review")) count(store, -rows.filter((row) => row.status === "pending_review").length);
}

function showReviewed(store: OptimisticLocalStore, rows: readonly InboxRow[], args: FunctionArgs<typeof api.tradeImport.inbox.review>): void {
  const names = {
    campaigns: store.getQuery(api.campaigns.listCampaigns, {}) ?? [],
    plans: store.getQuery(api.tradePlans.listTradePlans, {}) ?? [],
  };
  const review = { ...args, tradeIds: args.tradeIds ?? [] };
  hide(store, rows.filter((row) => row.status === "pending_review"), ["pending_review"]);
  const keys = new Set(rows.map(rowKey));
  for (const each of pagesOf(store, ["reviewed"])) {
    write(store, each, changed(each.value.page, keys, (row) => reviewed(row, review, names)));
  }
}

function showSeen(store: OptimisticLocalStore, rows: readonly InboxRow[]): void {
  hide(store, rows.filter((row) => row.flags.includes("voided_by_broker")), ["pending_review", "reviewed"]);
  const keys = new Set(rows.map(rowKey));
  for (const each of pagesOf(store, ["pending_review", "reviewed"])) {
    const seen = (row: InboxRow) => ({ ...row, flags: row.flags.filter((flag) => flag !== "changed_by_broker") });
    write(store, each, changed(each.value.page, keys, seen));
  }
}

/** Rows as they were, where they were. */
function showAgain(store: OptimisticLocalStore, rows: readonly InboxRow[]): void {
  const keys = new Map(rows.map((row) => [rowKey(row), row]));
  for (const each of pagesOf(store, ["pending_review", "reviewed"])) {
    write(store, each, changed(each.value.page, new Set(keys.keys()), (row) => keys.get(rowKey(row)) ?? row));
  }
  for (const status of ["pending_review", "reviewed"] as const) {
    const pages = pagesOf(store, [status]);
    const back = inserted(pages.map(({ value }) => value.page), rows.filter((row) => row.status === status));
    pages.forEach((each, index) => write(store, each, back.get(index)));
    const others = pagesOf(store, [status === "reviewed" ? "pending_review" : "reviewed"]);
    const moved = new Set(rows.filter((row) => row.status === status).map(rowKey));
    for (const each of others) write(store, each, without(each.value.page, moved));
  }
  count(store, rows.filter((row) => row.status === "pending_review").length);
}

/** The number on the tab; where it only says «at least», it stays. */
function count(store: OptimisticLocalStore, change: number): void {
  for (const { args, value } of store.getAllQueries(api.tradeImport.inbox.counts)) {
    if (value === undefined || change === 0 || value.pendingReview >= value.limit) continue;
    const pendingReview = Math.max(0, value.pendingReview + change);
    store.setQuery(api.tradeImport.inbox.counts, args, { ...value, pendingReview });
  }
}

/** The trades that rows have now that they are back. */
async function tradeIdsOf(convex: ReturnType<typeof useConvex>, rows: readonly InboxRow[]): Promise<Map<string, Id<"trades">>> {
  const found = new Map<string, Id<"trades">>();
  const wanted = new Set(rows.map(rowKey));
  const moments = new Map(rows.map(({ accountRef, occurredAt }) => [`${accountRef}\n${occurredAt}`, { accountRef, occurredAt }]));
  await Promise.all(
    [...moments.values()].map(async ({ accountRef, occurredAt }) => {
      const { page } = await convex.query(api.tradeImport.inbox.list, {
        accountRef,
        from: occurredAt,
        paginationOpts: { cursor: null, numItems: 200 },
        status: "pending_review",
        to: occurredAt + 1,
      });
      for (const row of page) if (wanted.has(rowKey(row)) && row.tradeId !== null) found.set(rowKey(row), row.tradeId);
    }),
  );
  return found;
}
