"use client";

import { useMutation } from "convex/react";
import { useState } from "react";
import { api, type Connection } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { useToast } from "../ui/toast";
import { nameOf } from "./model/kinds";

type Props = { connection: Connection; onOpenChange: (open: boolean) => void; open: boolean };

export function DisconnectDialog({ connection, onOpenChange, open }: Props) {
  const toast = useToast();
  const disconnect = useMutation(api.tradeImport.connections.disconnect);
  const [busy, setBusy] = useState(false);
  const confirm = () => {
    setBusy(true);
    disconnect({ connectionId: connection.connectionId })
      .then(() => {
        toast.show({ text: "Disconnected. The imported trades stay." });
        onOpenChange(false);
      })
      .catch((error: unknown) => toast.show({ text: sentenceOf(error), tone: "bad" }))
      .finally(() => setBusy(false));
  };
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={`Disconnect ${nameOf(connection)}?`}
      description="Its credentials are deleted and a running sync stops. Imported trades stay, and so does every decision. You can connect it again."
      footer={
        <>
          <Button onClick={() => onOpenChange(false)}>Keep it</Button>
          <Button look="danger" busy={busy} onClick={confirm}>
            Disconnect
          </Button>
        </>
      }
    >
      {null}
    </Dialog>
  );
}
