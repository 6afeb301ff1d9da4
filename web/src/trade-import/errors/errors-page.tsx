"use client";

import { useQuery } from "convex/react";
import { CircleCheck } from "lucide-react";
import type { ReactNode } from "react";
import { api } from "../api";
import { useConnections } from "../connections/use-connections";
import { useNow } from "../hooks/use-now";
import { useSteadyQuery } from "../hooks/use-steady-query";
import { ImportShell } from "../shell/import-shell";
import { EmptyState, LoadingRows } from "../ui/states";
import { HeldList } from "./held-list";
import { ProblemLine } from "./problem-line";
import { RejectList } from "./reject-list";

const STEP_MS = 15_000;

export function ErrorsPage() {
  return (
    <ImportShell title="Import Errors">
      <Errors />
    </ImportShell>
  );
}

/** What stands open, one line each; then the rows that wait, readable. Lines go by themselves when their cause ends. */
function Errors() {
  const now = useNow();
  const problems = useSteadyQuery(api.tradeImport.jobs.openProblems, { now: Math.floor(now / STEP_MS) * STEP_MS });
  const connections = useConnections();
  const counts = useQuery(api.tradeImport.inbox.counts, {});
  if (problems === undefined || connections === undefined || counts === undefined) return <LoadingRows label="Loading problems" />;
  const atMost = (count: number) => (count >= counts.limit ? `${count}+` : String(count));
  return (
    <div className="space-y-6">
      <section aria-label="Open problems" aria-live="polite" className="rounded-lg border border-ti-line bg-ti-surface">
        {problems.length === 0 ? (
          <EmptyState icon={CircleCheck} title="Nothing is wrong">
            {connections.length === 0
              ? "No account is connected yet."
              : "Every connection does what it should. Problems appear here by themselves, and leave when their cause ends."}
          </EmptyState>
        ) : (
          <ul className="divide-y divide-ti-line">
            {problems.map((problem) => (
              <ProblemLine
                key={`${problem.connectionId ?? "all"} ${problem.actionCode} ${problem.sentence}`}
                connection={connections.find(({ connectionId }) => connectionId === problem.connectionId) ?? null}
                problem={problem}
              />
            ))}
          </ul>
        )}
      </section>
      {counts.rejects === 0 ? null : (
        <Rows title="Rows that could not be read" count={atMost(counts.rejects)} hint="Kept as the broker sent them, until they can be read.">
          <RejectList />
        </Rows>
      )}
      {counts.held === 0 ? null : (
        <Rows title="Held outside the journal" count={atMost(counts.held)} hint="Understood and kept, but no trades of the journal.">
          <HeldList />
        </Rows>
      )}
    </div>
  );
}

function Rows({ children, count, hint, title }: { children: ReactNode; count: string; hint: string; title: string }) {
  return (
    <section aria-label={title}>
      <div className="mb-2 flex flex-wrap items-baseline gap-x-3">
        <h2 className="font-semibold">
          {title} <span className="font-normal text-ti-muted tabular-nums">{count}</span>
        </h2>
        <p className="text-ti-muted">{hint}</p>
      </div>
      <div className="rounded-lg border border-ti-line bg-ti-surface">{children}</div>
    </section>
  );
}
