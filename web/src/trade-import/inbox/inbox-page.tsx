"use client";

import { useMutation, useQuery } from "convex/react";
import { Inbox, Keyboard, ListChecks, SearchX, Trash2 } from "lucide-react";
import Link from "next/link";
import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { api, type InboxRow } from "../api";
import { ImportShell } from "../shell/import-shell";
import { Button } from "../ui/button";
import { EmptyState, LoadingRows } from "../ui/states";
import { BlankAllDialog } from "./blank-all-dialog";
import { BulkBar } from "./bulk-bar";
import { Chooser, type Choosing } from "./chooser";
import { FilterBar } from "./filter-bar";
import { HelpDialog } from "./help-dialog";
import { InboxList, lineId } from "./inbox-list";
import { commandOf, type Command } from "./model/commands";
import type { Draft, Link as Decision } from "./model/decisions";
import { isFiltered, NO_FILTERS, type Filters } from "./model/filters";
import { inboxState, lineAt, START, targetsOf } from "./model/inbox-state";
import { rowKey, rowsOf } from "./model/lines";
import { countOf } from "./model/sentences";
import { NewPlanDialog } from "./new-plan-dialog";
import { PlannedFigure } from "./planned-figure";
import { useActions } from "./use-actions";
import { useFilters } from "./use-filters";
import { useRows } from "./use-rows";

const PAGE = 10;

export function InboxPage() {
  return (
    <ImportShell title="Import Inbox">
      <InboxContent />
    </ImportShell>
  );
}

type Open =
  | { kind: "blank-all" }
  | { kind: "help" }
  | { kind: "new-plan"; name: string; rows: readonly InboxRow[] }
  | null;

