"use client";

import { useMutation } from "convex/react";
import { useId, useState, type ReactNode } from "react";
import { api, type InboxRow } from "../api";
import { moment, utc } from "../format/instant";
import { sentenceOf } from "../hooks/refusal";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { classes } from "../ui/classes";
import type { Command } from "./model/commands";
import { grouped } from "./model/decimal";
import type { Draft } from "./model/decisions";
import { explanationsOf, isNews, PROVIDER_NAMES, SOURCES } from "./model/explanations";
import { countOf } from "./model/sentences";
import type { Actions } from "./use-actions";

type Props = {
  accountName: string | undefined;
  actions: Actions;
  draft: Draft | undefined;
  /** Focus goes back to the list. */
  onLeave: () => void;
  onAct: (command: Command, anchor: Element) => void;
  onDraft: (draft: Draft) => void;
  row: InboxRow;
  zone: string;
};

/** Everything known of one fill, and what can be put right about it. */
export function RowDetails({ accountName, actions, draft, onAct, onDraft, onLeave, row, zone }: Props) {
  const explanations = explanationsOf(row);
  return (
    <div className="grid gap-x-8 gap-y-4 border-b border-ti-line bg-ti-sunken px-4 py-3 text-[0.8125rem] md:grid-cols-2">
      <div className="min-w-0 space-y-4">
        {explanations.length === 0 ? null : (
          <ul className="space-y-1.5">
            {explanations.map(({ name, says, tone }) => (
              <li key={name} className="flex items-baseline gap-2">
                <Badge tone={tone}>{name}</Badge>
                <span>{says}</span>
              </li>
            ))}
          </ul>
        )}
        {isNews(row) ? (
          <Button size="sm" onClick={() => void actions.acknowledge([row])}>
            Seen
          </Button>
        ) : null}
        <History row={row} zone={zone} />
        <Twins actions={actions} onLeave={onLeave} row={row} zone={zone} />
        <Facts accountName={accountName} row={row} zone={zone} />
      </div>
      {row.status === "dismissed" ? null : (
        <div className="min-w-0 space-y-4">
          <Plan row={row} onAct={onAct} />
          <Direction actions={actions} draft={draft} onDraft={onDraft} row={row} />
          <Notes actions={actions} draft={draft} onDraft={onDraft} onLeave={onLeave} row={row} />
        </div>
      )}
    </div>
  );
}

