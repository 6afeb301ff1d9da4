"use client";

import { useMutation } from "convex/react";
import { useId, useState } from "react";
import { api, checkAuth, type Connection } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useZone } from "../hooks/use-zone";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { useToast } from "../ui/toast";
import { CredentialForm } from "./credential-form";
import { HowTo } from "./how-to";
import { authOf, CREDENTIALS, type Values } from "./model/forms";
import { nameOf } from "./model/kinds";

type Props = { connection: Connection; onOpenChange: (open: boolean) => void; open: boolean };

/** New credentials for the same account; the old ones are replaced, never shown. */
export function CredentialsDialog(props: Props) {
  return props.open ? <Entering {...props} /> : null;
}

function Entering({ connection, onOpenChange }: Props) {
  const id = useId();
  const zone = useZone();
  const toast = useToast();
  const update = useMutation(api.tradeImport.connections.updateCredentials);
  const [values, setValues] = useState<Values>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const { connectionId, kind } = connection;
  const save = () => {
    const checked = checkAuth(authOf(kind, values, zone));
    if (!checked.ok) {
      setProblem(checked.message);
      return;
    }
    setProblem(null);
    setBusy(true);
    update({ auth: checked.value, connectionId })
      .then(() => {
        toast.show({ text: "Saved. The next sync, in a moment, tries them." });
        onOpenChange(false);
      })
      .catch((error: unknown) => {
        setProblem(sentenceOf(error));
        setBusy(false);
      });
  };
  return (
    <Dialog
      open
      onOpenChange={onOpenChange}
      title={`New credentials for ${nameOf(connection)}`}
      wide
      footer={
        <Button look="primary" type="submit" form={id} busy={busy}>
          Save
        </Button>
      }
    >
      <details className="mb-4 rounded-lg bg-ti-sunken px-4 py-3">
        <summary className="ti-focus w-fit cursor-pointer rounded font-medium">What to do at the broker</summary>
        <div className="pt-2">
          <HowTo kind={kind} />
        </div>
      </details>
      <CredentialForm id={id} fields={CREDENTIALS[kind]} values={values} onChange={setValues} onSubmit={save} problem={problem} />
    </Dialog>
  );
}
