import { describe, expect, test } from "vitest";
import { addressOf, filtersOf, isFiltered, NO_FILTERS, queryOf, type Filters } from "./filters";

const read = (address: string) => filtersOf(new URLSearchParams(address));

const ALL: Filters = {
  account: "AA11 N84G",
  from: "2026-03-28",
  provider: "kraken",
  status: "reviewed",
  symbol: "BTC/USD",
  to: "2026-03-29",
};

describe("filters and the address", () => {
  test.each<[string, Filters]>([
    ["", NO_FILTERS],
    ["status=dismissed", { ...NO_FILTERS, status: "dismissed" }],
    ["status=reviewed&provider=kraken&account=AA11+N84G&symbol=BTC%2FUSD&from=2026-03-28&to=2026-03-29", ALL],
  ])("«%s» both ways", (address, filters) => {
    expect(read(address)).toEqual(filters);
    expect(addressOf(filters)).toBe(address);
  });

  test("what cannot be meant is left out", () => {
    expect(read(`status=all&provider=etrade&from=yesterday&to=2026-02-30&symbol=${"A".repeat(65)}&account=+`)).toEqual(NO_FILTERS);
  });

  test("days in the wrong order are put right", () => {
    expect(read("from=2026-03-29&to=2026-03-28")).toMatchObject({ from: "2026-03-28", to: "2026-03-29" });
  });

  test("parameters of others stay", () => {
    expect(addressOf({ ...NO_FILTERS, symbol: "AAPL" }, "job=j1&symbol=OLD&status=reviewed")).toBe("job=j1&symbol=AAPL");
  });
});

test("a query names only what is asked for", () => {
  expect(queryOf(NO_FILTERS, "UTC")).toEqual({ status: "pending_review" });
});

test("local days become instants: the last one to its end, 23 hours where clocks change", () => {
  expect(queryOf(ALL, "Europe/Berlin")).toEqual({
    accountRef: "AA11 N84G",
    from: Date.UTC(2026, 2, 27, 23),
    provider: "kraken",
    status: "reviewed",
    symbol: "BTC/USD",
    to: Date.UTC(2026, 2, 29, 22),
  });
});

test("a status alone is no filter", () => {
  expect(isFiltered({ ...NO_FILTERS, status: "reviewed" })).toBe(false);
  expect(isFiltered({ ...NO_FILTERS, to: "2026-01-01" })).toBe(true);
});