function Facts({ accountName, row, zone }: { accountName: string | undefined; row: InboxRow; zone: string }) {
  const facts: [string, ReactNode][] = [
    ["Time", <span key="t" className="tabular-nums">{moment(row.occurredAt, zone)} <span className="text-ti-muted">{zone} · {utc(row.occurredAt)}</span></span>],
    ["Quantity", <BrokerText key="q" text={grouped(row.quantity)} />],
    ["Price", <BrokerText key="p" text={grouped(row.price)} />],
    ["Fee", <BrokerText key="f" text={`${grouped(row.fee)} ${row.feeCurrency ?? ""}`} />],
    ["Currency", <BrokerText key="c" text={row.currency ?? "not stated"} />],
    ["Account", <span key="a">{PROVIDER_NAMES[row.provider]}, {accountName === undefined ? null : <><BrokerText text={accountName} />, </>}<BrokerText text={row.accountRef} /></span>],
    ["Class", row.assetClass],
    ["Broker's symbol", <BrokerText key="r" most={200} text={row.rawSymbol} />],
    ["Order", <BrokerText key="o" text={row.externalOrderId ?? "not stated"} />],
    ["Execution", <BrokerText key="e" text={row.externalExecutionId ?? "not stated"} />],
    ["From", SOURCES[row.source]],
  ];
  return (
    <dl className="grid grid-cols-[7rem_minmax(0,1fr)] gap-x-3 gap-y-0.5 tabular-nums">
      {facts.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-ti-muted">{name}</dt>
          <dd className="min-w-0">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** What the broker said before, the newest last; the row is what it says now. */
function History({ row, zone }: { row: InboxRow; zone: string }) {
  if (row.history.length === 0) return null;
  const cell = "py-0.5 pr-3 text-right whitespace-nowrap tabular-nums";
  const now = { fee: row.fee, occurredAt: row.occurredAt, price: row.price, quantity: row.quantity, side: row.side, source: row.source };
  return (
    // On a phone it is wider than the screen, and scrolls by keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div role="group" aria-label="Corrections" tabIndex={0} className="ti-focus overflow-x-auto">
      <table className="w-full">
        <caption className="pb-1 text-left font-medium">What the broker corrected</caption>
        <thead>
          <tr className="text-left text-xs text-ti-muted">
            <th scope="col" className="pr-3 font-normal">Version</th>
            <th scope="col" className="pr-3 font-normal">Time</th>
            <th scope="col" className="pr-3 font-normal">Side</th>
            <th scope="col" className={classes(cell, "font-normal")}>Quantity</th>
            <th scope="col" className={classes(cell, "font-normal")}>Price</th>
            <th scope="col" className={classes(cell, "font-normal")}>Fee</th>
          </tr>
        </thead>
        <tbody>
          {[...row.history, now].map((version, index) => {
            const isNow = index === row.history.length;
            const mark = (name: "fee" | "price" | "quantity") => classes(cell, isNow && row.history[index - 1]?.[name] !== row[name] && "font-semibold");
            return (
              <tr key={index} className={isNow ? "" : "text-ti-muted"}>
                <th scope="row" className="py-0.5 pr-3 text-left font-normal whitespace-nowrap">{isNow ? "now" : `${index + 1}, ${SOURCES[version.source]}`}</th>
                <td className="pr-3 whitespace-nowrap tabular-nums">{moment(version.occurredAt, zone)}</td>
                <td className="pr-3">{version.side ?? "–"}</td>
                <td className={mark("quantity")}><BrokerText text={grouped(version.quantity)} /></td>
                <td className={mark("price")}><BrokerText text={grouped(version.price)} /></td>
                <td className={mark("fee")}><BrokerText text={grouped(version.fee)} /></td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Twins({ actions, onLeave, row, zone }: Pick<Props, "actions" | "onLeave" | "row" | "zone">) {
  const deleteTrade = useMutation(api.trades.deleteTrade);
  const [asked, setAsked] = useState<string | null>(null);
  if (row.twins.length === 0) return null;
  const remove = async (tradeId: InboxRow["twins"][number]["tradeId"]) => {
    try {
      await deleteTrade({ tradeId });
      actions.say({ text: "The typed trade is deleted." });
    } catch (error) {
      actions.say({ text: sentenceOf(error), tone: "bad" });
    }
    onLeave();
  };
  return (
    <div role="group" aria-label="Typed twins">
      <p className="font-medium">You have typed {row.twins.length === 1 ? "a trade" : countOf(row.twins.length, "trade")} like this one. Keep one of them, or both.</p>
      <ul className="mt-1 space-y-1">
        {row.twins.map(({ date, price, quantity, tradeId }) => (
          <li key={tradeId} className="flex flex-wrap items-center gap-x-3 gap-y-1 tabular-nums">
            <span>
              {moment(date, zone)}, {quantity} @ {price}
            </span>
            {asked === tradeId ? (
              <>
                <Button size="sm" look="danger" onClick={() => void remove(tradeId)}>
                  Delete it for good
                </Button>
                <Button size="sm" look="quiet" onClick={() => setAsked(null)}>
                  Cancel
                </Button>
              </>
            ) : (
              <Button size="sm" onClick={() => setAsked(tradeId)}>
                Delete the typed one
              </Button>
            )}
          </li>
        ))}
      </ul>
      <Button size="sm" className="mt-1" onClick={() => void actions.dismiss([row]).then(onLeave)}>
        Dismiss this one
      </Button>
    </div>
  );
}

function Plan({ onAct, row }: Pick<Props, "onAct" | "row">) {
  const symbol = <BrokerText most={24} text={row.symbol} />;
  return (
    <div role="group" aria-label="Plan and campaign" className="space-y-1">
      <p>
        <span className="font-medium">Plan: </span>
        {row.plan !== null ? (
          <span className="ti-foreign">{row.plan.name}</span>
        ) : row.suggestion !== null && row.status === "pending_review" ? (
          <>
            <span className="ti-foreign">{row.suggestion.name}</span>
            <span className="text-ti-muted"> – suggested: the only open plan for {symbol} that fits a {row.direction} {row.side}.</span>
          </>
        ) : row.status === "pending_review" ? (
          <span className="text-ti-muted">none suggested: no open plan for {symbol} fits, or several do.</span>
        ) : (
          <span className="text-ti-muted">none. Traded without a plan.</span>
        )}
      </p>
      <p>
        <span className="font-medium">Campaign: </span>
        {row.campaign === null ? <span className="text-ti-muted">none</span> : <span className="ti-foreign">{row.campaign.name}</span>}
        {row.campaign?.derived ? <span className="text-ti-muted"> – the plan’s, and changes with it.</span> : null}
      </p>
      <div className="flex flex-wrap gap-2 pt-1">
        <Button size="sm" onClick={(event) => onAct("plan", event.currentTarget)}>
          Choose plan …
        </Button>
        {row.plan === null ? (
          <Button size="sm" onClick={(event) => onAct("campaign", event.currentTarget)}>
            Choose campaign …
          </Button>
        ) : null}
        <Button size="sm" onClick={(event) => onAct("new-plan", event.currentTarget)}>
          New plan …
        </Button>
      </div>
    </div>
  );
}

function Direction({ actions, draft, onDraft, row }: Pick<Props, "actions" | "draft" | "onDraft" | "row">) {
  const direction = draft?.direction ?? row.direction;
  const choose = (wanted: "long" | "short") => {
    if (row.status === "reviewed") void actions.correct([row], { direction: wanted });
    else onDraft({ ...draft, direction: wanted });
  };
  return (
    <fieldset>
      <legend className="font-medium">Direction</legend>
      <div className="mt-1 flex gap-4">
        {(["long", "short"] as const).map((each) => (
          <label key={each} className="flex items-center gap-1.5 pointer-coarse:min-h-10">
            <input type="radio" name={`direction-${row.executionId}-${row.leg ?? 1}`} className="ti-focus accent-ti-accent" checked={direction === each} onChange={() => choose(each)} />
            {each}
            <span className="text-ti-muted">({(each === "long") === (row.side === "buy") ? "opens" : "closes"})</span>
          </label>
        ))}
      </div>
      {draft?.direction !== undefined && draft.direction !== row.direction ? <p className="mt-1 text-ti-accent">Changed. Saved with your decision.</p> : null}
    </fieldset>
  );
}

function Notes({ actions, draft, onDraft, onLeave, row }: Pick<Props, "actions" | "draft" | "onDraft" | "onLeave" | "row">) {
  const id = useId();
  const text = draft?.notes ?? row.notes ?? "";
  const isChanged = text !== (row.notes ?? "");
  const save = () => {
    if (row.status === "reviewed" && isChanged) void actions.correct([row], { notes: text });
    onLeave();
  };
  return (
    <div>
      <label htmlFor={id} className="font-medium">
        Notes
      </label>
      <textarea
        data-notes
        id={id}
        aria-describedby={`${id}-hint`}
        rows={2}
        maxLength={10_000}
        value={text}
        onChange={(event) => onDraft({ ...draft, notes: event.target.value })}
        onKeyDown={(event) => {
          if (event.key === "Escape" || (event.key === "Enter" && (event.ctrlKey || event.metaKey))) {
            event.preventDefault();
            event.stopPropagation();
            save();
          }
        }}
        className="ti-focus mt-1 block w-full rounded-md border border-ti-edge bg-ti-surface px-2.5 py-1.5 pointer-coarse:text-base"
      />
      <span id={`${id}-hint`} className="text-xs text-ti-muted">
        {row.status === "reviewed" ? "Ctrl Enter saves." : "Saved with your decision. Esc goes back to the list."}
      </span>
      {row.status === "reviewed" && isChanged ? (
        <Button size="sm" className="mt-1 ml-2" onClick={save}>
          Save notes
        </Button>
      ) : null}
    </div>
  );
}
