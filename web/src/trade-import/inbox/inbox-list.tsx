"use client";

import { useWindowVirtualizer, defaultRangeExtractor, type Range } from "@tanstack/react-virtual";
import { ArrowUp } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { useZone } from "../hooks/use-zone";
import { Button } from "../ui/button";
import { classes } from "../ui/classes";
import styles from "./inbox.module.css";
import { draftOf, HeadRow, LineRow } from "./line-row";
import type { Command } from "./model/commands";
import type { Draft, Drafts } from "./model/decisions";
import { isLineSelected, type InboxEvent, type InboxState } from "./model/inbox-state";
import { countOf } from "./model/sentences";
import { RowDetails } from "./row-details";
import type { Actions } from "./use-actions";
import { useAnchoredScroll } from "./use-anchored-scroll";

/** Lines below the last one on screen when older rows are asked for. */
const AHEAD = 6;

/** As the style sheet makes them; what is higher is measured. */
const LINE = 36;
const CARD = 98;

/** What sticks to the upper and lower edge of the window and covers lines. */
const COVER = { bottom: 72, top: 100 };

type Props = {
  accountNames: ReadonlyMap<string, string>;
  actions: Actions;
  dispatch: (event: InboxEvent) => void;
  drafts: Drafts;
  gridRef: RefObject<HTMLDivElement | null>;
  hasMore: boolean;
  isStale: boolean;
  loadMore: () => void;
  onAct: (command: Command, key: string, anchor: Element) => void;
  onDraft: (key: string, draft: Draft) => void;
  state: InboxState;
};

export function lineId(key: string): string {
  return `ti-line-${encodeURIComponent(key)}`;
}

/** The lines, of which only those near the window exist. The grid holds the focus; the cursor says which line is meant. */
export function InboxList(props: Props) {
  const { accountNames, actions, dispatch, drafts, gridRef, hasMore, isStale, loadMore, onAct, onDraft, state } = props;
  const { cursor, lines } = state;
  const zone = useZone();
  const body = useRef<HTMLDivElement>(null);
  const [offset, setOffset] = useState(0);
  const [isWide, setWide] = useState(true);
  useLayoutEffect(() => {
    const element = body.current;
    if (element === null) return;
    const measure = () => {
      setOffset(Math.round(element.getBoundingClientRect().top + window.scrollY));
      setWide(element.clientWidth >= 58 * 16);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, []);

  const at = lines.findIndex(({ key }) => key === cursor);
  const virtualizer = useWindowVirtualizer({
    count: lines.length,
    estimateSize: useCallback(() => (isWide ? LINE : CARD), [isWide]),
    getItemKey: useCallback((index: number) => lines[index]?.key ?? index, [lines]),
    overscan: 8,
    // The line that the keyboard is about always exists.
    rangeExtractor: useCallback(
      (range: Range) => {
        const indexes = defaultRangeExtractor(range);
        return at < 0 || indexes.includes(at) ? indexes : [...indexes, at].sort((a, b) => a - b);
      },
      [at],
    ),
    scrollMargin: offset,
    scrollPaddingEnd: COVER.bottom,
    scrollPaddingStart: COVER.top,
  });
  const arrived = useAnchoredScroll(virtualizer, lines, cursor, gridRef);

  // A cursor that the user moved is in sight. One that lines pushed around is not followed.
  const followed = useRef(cursor);
  useLayoutEffect(() => {
    if (followed.current === cursor) return;
    followed.current = cursor;
    if (at >= 0 && gridRef.current?.contains(document.activeElement)) virtualizer.scrollToIndex(at, { align: "auto" });
  }, [at, cursor, gridRef, virtualizer]);

  const items = virtualizer.getVirtualItems();
  const isNearEnd = hasMore && !isStale && (virtualizer.range?.endIndex ?? 0) + AHEAD >= lines.length - 1;
  useEffect(() => {
    if (isNearEnd) loadMore();
  });

  const select = useCallback(
    (key: string, range: boolean) => {
      dispatch(range ? { key, type: "select-to" } : { key, type: "toggle-selected" });
      if (!range) dispatch({ key, type: "go" });
      gridRef.current?.focus({ preventScroll: true });
    },
    [dispatch, gridRef],
  );
  const click = useCallback(
    (key: string, event: React.MouseEvent) => {
      if (event.shiftKey) dispatch({ key, type: "select-to" });
      else dispatch({ key, type: "go" });
      gridRef.current?.focus({ preventScroll: true });
    },
    [dispatch, gridRef],
  );

  return (
    <div className={classes(styles.list, isStale && "opacity-60")}>
      {arrived > 0 ? (
        <div className="pointer-events-none sticky top-28 z-20 flex h-0 justify-center">
          <Button
            size="sm"
            className="pointer-events-auto h-7 rounded-full shadow-ti-pop"
            onClick={() => {
              dispatch({ to: "first", type: "jump" });
              window.scrollTo({ top: 0 });
              gridRef.current?.focus({ preventScroll: true });
            }}
          >
            <ArrowUp aria-hidden className="size-4" />
            {countOf(arrived, "newer line")}
          </Button>
        </div>
      ) : null}
      <div
        ref={gridRef}
        role="treegrid"
        aria-label="Imported trades"
        aria-activedescendant={at < 0 ? undefined : lineId(lines[at]?.key ?? "")}
        aria-busy={isStale}
        aria-multiselectable
        aria-rowcount={hasMore ? -1 : lines.length + 1}
        tabIndex={0}
        className="group/list rounded-md border border-ti-line bg-ti-surface outline-none"
      >
        <div role="rowgroup">
          <HeadRow />
        </div>
        <div ref={body} role="rowgroup" className="relative" style={{ height: virtualizer.getTotalSize() }}>
          {items.map(({ index, key, start }) => {
            const line = lines[index];
            if (line === undefined) return null;
            const draft = draftOf(line, drafts);
            return (
              <div
                key={key}
                ref={virtualizer.measureElement}
                data-index={index}
                role="presentation"
                className="absolute inset-x-0 top-0"
                style={{ transform: `translateY(${start - offset}px)` }}
              >
                <LineRow
                  accountNames={accountNames}
                  draft={draft}
                  id={lineId(line.key)}
                  index={index}
                  isCursor={index === at}
                  isSelected={isLineSelected(state, line)}
                  line={line}
                  onAct={onAct}
                  onClick={click}
                  onSelect={select}
                  zone={zone}
                />
                {line.kind === "fill" && line.isOpen ? (
                  <div role="row" aria-level={line.parent === null ? 1 : 2}>
                    <div role="gridcell">
                      <RowDetails
                        accountName={accountNames.get(line.row.accountRef)}
                        actions={actions}
                        draft={draft}
                        onAct={(command, anchor) => onAct(command, line.key, anchor)}
                        onDraft={(next) => onDraft(line.key, next)}
                        onLeave={() => gridRef.current?.focus({ preventScroll: true })}
                        row={line.row}
                        zone={zone}
                      />
                    </div>
                  </div>
                ) : null}
              </div>
            );
          })}
        </div>
      </div>
      <p role="status" className="px-2 py-3 text-center text-[0.8125rem] text-ti-muted">
        {hasMore ? (isStale ? "" : "Loading older ones …") : lines.length > 20 ? "That is all." : ""}
      </p>
    </div>
  );
}
