"use client";

import { useSearchParams } from "next/navigation";
import { useCallback, useMemo } from "react";
import { addressOf, filtersOf, type Filters } from "./model/filters";

/** The filters that the address holds, and how to change them there without leaving the page. */
export function useFilters(): [Filters, (changes: Partial<Filters>) => void] {
  const params = useSearchParams();
  const filters = useMemo(() => filtersOf(params), [params]);
  const change = useCallback((changes: Partial<Filters>) => {
    const present = new URLSearchParams(window.location.search);
    const query = addressOf({ ...filtersOf(present), ...changes }, present.toString());
    window.history.replaceState(null, "", `${window.location.pathname}${query === "" ? "" : `?${query}`}`);
  }, []);
  return [filters, change];
}
