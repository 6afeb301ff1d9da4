"use client";

import { Ban, Check, ChevronRight, MessageSquare, RotateCcw, X } from "lucide-react";
import { memo, type MouseEvent } from "react";
import type { InboxRow } from "../api";
import { clock, day, utc } from "../format/instant";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { classes } from "../ui/classes";
import styles from "./inbox.module.css";
import type { Command } from "./model/commands";
import { averagePrice, short, sum } from "./model/decimal";
import type { Draft } from "./model/decisions";
import { explanationsOf, isNews, PROVIDER_NAMES, SHORT_NAMES, type Explanation } from "./model/explanations";
import { rowKey, rowsOf, shared, type Line } from "./model/lines";
import { readOut } from "./model/sentences";

type Props = {
  accountNames: ReadonlyMap<string, string>;
  draft: Draft | undefined;
  id: string;
  index: number;
  isCursor: boolean;
  isSelected: boolean;
  line: Line;
  onAct: (command: Command, key: string, anchor: Element) => void;
  onClick: (key: string, event: MouseEvent) => void;
  onSelect: (key: string, range: boolean) => void;
  zone: string;
};

/** A line of the list. Its buttons do what the keys do. */
export const LineRow = memo(function LineRow(props: Props) {
  const { accountNames, draft, id, index, isCursor, isSelected, line, onAct, onClick, onSelect, zone } = props;
  const rows = rowsOf(line);
  const [first] = rows;
  if (first === undefined) return null;
  const tab = isCursor ? 0 : -1;
  const act = (command: Command) => (event: MouseEvent<HTMLElement>) => {
    event.stopPropagation();
    onAct(command, line.key, event.currentTarget);
  };
  const isChild = line.kind === "fill" && line.parent !== null;
  const isVoided = rows.every(({ flags }) => flags.includes("voided_by_broker"));
  return (
    // The grid has the keyboard; a click on a row only moves the cursor there.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
    <div
      role="row"
      id={id}
      aria-expanded={line.isOpen}
      aria-label={readOut(line)}
      aria-level={isChild ? 2 : 1}
      aria-rowindex={index + 2}
      aria-selected={isSelected}
      data-line={line.key}
      data-cursor={isCursor || undefined}
      onClick={(event) => onClick(line.key, event)}
      className={classes(
        styles.row,
        isChild && styles.child,
        "relative border-b border-ti-line text-[0.8125rem]",
        isSelected ? "bg-ti-accent-soft" : isChild ? "bg-ti-sunken" : "bg-ti-surface",
        isCursor
          ? "before:absolute before:inset-y-0 before:left-0 before:w-[3px] before:bg-ti-accent group-focus-within/list:bg-ti-active group-focus-visible/list:outline-2 group-focus-visible/list:-outline-offset-2 group-focus-visible/list:outline-ti-accent"
          : "hover:bg-ti-hover",
      )}
    >
      <div role="gridcell" className={styles.check}>
        <label className="flex size-6 items-center justify-center pointer-coarse:size-10">
          <input
            type="checkbox"
            tabIndex={tab}
            aria-label={`Select ${readOut(line)}`}
            checked={isSelected}
            className="ti-focus size-4 accent-ti-accent"
            onChange={() => undefined}
            onClick={(event) => {
              event.stopPropagation();
              onSelect(line.key, event.shiftKey);
            }}
          />
        </label>
      </div>
      <div role="gridcell" className={classes(styles.when, "whitespace-nowrap tabular-nums")}>
        <time dateTime={new Date(first.occurredAt).toISOString()} title={utc(first.occurredAt)}>
          <span className="text-ti-muted">{day(first.occurredAt, zone)}</span> {clock(first.occurredAt, zone)}
        </time>
      </div>
      <div role="gridcell" className={classes(styles.symbol, "flex min-w-0 items-center gap-1.5")}>
        <button
          type="button"
          tabIndex={tab}
          aria-expanded={line.isOpen}
          aria-label={line.kind === "order" ? `${rows.length} fills of one order` : "Details"}
          onClick={act(line.isOpen ? "close" : "open")}
          className="ti-focus -ml-1 flex size-6 shrink-0 items-center justify-center rounded text-ti-muted hover:text-ti-ink pointer-coarse:size-10"
        >
          <ChevronRight aria-hidden className={classes("size-4", line.isOpen && "rotate-90")} />
        </button>
        <BrokerText most={24} text={first.symbol} className={classes("max-w-[calc(100%-1.75rem)] shrink-0 truncate font-semibold", isVoided && "line-through")} />
        {line.kind === "order" ? <span className="shrink-0 rounded bg-ti-hover px-1.5 text-xs text-ti-muted tabular-nums">{rows.length} fills</span> : null}
        <Marks rows={rows} />
      </div>
      <Side rows={rows} draft={draft} />
      <Figures rows={rows} />
      <div role="gridcell" className={classes(styles.account, "min-w-0 leading-4")} title={`${PROVIDER_NAMES[first.provider]}, ${first.accountRef}`}>
        <BrokerText text={accountNames.get(first.accountRef) ?? first.accountRef} className="block truncate" />
        <span className="block truncate text-[0.6875rem] leading-3 text-ti-muted">{SHORT_NAMES[first.provider]}</span>
      </div>
      <div role="gridcell" className={classes(styles.plan, "min-w-0")}>
        <PlanButton rows={rows} tab={tab} onClick={act("plan")} />
      </div>
      <div role="gridcell" className={classes(styles.campaign, "min-w-0")}>
        <CampaignButton rows={rows} tab={tab} onClick={act("campaign")} />
      </div>
      <div role="gridcell" className={classes(styles.actions, "flex justify-end gap-0.5")}>
        <RowActions rows={rows} act={act} tab={tab} />
      </div>
    </div>
  );
});

