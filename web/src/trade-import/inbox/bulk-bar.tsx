"use client";

import type { InboxRow } from "../api";
import { Button } from "../ui/button";
import type { Command } from "./model/commands";
import { acceptable } from "./model/decisions";
import { countOf } from "./model/sentences";

/** What can be done with all that is selected. */
export function BulkBar({ onAct, rows }: { onAct: (command: Command, anchor: Element) => void; rows: readonly InboxRow[] }) {
  const [first] = rows;
  if (first === undefined) return null;
  const button = (command: Command, name: string, look: "plain" | "primary" | "quiet" = "plain") => (
    <Button size="sm" look={look} onClick={(event) => onAct(command, event.currentTarget)}>
      {name}
    </Button>
  );
  const suggested = acceptable(rows).length;
  return (
    <div role="toolbar" aria-label="Selected rows" className="sticky bottom-3 z-30 mx-auto flex w-fit max-w-full flex-wrap items-center gap-1.5 rounded-lg bg-ti-surface p-2 shadow-ti-pop">
      <span className="px-1.5 font-medium tabular-nums" role="status">
        {countOf(rows.length, "row")} selected
      </span>
      {first.status === "dismissed" ? (
        button("restore", "Restore", "primary")
      ) : (
        <>
          {button("plan", "Choose plan …", "primary")}
          {first.status === "pending_review" && suggested > 0 ? button("accept", "Accept") : null}
          {button("blank", "No plan")}
          {button("dismiss", "Dismiss")}
        </>
      )}
      {button("clear", "Clear", "quiet")}
    </div>
  );
}
