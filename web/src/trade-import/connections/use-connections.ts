"use client";

import { api, type Connection } from "../api";
import { useNow } from "../hooks/use-now";
import { useSteadyQuery } from "../hooks/use-steady-query";

const STEP_MS = 15_000;

/** The user's connections as they are now, offline and overdue included; undefined while the first answer is on its way. */
export function useConnections(): Connection[] | undefined {
  const now = useNow();
  return useSteadyQuery(api.tradeImport.connections.list, { now: Math.floor(now / STEP_MS) * STEP_MS });
}