/** The most urgent mark; a line has room for one. The others are told where it opens. */
function Marks({ rows }: { rows: readonly InboxRow[] }) {
  const twin: Explanation = { name: "twin?", says: "You have typed a trade like this one. Open the line to compare.", tone: "warn" };
  const all = [...rows.flatMap(explanationsOf), ...(rows.some(({ twins }) => twins.length > 0) ? [twin] : [])];
  const marks = [...new Map(all.map((each) => [each.name, each])).values()];
  const [mark] = marks;
  const hasNotes = rows.some(({ notes }) => notes !== null);
  return (
    <span className="flex min-w-0 items-center gap-1 overflow-hidden">
      {mark === undefined ? null : (
        <span title={marks.map(({ says }) => says).join("\n")}>
          <Badge tone={mark.tone}>{marks.length > 1 ? `${mark.name} +${marks.length - 1}` : mark.name}</Badge>
        </span>
      )}
      {hasNotes ? <MessageSquare role="img" aria-label="has notes" className="size-3.5 shrink-0 text-ti-muted" /> : null}
    </span>
  );
}

function Side({ draft, rows }: { draft: Draft | undefined; rows: readonly InboxRow[] }) {
  const [first] = rows;
  if (first === undefined) return null;
  const direction = draft?.direction ?? first.direction;
  const opens = direction !== null && (direction === "long") === (first.side === "buy");
  return (
    <div role="gridcell" className={classes(styles.side, "whitespace-nowrap")}>
      <span className="font-medium">{first.side === "buy" ? "Buy" : first.side === "sell" ? "Sell" : "–"}</span>{" "}
      {direction === null ? null : (
        <span title={`${opens ? "Opens" : "Closes"} a ${direction} position`} className={draft?.direction === undefined ? "text-ti-muted" : "text-ti-accent"}>
          {direction}
        </span>
      )}
    </div>
  );
}

function Figures({ rows }: { rows: readonly InboxRow[] }) {
  const [first] = rows;
  if (first === undefined) return null;
  const one = rows.length === 1;
  const average = one ? null : averagePrice(rows);
  const quantity = one ? first.quantity : sum(rows.map((row) => row.quantity));
  const feeCurrency = shared(rows, (row) => row.feeCurrency);
  const fee = one ? first.fee : feeCurrency === undefined ? null : sum(rows.map((row) => row.fee));
  const figure = "tabular-nums [overflow-wrap:anywhere]";
  return (
    <>
      <div role="gridcell" className={classes(styles.quantity, figure)}>
        <BrokerText text={quantity === null ? "various" : short(quantity)} />
      </div>
      <div role="gridcell" className={classes(styles.price, figure)}>
        {one ? (
          <BrokerText text={short(first.price)} />
        ) : average === null ? (
          "various"
        ) : (
          <span title={`Average price of ${rows.length} fills${average.isRounded ? ", rounded" : ""}`}>
            <span aria-hidden className="text-ti-muted">
              {average.isRounded ? "≈ " : "ø "}
            </span>
            {short(average.text)}
          </span>
        )}
      </div>
      <div role="gridcell" className={classes(styles.fee, figure, "text-ti-muted")}>
        {fee === null ? "various" : <BrokerText text={`${short(fee)}${feeCurrency ? ` ${feeCurrency}` : ""}`} />}
      </div>
    </>
  );
}

const CELL =
  "ti-focus flex h-7 w-full min-w-0 items-center rounded border px-2 text-left pointer-coarse:h-10 hover:border-ti-edge hover:bg-ti-surface";

type CellProps = { onClick: (event: MouseEvent<HTMLElement>) => void; rows: readonly InboxRow[]; tab: 0 | -1 };

