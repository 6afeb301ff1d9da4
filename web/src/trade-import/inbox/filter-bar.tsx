"use client";

import { ListFilter, X } from "lucide-react";
import { useState, type ReactNode, type RefObject } from "react";
import type { Connection } from "../api";
import { Button } from "../ui/button";
import { classes } from "../ui/classes";
import { PROVIDER_NAMES } from "./model/explanations";
import { isFiltered, NO_FILTERS, PROVIDERS, STATUSES, type Filters, type Status } from "./model/filters";

const STATUS_NAMES: Record<Status, string> = { dismissed: "Dismissed", pending: "To review", reviewed: "Reviewed" };

const BOX =
  "ti-focus h-8 min-w-0 rounded-md border border-ti-edge bg-ti-surface px-2 text-[0.8125rem] text-ti-ink placeholder:text-ti-muted pointer-coarse:h-10 pointer-coarse:text-base";

type Props = {
  /** What stands at the end of the bar. */
  children: ReactNode;
  connections: readonly Connection[] | undefined;
  filters: Filters;
  onChange: (changes: Partial<Filters>) => void;
  /** The focus goes back to the list. */
  onLeave: () => void;
  searchRef: RefObject<HTMLInputElement | null>;
};

export function FilterBar({ children, connections, filters, onChange, onLeave, searchRef }: Props) {
  const [isOpen, setOpen] = useState(false);
  const isOn = isFiltered(filters);
  return (
    <div className="flex flex-wrap items-center gap-2">
      <div role="group" aria-label="State" className="flex rounded-md border border-ti-edge bg-ti-surface p-0.5">
        {STATUSES.map((status) => (
          <button
            key={status}
            type="button"
            aria-pressed={filters.status === status}
            onClick={() => {
              onChange({ status });
              onLeave();
            }}
            className="ti-focus h-[1.625rem] rounded px-2.5 text-[0.8125rem] text-ti-muted hover:text-ti-ink aria-pressed:bg-ti-active aria-pressed:font-medium aria-pressed:text-ti-ink pointer-coarse:h-9"
          >
            {STATUS_NAMES[status]}
          </button>
        ))}
      </div>
      <Button size="sm" className="md:hidden" aria-expanded={isOpen} aria-controls="ti-filters" onClick={() => setOpen(!isOpen)}>
        <ListFilter aria-hidden className="size-4" />
        Filters{isOn ? " (on)" : ""}
      </Button>
      <div id="ti-filters" role="group" aria-label="Filters" className={classes("w-full flex-wrap items-center gap-2 md:flex md:w-auto md:flex-1", isOpen ? "flex" : "hidden")}>
        <select
          aria-label="Broker"
          className={classes(BOX, "flex-1 md:flex-none")}
          value={filters.provider ?? ""}
          onChange={(event) => onChange({ provider: PROVIDERS.find((each) => each === event.target.value) ?? null })}
        >
          <option value="">All brokers</option>
          {PROVIDERS.map((each) => (
            <option key={each} value={each}>
              {PROVIDER_NAMES[each]}
            </option>
          ))}
        </select>
        <select
          aria-label="Account"
          className={classes(BOX, "max-w-48 flex-1 md:flex-none")}
          value={filters.account ?? ""}
          onChange={(event) => onChange({ account: event.target.value === "" ? null : event.target.value })}
        >
          <option value="">All accounts</option>
          {accountsOf(connections, filters).map(({ accountRef, name }) => (
            <option key={accountRef} value={accountRef}>
              {name}
            </option>
          ))}
        </select>
        <SymbolBox symbol={filters.symbol} searchRef={searchRef} onChange={(symbol) => onChange({ symbol })} onLeave={onLeave} />
        <DayBox label="From" value={filters.from} onChange={(from) => onChange({ from })} />
        <span aria-hidden className="hidden text-ti-muted md:inline">
          to
        </span>
        <DayBox label="To" value={filters.to} onChange={(to) => onChange({ to })} />
        {isOn ? (
          <Button
            look="quiet"
            size="sm"
            onClick={() => {
              onChange({ ...NO_FILTERS, status: filters.status });
              onLeave();
            }}
          >
            <X aria-hidden className="size-4" />
            Clear
          </Button>
        ) : null}
        <div className="ml-auto flex items-center gap-1">{children}</div>
      </div>
    </div>
  );
}

/** Takes effect on Enter and on leaving: each key would ask the server. */
type SymbolBoxProps = Pick<Props, "onLeave" | "searchRef"> & { onChange: (symbol: string | null) => void; symbol: string | null };

function SymbolBox({ onChange, onLeave, searchRef, symbol }: SymbolBoxProps) {
  const [typed, setTyped] = useState(symbol ?? "");
  const [seen, setSeen] = useState(symbol);
  if (symbol !== seen) {
    setSeen(symbol);
    setTyped(symbol ?? "");
  }
  const apply = () => {
    const wanted = typed.trim() === "" ? null : typed.trim();
    if (wanted !== symbol) onChange(wanted);
  };
  return (
    <input
      ref={searchRef}
      type="search"
      aria-label="Symbol"
      placeholder="Symbol"
      autoComplete="off"
      spellCheck={false}
      maxLength={64}
      className={classes(BOX, "w-full md:w-28")}
      value={typed}
      onBlur={apply}
      onChange={(event) => {
        setTyped(event.target.value);
        if (event.target.value === "" && symbol !== null) onChange(null);
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter") {
          apply();
          onLeave();
        } else if (event.key === "Escape") {
          setTyped(symbol ?? "");
          onLeave();
        }
      }}
    />
  );
}

function DayBox({ label, onChange, value }: { label: string; onChange: (day: string | null) => void; value: string | null }) {
  return (
    <input
      type="date"
      aria-label={label}
      className={classes(BOX, "flex-1 md:w-34 md:flex-none", value === null && "text-ti-muted")}
      value={value ?? ""}
      onChange={(event) => onChange(event.target.value === "" ? null : event.target.value)}
    />
  );
}

/** The accounts of all connections, and the one that the address names even if no connection has it now. */
function accountsOf(connections: readonly Connection[] | undefined, { account, provider }: Filters): { accountRef: string; name: string }[] {
  const accounts = new Map<string, string>();
  for (const { accountRef, label, provider: its } of connections ?? []) {
    if (accountRef === null || (provider !== null && its !== provider)) continue;
    accounts.set(accountRef, accounts.get(accountRef) ?? (label === null ? accountRef : `${label} · ${accountRef}`));
  }
  if (account !== null && !accounts.has(account)) accounts.set(account, account);
  return [...accounts].map(([accountRef, name]) => ({ accountRef, name }));
}
