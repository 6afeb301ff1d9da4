"use client";

import { Plug, Plus, RefreshCw } from "lucide-react";
import { useState } from "react";
import { ImportShell } from "../shell/import-shell";
import { Button } from "../ui/button";
import { EmptyState, LoadingRows } from "../ui/states";
import { ConnectDialog } from "./connect-dialog";
import { ConnectionCard } from "./connection-card";
import { useConnections } from "./use-connections";
import { useSyncAll } from "./use-sync";

export function ConnectionsPage() {
  return (
    <ImportShell title="Connections">
      <Connections />
    </ImportShell>
  );
}

function Connections() {
  const connections = useConnections();
  const [connecting, setConnecting] = useState(false);
  const all = useSyncAll();
  if (connections === undefined) return <LoadingRows label="Loading connections" className="py-6" count={3} />;
  return (
    <>
      {connections.length === 0 ? (
        <EmptyState icon={Plug} title="No broker is connected">
          <p>Connect an account and its trades appear in the inbox by themselves, every 15 minutes. Nothing can be traded or moved with it.</p>
          <Button look="primary" className="mt-4" onClick={() => setConnecting(true)}>
            <Plus aria-hidden className="size-4" />
            Connect an account
          </Button>
        </EmptyState>
      ) : (
        <>
          <div className="mb-3 flex flex-wrap items-center justify-end gap-2">
            <Button onClick={all.sync} busy={all.busy}>
              {all.busy ? null : <RefreshCw aria-hidden className="size-4" />}
              Sync all now
            </Button>
            <Button look="primary" onClick={() => setConnecting(true)}>
              <Plus aria-hidden className="size-4" />
              Connect an account
            </Button>
          </div>
          <ul className="space-y-3">
            {connections.map((connection) => (
              <li key={connection.connectionId}>
                <ConnectionCard connection={connection} />
              </li>
            ))}
          </ul>
        </>
      )}
      <ConnectDialog open={connecting} onOpenChange={setConnecting} />
    </>
  );
}
