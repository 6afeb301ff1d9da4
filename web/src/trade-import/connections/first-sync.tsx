"use client";

import { useState } from "react";
import type { Connection, Id } from "../api";
import { Badge } from "../ui/badge";
import { BrokerText } from "../ui/broker-text";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { LogInLink } from "./connection-card";
import { CredentialsDialog } from "./credentials-dialog";
import { HEALTH, nextStep } from "./model/health";
import { nameOf } from "./model/kinds";
import { useConnections } from "./use-connections";

/** After saving: whether the broker takes the credentials, as the worker finds out, live. */
export function FirstSync({ connectionId, onClose }: { connectionId: Id<"brokerageConnections">; onClose: () => void }) {
  const connection = useConnections()?.find((each) => each.connectionId === connectionId);
  const [correcting, setCorrecting] = useState(false);
  const step = connection && nextStep(connection.health);
  return (
    <>
      <Dialog
        open={!correcting}
        onOpenChange={onClose}
        title={connection === undefined ? "Saved" : `${nameOf(connection)} is saved`}
        footer={
          <>
            {step?.kind === "credentials" ? <Button onClick={() => setCorrecting(true)}>Correct the credentials</Button> : null}
            <Button look="primary" onClick={onClose}>
              Close
            </Button>
          </>
        }
      >
        <div role="status" className="space-y-3">
          {connection === undefined ? <p>Saved.</p> : <Verdict connection={connection} />}
          {step?.kind === "log_in" ? <LogInLink url={step.url} /> : null}
        </div>
      </Dialog>
      {connection === undefined ? null : (
        <CredentialsDialog connection={connection} open={correcting} onOpenChange={setCorrecting} />
      )}
    </>
  );
}

function Verdict({ connection }: { connection: Connection }) {
  const { health, progress } = connection;
  const { name, tone } = HEALTH[health.state];
  return (
    <>
      <Badge tone={tone}>{name}</Badge>
      <p>
        {health.state === "ok"
          ? "The broker takes the credentials, and the first sync is done. New trades come by themselves."
          : health.state === "syncing"
            ? `Asking the broker. ${progress === null ? "" : `${progress.rows.toLocaleString()} rows read. `}You may close this; it goes on.`
            : <BrokerText text={health.sentence} most={600} />}
      </p>
      {health.state === "worker_offline" ? <p className="text-ti-muted">The first sync starts as soon as the worker runs.</p> : null}
    </>
  );
}
