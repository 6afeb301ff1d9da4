"use client";

import { ChevronRight, ExternalLink, RefreshCw } from "lucide-react";
import Link from "next/link";
import { useId, useState, type ReactNode } from "react";
import type { Connection } from "../api";
import { relative } from "../format/instant";
import { useNow } from "../hooks/use-now";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { classes } from "../ui/classes";
import { Ago, Instant } from "../ui/instant";
import { CoverageTimeline } from "./coverage-timeline";
import { CredentialsDialog } from "./credentials-dialog";
import { DisconnectDialog } from "./disconnect-dialog";
import { JobList } from "./job-list";
import { HEALTH, nextStep, safeUrl } from "./model/health";
import { KINDS, nameOf } from "./model/kinds";
import { waitingSentence } from "./model/feedback";
import { CheckQueryDialog, StatementDialog } from "./remedies";
import { SettingsDialog } from "./settings-dialog";
import { useSyncNow } from "./use-sync";

type Opened = "credentials" | "disconnect" | "query" | "settings" | "statement";

/** One connection: how it is, what it has read, what it did, and all that can be done with it. */
export function ConnectionCard({ connection }: { connection: Connection }) {
  const [opened, setOpened] = useState<Opened | null>(null);
  const [showJobs, setShowJobs] = useState(false);
  const id = useId();
  const { busy, sync } = useSyncNow(connection.connectionId);
  const health = HEALTH[connection.health.state];
  const connected = connection.status !== "disconnected";
  const toggle = (name: Opened) => (open: boolean) => setOpened(open ? name : null);
  return (
    <article aria-labelledby={`${id}-name`} className="rounded-lg border border-ti-line bg-ti-surface">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2 px-4 pt-3">
        <h2 id={`${id}-name`} className="min-w-0 text-[0.9375rem] font-semibold">
          <BrokerText text={nameOf(connection)} most={80} />
        </h2>
        <Badge tone={health.tone}>{health.name}</Badge>
        <p className="min-w-0 text-ti-muted">
          {KINDS[connection.kind].short}
          {connection.accountRef === null ? null : (
            <>
              {" · "}
              <BrokerText text={connection.accountRef} most={40} />
            </>
          )}
          {connection.keyHint === null ? null : (
            <>
              {" · "}
              <BrokerText text={connection.keyHint} most={60} />
            </>
          )}
        </p>
        {connected ? (
          <Button className="ml-auto" busy={busy} onClick={sync} aria-describedby={`${id}-waiting`}>
            {busy ? null : <RefreshCw aria-hidden className="size-4" />}
            Sync now
          </Button>
        ) : null}
      </div>

      <div className="px-4 pt-1.5" aria-live="polite">
        <HealthLine connection={connection} onOpen={setOpened} />
        <p id={`${id}-waiting`} className="text-ti-muted">
          {waitingSentence(connection)}
        </p>
      </div>

      {connection.progress === null ? null : <Progress progress={connection.progress} />}

      <div className="grid gap-x-8 gap-y-3 px-4 pt-3 pb-3 lg:grid-cols-[minmax(0,1fr)_minmax(0,1.2fr)]">
        <Facts connection={connection} />
        <CoverageTimeline connection={connection} />
      </div>

      <div className="flex flex-wrap items-center gap-1 border-t border-ti-line px-2 py-1.5">
        <Button look="quiet" size="sm" aria-expanded={showJobs} aria-controls={`${id}-jobs`} onClick={() => setShowJobs(!showJobs)}>
          <ChevronRight aria-hidden className={classes("size-4", showJobs && "rotate-90")} />
          Recent syncs
        </Button>
        <span className="ml-auto" />
        <Button look="quiet" size="sm" onClick={() => setOpened("settings")}>
          Settings
        </Button>
        <Button look="quiet" size="sm" onClick={() => setOpened("credentials")}>
          {connected ? "New credentials" : "Connect again"}
        </Button>
        {connected ? (
          <Button look="quiet" size="sm" onClick={() => setOpened("disconnect")}>
            Disconnect
          </Button>
        ) : null}
      </div>
      <div id={`${id}-jobs`} hidden={!showJobs}>
        {showJobs ? <JobList connectionId={connection.connectionId} /> : null}
      </div>

      <SettingsDialog connection={connection} open={opened === "settings"} onOpenChange={toggle("settings")} />
      <CredentialsDialog connection={connection} open={opened === "credentials"} onOpenChange={toggle("credentials")} />
      <DisconnectDialog connection={connection} open={opened === "disconnect"} onOpenChange={toggle("disconnect")} />
      <StatementDialog connection={connection} open={opened === "statement"} onOpenChange={toggle("statement")} />
      <CheckQueryDialog open={opened === "query"} onOpenChange={toggle("query")} />
    </article>
  );
}

