"use client";

import { usePaginatedQuery } from "convex/react";
import { useState } from "react";
import { api, type InboxRow } from "../api";
import { useZone } from "../hooks/use-zone";
import { queryOf, type Filters } from "./model/filters";

const FIRST = 50;
const MORE = 100;

export type Rows = {
  /** Older ones exist, as far as is known. */
  hasMore: boolean;
  /** What is shown belongs to other filters; the answer to these is on its way. */
  isStale: boolean;
  loadMore: () => void;
  /** Undefined until there is a first answer. */
  rows: readonly InboxRow[] | undefined;
};

/** The rows that the filters ask for, live, page by page. */
export function useRows(filters: Filters): Rows {
  const zone = useZone();
  const { loadMore, results, status } = usePaginatedQuery(api.tradeImport.inbox.list, queryOf(filters, zone), {
    initialNumItems: FIRST,
  });
  const isLoading = status === "LoadingFirstPage";
  const [last, setLast] = useState<{ rows: readonly InboxRow[]; status: Filters["status"] } | null>(null);
  if (!isLoading && (last?.rows !== results || last.status !== filters.status)) {
    setLast({ rows: results, status: filters.status });
  }
  // Other filters: the old rows stay until the new ones are here. Another state: they would be wrong.
  const kept = last?.status === filters.status ? last.rows : undefined;
  return {
    hasMore: status !== "Exhausted",
    isStale: isLoading,
    loadMore: () => {
      if (status === "CanLoadMore") loadMore(MORE);
    },
    rows: isLoading ? kept : results,
  };
}
