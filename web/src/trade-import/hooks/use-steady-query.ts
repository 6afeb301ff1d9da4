"use client";

import { useQuery } from "convex/react";
import { type FunctionArgs, type FunctionReference, type FunctionReturnType } from "convex/server";
import { useState } from "react";

/**
 * A query whose arguments change with time: while the new answer is on its way the last one stays, so nothing flickers.
 * Not for arguments that mean something else: those should show that they load.
 */
export function useSteadyQuery<Query extends FunctionReference<"query">>(
  query: Query,
  args: FunctionArgs<Query>,
): FunctionReturnType<Query> | undefined {
  const answer = useQuery(query, args);
  const [last, setLast] = useState(answer);
  if (answer !== undefined && answer !== last) setLast(answer);
  return answer ?? last;
}