function InboxContent() {
  const [filters, setFilters] = useFilters();
  const { hasMore, isStale, loadMore, rows } = useRows(filters);
  const plans = useQuery(api.tradePlans.listTradePlans, {});
  const campaigns = useQuery(api.campaigns.listCampaigns, {});
  const connections = useQuery(api.tradeImport.connections.list, {});
  const actions = useActions();
  const [state, dispatch] = useReducer(inboxState, START);
  const [drafts, setDrafts] = useState<ReadonlyMap<string, Draft>>(new Map());
  const [choosing, setChoosing] = useState<Choosing | null>(null);
  const [open, setOpen] = useState<Open>(null);
  const grid = useRef<HTMLDivElement>(null);
  const region = useRef<HTMLDivElement>(null);
  const search = useRef<HTMLInputElement>(null);
  if (rows !== undefined && state.rows !== rows) dispatch({ rows, type: "rows" });

  useSuggestionsInStep(plans);

  /** To the list; where there is none, to what surrounds it: the keys still work, the last action can be taken back. */
  const focus = useCallback(() => (grid.current ?? region.current)?.focus({ preventScroll: true }), []);
  const isListed = state.lines.length > 0;
  useEffect(() => {
    // The keyboard works at once, and goes on working where the place that had it is gone.
    const { activeElement, body } = document;
    if (activeElement === null || activeElement === body || activeElement === region.current) focus();
  });
  const focusUnlessOpen = useCallback(() => {
    if (document.querySelector("[role=dialog]") === null) focus();
  }, [focus]);

  const accountNames = useMemo(
    () => new Map(connections?.flatMap(({ accountRef, label }) => (accountRef === null || label === null ? [] : [[accountRef, label] as const]))),
    [connections],
  );

  const decide = (targets: readonly InboxRow[], link: Decision) => {
    dispatch({ type: "clear" });
    void actions.decide(targets, link, drafts).then((isSaved) => {
      if (isSaved) setDrafts((all) => withoutDrafts(all, targets));
    });
  };

  const act = (command: Command, targets: readonly InboxRow[], anchor: Element) => {
    const pending = targets.filter((row) => row.status === "pending_review");
    switch (command) {
      case "accept":
        if (pending.length === 0) return;
        if (pending.every((row) => (row.plan ?? row.suggestion) === null)) setChoosing({ anchor, kind: "plan", rows: targets });
        else decide(pending, { kind: "accept" });
        return;
      case "blank":
        if (filters.status !== "dismissed" && targets.length > 0) decide(targets, { kind: "blank" });
        return;
      case "campaign":
      case "plan":
        if (filters.status !== "dismissed" && targets.length > 0) setChoosing({ anchor, kind: command, rows: targets });
        return;
      case "new-plan":
        if (filters.status !== "dismissed" && targets.length > 0) setOpen({ kind: "new-plan", name: "", rows: targets });
        return;
      case "dismiss":
        dispatch({ type: "clear" });
        if (filters.status !== "dismissed") void actions.dismiss(targets);
        return;
      case "restore":
        dispatch({ type: "clear" });
        if (filters.status === "dismissed") void actions.restore(targets);
        return;
      case "seen":
        dispatch({ type: "clear" });
        void actions.acknowledge(targets);
        return;
      case "direction": {
        const [first] = targets;
        if (first === undefined || filters.status === "dismissed") return;
        const now = drafts.get(rowKey(first))?.direction ?? first.direction;
        const direction = now === "long" ? "short" : "long";
        if (filters.status === "reviewed") void actions.correct(targets, { direction });
        else setDrafts((all) => new Map([...all, ...targets.map((row) => [rowKey(row), { ...all.get(rowKey(row)), direction }] as const)]));
        return;
      }
      case "undo":
        void actions.undo();
        return;
      case "blank-all":
        if (filters.status === "pending" && isListed) setOpen({ kind: "blank-all" });
        return;
      case "help":
        setOpen({ kind: "help" });
        return;
      case "search":
        search.current?.focus();
        search.current?.select();
        return;
      case "show-dismissed":
        setFilters({ status: "dismissed" });
        return;
      case "show-pending":
        setFilters({ status: "pending" });
        return;
      case "show-reviewed":
        setFilters({ status: "reviewed" });
        return;
      case "notes": {
        const line = lineAt(state);
        // At once: the next key is a letter of the notes.
        flushSync(() => dispatch({ type: "open" }));
        if (line?.kind === "fill") focusNotes(line.key);
        return;
      }
      case "clear":
      case "close":
      case "extend-down":
      case "extend-up":
      case "first":
      case "last":
      case "next":
      case "open":
      case "page-down":
      case "page-up":
      case "previous":
      case "select":
      case "select-all":
        move(command);
    }
  };

  const move = (command: Command) => {
    switch (command) {
      case "clear":
      case "close":
      case "open":
      case "select-all":
        dispatch({ type: command });
        return;
      case "first":
      case "last":
        dispatch({ to: command, type: "jump" });
        return;
      case "next":
      case "previous":
        dispatch({ by: command === "next" ? 1 : -1, type: "move" });
        return;
      case "page-down":
      case "page-up":
        dispatch({ by: command === "page-down" ? PAGE : -PAGE, type: "move" });
        return;
      case "extend-down":
      case "extend-up":
        dispatch({ by: command === "extend-down" ? 1 : -1, selecting: true, type: "move" });
        return;
      case "select":
        if (state.cursor !== null) dispatch({ key: state.cursor, type: "toggle-selected" });
        return;
      default:
    }
  };

  /** What a key is about is at the line of the cursor, or in the bar of the selected. */
  const anchorOf = (cell: string): Element => {
    const row = state.cursor === null ? null : document.getElementById(lineId(state.cursor));
    return row?.querySelector(`[data-cell=${cell}]`) ?? row ?? grid.current ?? document.body;
  };

  const press = (event: React.KeyboardEvent) => {
    // Keys that come before a window has the focus are meant for it.
    if (event.defaultPrevented || choosing !== null || open !== null || !isOurs(event)) return;
    const command = commandOf({ altKey: event.altKey, code: event.code, ctrlKey: event.ctrlKey, key: event.key, metaKey: event.metaKey, shiftKey: event.shiftKey });
    if (command === null || (isStale && !command.startsWith("show"))) return;
    event.preventDefault();
    if (!(event.target instanceof HTMLElement && event.target === grid.current) && command !== "search") focus();
    act(command, targetsOf(state), anchorOf(command === "campaign" ? "campaign" : "plan"));
  };

  const latest = useRef({ act, state });
  useEffect(() => {
    latest.current = { act, state };
  });
  const actOnLine = useCallback(
    (command: Command, key: string, anchor: Element) => {
      const { act: run, state: now } = latest.current;
      const line = now.lines.find((each) => each.key === key);
      if (line === undefined) return;
      dispatch({ key, type: "go" });
      if (command === "open" || command === "close") dispatch({ key, type: "toggle-open" });
      else run(command, rowsOf(line), anchor);
      focus();
    },
    [focus],
  );
  const setDraft = useCallback((key: string, draft: Draft) => setDrafts((all) => new Map(all).set(key, draft)), []);

  const selected = state.selected.size > 0 ? targetsOf(state) : [];
  const close = () => {
    setOpen(null);
    setChoosing(null);
  };

  return (
    // The keys belong to everything in here; nothing in here is about the element itself.
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div ref={region} tabIndex={-1} onKeyDown={press} className="outline-none">
      <div className="sticky top-0 z-20 -mx-3 bg-ti-canvas px-3 py-2 sm:-mx-5 sm:px-5">
        <FilterBar connections={connections} filters={filters} onChange={setFilters} onLeave={focus} searchRef={search}>
          {filters.status === "pending" && isListed ? (
            <Button look="quiet" size="sm" title="Save all that the filters show without a plan (Shift B)" onClick={() => setOpen({ kind: "blank-all" })}>
              <ListChecks aria-hidden className="size-4" />
              All unlinked …
            </Button>
          ) : null}
          <Button look="quiet" size="icon" aria-label="Keys (?)" title="Keys (?)" onClick={() => setOpen({ kind: "help" })}>
            <Keyboard aria-hidden className="size-4" />
          </Button>
        </FilterBar>
      </div>
      {filters.status === "reviewed" ? <PlannedFigure filters={filters} /> : null}
      {rows === undefined ? (
        <LoadingRows count={10} label="Loading imported trades" />
      ) : !isListed && !hasMore && !isStale ? (
        <Nothing filters={filters} hasConnections={connections === undefined || connections.some(({ status }) => status !== "disconnected")} onClear={() => setFilters({ ...NO_FILTERS, status: filters.status })} />
      ) : (
        <InboxList
          accountNames={accountNames}
          actions={actions}
          dispatch={dispatch}
          drafts={drafts}
          gridRef={grid}
          hasMore={hasMore}
          isStale={isStale}
          loadMore={loadMore}
          onAct={actOnLine}
          onDraft={setDraft}
          state={state}
        />
      )}
      <BulkBar rows={selected} onAct={(command, anchor) => act(command, selected, anchor)} />
      {choosing === null ? null : (
        <Chooser
          campaigns={campaigns}
          choosing={choosing}
          onChoose={(link) => {
            close();
            decide(choosing.rows, link);
          }}
          onClose={close}
          onClosed={focusUnlessOpen}
          onNewPlan={(name) => {
            setChoosing(null);
            setOpen({ kind: "new-plan", name, rows: choosing.rows });
          }}
          plans={plans}
        />
      )}
      {open?.kind === "help" ? <HelpDialog onClose={close} onClosed={focusUnlessOpen} /> : null}
      {open?.kind === "new-plan" ? (
        <NewPlanDialog
          campaigns={campaigns ?? []}
          name={open.name}
          onClose={close}
          onClosed={focusUnlessOpen}
          onCreated={(plan) => {
            close();
            decide(open.rows, { kind: "plan", ...plan });
          }}
          rows={open.rows}
        />
      ) : null}
      {open?.kind === "blank-all" ? (
        <BlankAllDialog
          filters={filters}
          onClose={close}
          onClosed={focusUnlessOpen}
          onDone={(count) => {
            close();
            actions.say({ text: `${countOf(count, "row")} saved without a plan.` });
          }}
        />
      ) : null}
    </div>
  );
}

