"use client";

import { CircleAlert, Info } from "lucide-react";
import { useState } from "react";
import type { Connection, OpenProblem } from "../api";
import { ConnectDialog } from "../connections/connect-dialog";
import { LogInLink } from "../connections/connection-card";
import { CredentialsDialog } from "../connections/credentials-dialog";
import { DisconnectDialog } from "../connections/disconnect-dialog";
import { nameOf } from "../connections/model/kinds";
import { CheckQueryDialog, StatementDialog } from "../connections/remedies";
import { useSyncNow } from "../connections/use-sync";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Command } from "../ui/command";
import { Ago } from "../ui/instant";
import { accountToConnect } from "./model/problems";
import { useRetry } from "./use-retry";

type Props = { connection: Connection | null; problem: OpenProblem };

/** One thing that is wrong: since when, of what, what to do, and the button for it. */
export function ProblemLine({ connection, problem }: Props) {
  const passive = problem.actionCode === "none";
  const Icon = passive ? Info : CircleAlert;
  return (
    <li className="flex flex-wrap items-start gap-x-3 gap-y-2 px-4 py-3">
      <Icon aria-hidden className={passive ? "mt-0.5 size-4 shrink-0 text-ti-muted" : "mt-0.5 size-4 shrink-0 text-ti-bad"} />
      <div className="min-w-0 flex-1 basis-64">
        <p>
          <BrokerText text={problem.sentence} most={600} />
        </p>
        <p className="text-[0.8125rem] text-ti-muted">
          {connection === null ? null : (
            <>
              <BrokerText text={nameOf(connection)} most={60} />
              {" · "}
            </>
          )}
          since <Ago at={problem.since} />
          {problem.action === "" ? null : (
            <>
              {" · "}
              <BrokerText text={problem.action} most={400} />
            </>
          )}
        </p>
        {problem.actionCode === "start_worker" ? <Command text="trade-sync run" /> : null}
      </div>
      <Remedy connection={connection} problem={problem} />
    </li>
  );
}

function Remedy({ connection, problem }: Props) {
  const [open, setOpen] = useState(false);
  switch (problem.actionCode) {
    case "none":
    case "start_worker":
      return null;
    case "log_in":
      return problem.url === null ? null : <LogInLink url={problem.url} />;
    case "retry_rejects":
      return <RetryButton connectionId={problem.connectionId} />;
    case "sync_now":
      return connection === null ? null : <SyncButton connection={connection} />;
    case "connect_account": {
      const account = accountToConnect(problem.sentence);
      return (
        <>
          <Button onClick={() => setOpen(true)}>Connect it</Button>
          <ConnectDialog
            open={open}
            onOpenChange={setOpen}
            {...(connection === null ? {} : { kind: connection.kind })}
            {...(account === null ? {} : { account })}
          />
        </>
      );
    }
    case "update_credentials":
      return connection === null ? null : (
        <>
          <Button onClick={() => setOpen(true)}>Enter new credentials</Button>
          <CredentialsDialog connection={connection} open={open} onOpenChange={setOpen} />
        </>
      );
    case "disconnect":
      return connection === null ? null : (
        <>
          <Button onClick={() => setOpen(true)}>Disconnect</Button>
          <DisconnectDialog connection={connection} open={open} onOpenChange={setOpen} />
        </>
      );
    case "check_flex_query":
      return (
        <>
          <Button onClick={() => setOpen(true)}>What the query needs</Button>
          <CheckQueryDialog open={open} onOpenChange={setOpen} />
        </>
      );
    case "import_statement":
      return connection === null ? null : (
        <>
          <Button onClick={() => setOpen(true)}>How to import it</Button>
          <StatementDialog connection={connection} open={open} onOpenChange={setOpen} />
        </>
      );
  }
}

function SyncButton({ connection }: { connection: Connection }) {
  const { busy, sync } = useSyncNow(connection.connectionId);
  return (
    <Button busy={busy} onClick={sync}>
      Sync now
    </Button>
  );
}

function RetryButton({ connectionId }: { connectionId: OpenProblem["connectionId"] }) {
  const { busy, retry } = useRetry(connectionId);
  return (
    <Button busy={busy} onClick={retry}>
      Retry
    </Button>
  );
}
