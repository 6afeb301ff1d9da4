"use client";

import { useConvexAuth, useConvexConnectionState, useQuery } from "convex/react";
import { LogIn, WifiOff } from "lucide-react";
import Link from "next/link";
import { usePathname } from "next/navigation";
import { useEffect, useState, type ReactNode } from "react";
import { api } from "../api";
import { EmptyState, LoadingRows } from "../ui/states";
import { ToastProvider } from "../ui/toast";
import { TooltipProvider } from "../ui/tooltip";
import { QueryBoundary } from "./query-boundary";

const TABS = [
  { href: "/import/inbox", name: "Inbox" },
  { href: "/import/errors", name: "Errors" },
  { href: "/import/connections", name: "Connections" },
] as const;

/** More are not counted: each count reads so many rows, and reads them again with every change. */
const MOST_COUNTED = 100;

/** What the three pages share: title, tabs, messages, and what is shown instead of a page that cannot be. */
export function ImportShell({ actions, children, title }: { actions?: ReactNode; children: ReactNode; title: string }) {
  return (
    <TooltipProvider delayDuration={300}>
      <ToastProvider>
        <main className="mx-auto max-w-[90rem] px-3 pb-24 sm:px-5">
          <div className="flex flex-wrap items-center gap-x-4 gap-y-2 pt-4 pb-2">
            <h1 tabIndex={-1} className="ti-focus rounded text-lg font-semibold tracking-tight">{title}</h1>
            <div className="ml-auto flex items-center gap-2">{actions}</div>
          </div>
          <SignedIn>
            <Tabs />
            <OfflineNotice />
            <QueryBoundary>{children}</QueryBoundary>
          </SignedIn>
        </main>
      </ToastProvider>
    </TooltipProvider>
  );
}

function SignedIn({ children }: { children: ReactNode }) {
  const { isAuthenticated, isLoading } = useConvexAuth();
  if (isLoading) return <LoadingRows label="Loading" />;
  if (!isAuthenticated) {
    return (
      <EmptyState icon={LogIn} title="You are signed out">
        Sign in to see your imported trades.
      </EmptyState>
    );
  }
  return children;
}

function Tabs() {
  const path = usePathname();
  return (
    <QueryBoundary fallback={<TabList path={path} counts={{}} />}>
      <CountedTabs path={path} />
    </QueryBoundary>
  );
}

function CountedTabs({ path }: { path: string }) {
  const counts = useQuery(api.tradeImport.inbox.counts, { limit: MOST_COUNTED });
  const problems = useQuery(api.tradeImport.jobs.openProblems, {});
  const toDo = problems?.filter(({ actionCode }) => actionCode !== "none").length ?? 0;
  const pending = counts?.pendingReview ?? 0;
  return (
    <TabList
      path={path}
      counts={{
        ...(pending > 0 ? { Inbox: pending >= (counts?.limit ?? 0) ? `${pending}+` : String(pending) } : {}),
        ...(toDo > 0 ? { Errors: String(toDo) } : {}),
      }}
    />
  );
}

function TabList({ counts, path }: { counts: Partial<Record<(typeof TABS)[number]["name"], string>>; path: string }) {
  return (
    <nav aria-label="Import" className="mb-3 flex gap-1 border-b border-ti-line">
      {TABS.map(({ href, name }) => (
        <Link
          key={href}
          href={href}
          aria-current={path === href ? "page" : undefined}
          className="ti-focus -mb-px flex min-h-9 items-center gap-1.5 border-b-2 border-transparent px-2.5 text-ti-muted hover:text-ti-ink aria-[current]:border-ti-accent aria-[current]:font-medium aria-[current]:text-ti-ink pointer-coarse:min-h-11"
        >
          {name}
          {counts[name] === undefined ? null : (
            <span className="rounded bg-ti-hover px-1.5 text-xs text-ti-muted tabular-nums">{counts[name]}</span>
          )}
        </Link>
      ))}
    </nav>
  );
}

const PATIENCE_MS = 2_500;

/** Shown when the server has been out of reach for a while; what the page shows stays. */
function OfflineNotice() {
  const { hasEverConnected, isWebSocketConnected } = useConvexConnectionState();
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(!isWebSocketConnected), isWebSocketConnected ? 0 : PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [isWebSocketConnected]);
  return (
    <div role="status">
      {shown ? (
        <p className="mb-3 flex items-center gap-2 rounded-md bg-ti-warn-soft px-3 py-2 text-ti-warn">
          <WifiOff aria-hidden className="size-4 shrink-0" />
          {hasEverConnected
            ? "No connection. What you see may be out of date; what you do is saved when the connection is back."
            : "No connection yet. Trying again."}
        </p>
      ) : null}
    </div>
  );
}