/** Asks the server to look at its suggestions whenever the open plans are not those of before. */
function useSuggestionsInStep(plans: readonly { _id: string; instrumentSymbol: string; status: string }[] | undefined): void {
  const refresh = useMutation(api.tradeImport.inbox.refreshSuggestions);
  const mark = useMemo(
    () => plans && JSON.stringify(plans.flatMap(({ _id, instrumentSymbol, status }) => (status === "closed" ? [] : [[_id, instrumentSymbol]]))),
    [plans],
  );
  useEffect(() => {
    // A failure costs nothing but time: a cron does the same.
    if (mark !== undefined) refresh({}).catch(() => undefined);
  }, [mark, refresh]);
}

/** Not what is typed into fields, and not what presses a button. */
function isOurs({ key, target }: React.KeyboardEvent): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("[role=dialog]") !== null) return false;
  if (target instanceof HTMLInputElement) return target.type === "checkbox" && key !== " ";
  if (target.matches("textarea, select")) return false;
  return !(target.matches("button, a") && (key === "Enter" || key === " "));
}

function focusNotes(key: string): void {
  const row = document.getElementById(lineId(key));
  row?.parentElement?.querySelector<HTMLElement>("[data-notes]")?.focus();
}

function withoutDrafts(drafts: ReadonlyMap<string, Draft>, rows: readonly InboxRow[]): ReadonlyMap<string, Draft> {
  const left = new Map(drafts);
  for (const row of rows) left.delete(rowKey(row));
  return left.size === drafts.size ? drafts : left;
}

function Nothing({ filters, hasConnections, onClear }: { filters: Filters; hasConnections: boolean; onClear: () => void }) {
  if (isFiltered(filters)) {
    return (
      <EmptyState icon={SearchX} title="Nothing matches the filters">
        <Button className="mt-2" onClick={onClear}>
          Clear filters
        </Button>
      </EmptyState>
    );
  }
  if (!hasConnections) {
    return (
      <EmptyState icon={Inbox} title="No account is connected">
        <p>Connect Kraken or Interactive Brokers and your trades arrive here by themselves.</p>
        <Link href="/import/connections" className="ti-focus mt-3 inline-block rounded text-ti-accent underline underline-offset-2">
          Connect an account
        </Link>
      </EmptyState>
    );
  }
  switch (filters.status) {
    case "dismissed":
      return (
        <EmptyState icon={Trash2} title="Nothing is dismissed">
          Executions that you keep out of the journal are kept here, and can be restored.
        </EmptyState>
      );
    case "pending":
      return (
        <EmptyState icon={Inbox} title="Nothing waits for review">
          New trades appear here by themselves.
        </EmptyState>
      );
    case "reviewed":
      return (
        <EmptyState icon={Inbox} title="Nothing is reviewed yet">
          Imported trades that you have decided about are listed here.
        </EmptyState>
      );
  }
}
