// What the inbox shows, kept in the address: a link or a reload shows the same.
import { startOfDay } from "../../format/instant";

export const STATUSES = ["pending", "reviewed", "dismissed"] as const;
export type Status = (typeof STATUSES)[number];

export const PROVIDERS = ["ibkr", "kraken"] as const;
export type Provider = (typeof PROVIDERS)[number];

export type Filters = {
  account: string | null;
  /** Local days, both inclusive. */
  from: string | null;
  provider: Provider | null;
  status: Status;
  symbol: string | null;
  to: string | null;
};

export const NO_FILTERS: Filters = { account: null, from: null, provider: null, status: "pending", symbol: null, to: null };

/** Longer texts in an address were not written by this page. */
const MAX_TEXT = 64;

/** What an address says; what it cannot mean is left out. */
export function filtersOf(address: { get(name: string): string | null }): Filters {
  const text = (name: string) => {
    const value = address.get(name)?.trim() ?? "";
    return value === "" || value.length > MAX_TEXT ? null : value;
  };
  const day = (name: string) => {
    const value = text(name);
    return value !== null && startOfDay(value, "UTC") !== null ? value : null;
  };
  const from = day("from");
  const to = day("to");
  const isBackwards = from !== null && to !== null && to < from;
  return {
    account: text("account"),
    from: isBackwards ? to : from,
    provider: PROVIDERS.find((each) => each === address.get("provider")) ?? null,
    status: STATUSES.find((each) => each === address.get("status")) ?? "pending",
    symbol: text("symbol"),
    to: isBackwards ? from : to,
  };
}

/** The query of an address, without the question mark; parameters that are not ours stay. */
export function addressOf(filters: Filters, present = ""): string {
  const params = new URLSearchParams(present);
  const values: Record<keyof Filters, string | null> = {
    ...filters,
    status: filters.status === "pending" ? null : filters.status,
  };
  for (const name of ["status", "provider", "account", "symbol", "from", "to"] as const) {
    params.delete(name);
    const value = values[name];
    if (value !== null && value !== "") params.set(name, value);
  }
  return params.toString();
}

const STATUS_ARGS = { dismissed: "dismissed", pending: "pending_review", reviewed: "reviewed" } as const;

type RowFilters = { accountRef?: string; from?: number; provider?: Provider; symbol?: string; to?: number };

/** The same as arguments of `inbox.reviewAllUnlinked`; the days are those of `zone`. */
export function rowFiltersOf(filters: Filters, zone: string): RowFilters {
  const from = filters.from === null ? null : startOfDay(filters.from, zone);
  const to = filters.to === null ? null : startOfDay(dayAfter(filters.to), zone);
  return {
    ...(filters.account === null ? {} : { accountRef: filters.account }),
    ...(from === null ? {} : { from }),
    ...(filters.provider === null ? {} : { provider: filters.provider }),
    ...(filters.symbol === null ? {} : { symbol: filters.symbol }),
    ...(to === null ? {} : { to }),
  };
}

/** The same as arguments of `inbox.list`. */
export function queryOf(filters: Filters, zone: string): RowFilters & { status: (typeof STATUS_ARGS)[Status] } {
  return { ...rowFiltersOf(filters, zone), status: STATUS_ARGS[filters.status] };
}

function dayAfter(date: string): string {
  return new Date(Date.parse(date) + 86_400_000).toISOString().slice(0, 10);
}

export function isFiltered({ account, from, provider, symbol, to }: Filters): boolean {
  return [account, from, provider, symbol, to].some((each) => each !== null);
}