function HealthLine({ connection, onOpen }: { connection: Connection; onOpen: (name: Opened) => void }) {
  const { health } = connection;
  const step = nextStep(health);
  const quiet = health.state === "ok" || health.state === "syncing" || health.state === "never_synced";
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-1.5">
      <p className={health.state === "ok" ? "sr-only" : quiet ? "text-ti-muted" : undefined}>
        <BrokerText text={health.sentence} most={600} />
        {quiet ? null : (
          <span className="text-ti-muted">
            {" "}
            Since <Ago at={health.since} />.
          </span>
        )}
        {step?.kind === "text" ? (
          <>
            {" "}
            <BrokerText text={step.text} most={400} />
          </>
        ) : null}
      </p>
      {step === null || step.kind === "text" ? null : <StepButton step={step} onOpen={onOpen} />}
    </div>
  );
}

function StepButton({ onOpen, step }: { onOpen: (name: Opened) => void; step: Exclude<ReturnType<typeof nextStep>, null> }) {
  switch (step.kind) {
    case "log_in":
      return <LogInLink url={step.url} />;
    case "credentials":
      return (
        <Button size="sm" onClick={() => onOpen("credentials")}>
          Enter new credentials
        </Button>
      );
    case "import_statement":
      return (
        <Button size="sm" onClick={() => onOpen("statement")}>
          How to close the gap
        </Button>
      );
    case "check_query":
      return (
        <Button size="sm" onClick={() => onOpen("query")}>
          What the query needs
        </Button>
      );
    case "errors":
      return (
        <Link href="/import/errors" className="ti-focus rounded font-medium text-ti-accent underline underline-offset-3">
          Look at them
        </Link>
      );
    case "disconnect":
      return (
        <Button size="sm" onClick={() => onOpen("disconnect")}>
          Disconnect
        </Button>
      );
    case "text":
      return null;
  }
}

export function LogInLink({ url }: { url: string }) {
  const href = safeUrl(url);
  if (href === null) return <BrokerText text={url} />;
  return (
    <a
      href={href}
      target="_blank"
      rel="noreferrer"
      className="ti-focus inline-flex min-h-7 items-center gap-1.5 rounded-md border border-ti-edge px-2 text-[0.8125rem] font-medium hover:bg-ti-hover pointer-coarse:min-h-10"
    >
      Log in at the gateway
      <ExternalLink aria-hidden className="size-3.5" />
      <span className="sr-only">(opens a new window)</span>
    </a>
  );
}

function Progress({ progress }: { progress: NonNullable<Connection["progress"]> }) {
  const { completeBackTo, rows, total } = progress;
  const share = total === undefined || total === 0 ? null : Math.min(1, rows / total);
  return (
    <div className="px-4 pt-2">
      <p className="text-ti-muted tabular-nums">
        Reading history: {rows.toLocaleString()}
        {total === undefined ? "" : ` of ${total.toLocaleString()}`} rows
        {completeBackTo === undefined ? null : (
          <>
            , complete back to <Instant at={completeBackTo} />
          </>
        )}
      </p>
      {share === null ? null : (
        <div
          role="progressbar"
          aria-label="History read"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(share * 100)}
          className="mt-1 h-1.5 overflow-hidden rounded-full bg-ti-hover"
        >
          <div className="h-full bg-ti-accent" style={{ width: `${share * 100}%` }} />
        </div>
      )}
    </div>
  );
}

function Facts({ connection }: { connection: Connection }) {
  const now = useNow();
  const { credentialsEndAt, lastSyncAt, nextSyncAt, settings } = connection;
  return (
    <dl className="grid grid-cols-[auto_minmax(0,1fr)] content-start gap-x-4 gap-y-1 tabular-nums">
      <Fact name="Last success">{lastSyncAt === null ? "never" : <Ago at={lastSyncAt} />}</Fact>
      <Fact name="Next sync">
        {nextSyncAt === null ? "none" : nextSyncAt <= now ? "due" : relative(nextSyncAt, now)}
        <span className="text-ti-muted">, every {settings.intervalMinutes} min</span>
      </Fact>
      {settings.importFrom === undefined ? null : (
        <Fact name="Imports from">
          <Instant at={settings.importFrom} />
        </Fact>
      )}
      {credentialsEndAt === null ? null : (
        <Fact name="Token ends">
          <Ago at={credentialsEndAt} className={credentialsEndAt - now < 14 * 86_400_000 ? "font-medium text-ti-warn" : undefined} />
        </Fact>
      )}
    </dl>
  );
}

function Fact({ children, name }: { children: ReactNode; name: string }) {
  return (
    <>
      <dt className="text-ti-muted">{name}</dt>
      <dd>{children}</dd>
    </>
  );
}