function PlanButton({ onClick, rows, tab }: CellProps) {
  const [first] = rows;
  const plan = shared(rows, (row) => row.plan?.name ?? null);
  // What was suggested is over with the decision.
  const suggestion = shared(rows, (row) => (row.status === "pending_review" ? (row.suggestion?.name ?? null) : null));
  const campaign = shared(rows, (row) => row.campaign?.name ?? null);
  if (first === undefined || first.status === "dismissed") return null;
  const shown: { look: string; name: string; why?: string } =
    plan === undefined || (plan === null && suggestion === undefined)
      ? { look: "border-dashed border-ti-edge", name: "Several plans" }
      : plan !== null
        ? { look: "border-transparent", name: plan }
        : suggestion !== null && suggestion !== undefined
          ? { look: "border-dashed border-ti-edge", name: suggestion, why: "Suggested: the only open plan that fits this symbol and direction" }
          : { look: "border-transparent text-ti-muted", name: first.status === "reviewed" ? "No plan" : "Choose a plan" };
  return (
    <button type="button" tabIndex={tab} data-cell="plan" aria-haspopup="dialog" onClick={onClick} className={classes(CELL, shown.look)} title={shown.why}>
      <span className="sr-only">Plan: </span>
      <span className="ti-foreign truncate">{shown.name}</span>
      {shown.why === undefined ? null : <span className="sr-only">, suggested</span>}
      {campaign ? <span className={classes(styles.narrow, "ti-foreign truncate pl-1.5 text-ti-muted")}>· {campaign}</span> : null}
    </button>
  );
}

function CampaignButton({ onClick, rows, tab }: CellProps) {
  const [first] = rows;
  if (first === undefined || first.status === "dismissed") return null;
  const name = shared(rows, (row) => row.campaign?.name ?? null);
  const isDerived = rows.some((row) => row.campaign?.derived === true || row.plan !== null);
  if (isDerived) {
    return (
      <span className="block truncate px-2 text-ti-muted" title="The plan's campaign. To choose another, change the plan.">
        <span className="ti-foreign">{name ?? "–"}</span>
      </span>
    );
  }
  return (
    <button type="button" tabIndex={tab} data-cell="campaign" aria-haspopup="dialog" onClick={onClick} className={classes(CELL, "border-transparent", !name && "text-ti-muted")}>
      <span className="sr-only">Campaign: </span>
      <span className="ti-foreign truncate">{name ?? "–"}</span>
    </button>
  );
}

function RowActions({ act, rows, tab }: { act: (command: Command) => (event: MouseEvent<HTMLElement>) => void; rows: readonly InboxRow[]; tab: 0 | -1 }) {
  const [first] = rows;
  const button = (command: Command, label: string, Icon: typeof Check, look = "text-ti-muted hover:text-ti-ink") => (
    <button
      key={command}
      type="button"
      tabIndex={tab}
      aria-label={label}
      title={label}
      onClick={act(command)}
      className={classes("ti-focus flex size-7 items-center justify-center rounded hover:bg-ti-hover pointer-coarse:size-10", look)}
    >
      <Icon aria-hidden className="size-4" />
    </button>
  );
  if (first?.status === "dismissed") return button("restore", "Restore (R)", RotateCcw);
  const accepts = rows.some((row) => row.status === "pending_review" && (row.plan ?? row.suggestion) !== null);
  return (
    <>
      {rows.some(isNews) ? button("seen", "The broker's change is seen (Y)", Check, "text-ti-warn hover:text-ti-warn") : null}
      {accepts ? button("accept", "Save with the suggested plan (Enter)", Check, "text-ti-accent hover:text-ti-accent") : null}
      {first?.status === "pending_review" || first?.plan ? button("blank", "Save without a plan (B)", Ban) : null}
      {button("dismiss", "Dismiss (D)", X)}
    </>
  );
}

export function draftOf(line: Line, drafts: ReadonlyMap<string, Draft>): Draft | undefined {
  const [first] = rowsOf(line);
  return first === undefined ? undefined : drafts.get(rowKey(first));
}

/** The names of the columns; where rows are cards they need none. */
export function HeadRow() {
  const heads = [
    { area: styles.when, name: "Time" },
    { area: styles.symbol, name: "Symbol" },
    { area: styles.side, name: "Side" },
    { area: styles.quantity, name: "Quantity" },
    { area: styles.price, name: "Price" },
    { area: styles.fee, name: "Fee" },
    { area: styles.account, name: "Account" },
    { area: styles.plan, name: "Plan" },
    { area: styles.campaign, name: "Campaign" },
  ];
  return (
    <div role="row" aria-rowindex={1} className={classes(styles.row, styles.head, "border-b border-ti-line text-xs font-medium text-ti-muted")}>
      <div role="columnheader" className={styles.check}>
        <span className="sr-only">Selected</span>
      </div>
      {heads.map(({ area, name }) => (
        <div key={name} role="columnheader" className={classes(area, (name === "Plan" || name === "Campaign") && "px-2")}>
          {name}
        </div>
      ))}
      <div role="columnheader" className={styles.actions}>
        <span className="sr-only">Actions</span>
      </div>
    </div>
  );
}
