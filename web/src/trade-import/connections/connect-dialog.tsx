"use client";

import { useMutation } from "convex/react";
import { ChevronRight } from "lucide-react";
import { useId, useState } from "react";
import { api, checkAuth, type ConnectionKind, type Id } from "../api";
import { sentenceOf } from "../hooks/refusal";
import { useZone } from "../hooks/use-zone";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { CredentialForm } from "./credential-form";
import { FirstSync } from "./first-sync";
import { HowTo } from "./how-to";
import { accountField, authOf, CREDENTIALS, type FieldSpec, type Values } from "./model/forms";
import { KIND_ORDER, KINDS } from "./model/kinds";

const LABEL: FieldSpec = { hint: "To tell connections apart.", label: "Name", name: "label", needed: false };

type Props = {
  /** Where the account is known already, as from a row that belongs to it. */
  account?: string;
  kind?: ConnectionKind;
  onOpenChange: (open: boolean) => void;
  open: boolean;
};

/** Choose a broker, read what to do there, enter what it gave, see the first sync. */
export function ConnectDialog(props: Props) {
  // What was typed goes with the window: secrets do not wait in a closed one.
  return props.open ? <Connecting {...props} /> : null;
}

function Connecting({ account, kind: given, onOpenChange, open }: Props) {
  const [kind, setKind] = useState<ConnectionKind | null>(given ?? null);
  const [connectionId, setConnectionId] = useState<Id<"brokerageConnections"> | null>(null);
  if (connectionId !== null) return <FirstSync connectionId={connectionId} onClose={() => onOpenChange(false)} />;
  if (kind === null) {
    return (
      <Dialog open={open} onOpenChange={onOpenChange} title="Connect an account" description="Read only: nothing can be traded or moved.">
        <ul className="space-y-2">
          {KIND_ORDER.map((each) => (
            <li key={each}>
              <button
                type="button"
                onClick={() => setKind(each)}
                className="ti-focus flex w-full items-center gap-3 rounded-lg border border-ti-edge px-3 py-2.5 text-left hover:bg-ti-hover"
              >
                <span className="min-w-0 flex-1">
                  <span className="block font-medium">{KINDS[each].name}</span>
                  <span className="block text-[0.8125rem] text-ti-muted">{KINDS[each].for}</span>
                </span>
                <ChevronRight aria-hidden className="size-4 shrink-0 text-ti-muted" />
              </button>
            </li>
          ))}
        </ul>
      </Dialog>
    );
  }
  return (
    <EnterCredentials
      account={account}
      kind={kind}
      onBack={given === undefined ? () => setKind(null) : null}
      onOpenChange={onOpenChange}
      onSaved={setConnectionId}
    />
  );
}

type EnterProps = {
  account: string | undefined;
  kind: ConnectionKind;
  onBack: (() => void) | null;
  onOpenChange: (open: boolean) => void;
  onSaved: (connectionId: Id<"brokerageConnections">) => void;
};

function EnterCredentials({ account, kind, onBack, onOpenChange, onSaved }: EnterProps) {
  const id = useId();
  const zone = useZone();
  const create = useMutation(api.tradeImport.connections.create);
  const [values, setValues] = useState<Values>({ accountRef: account ?? "" });
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const accountOf = accountField(kind);
  const fields = [...CREDENTIALS[kind], ...(accountOf === null ? [] : [accountOf]), LABEL];
  const save = () => {
    const checked = checkAuth(authOf(kind, values, zone));
    if (!checked.ok) {
      setProblem(checked.message);
      return;
    }
    setProblem(null);
    setBusy(true);
    const accountRef = values.accountRef?.trim();
    const label = values.label?.trim();
    create({ auth: checked.value, kind, ...(accountRef && accountOf ? { accountRef } : {}), ...(label ? { label } : {}) })
      .then(onSaved)
      .catch((error: unknown) => {
        setProblem(sentenceOf(error));
        setBusy(false);
      });
  };
  return (
    <Dialog
      open
      onOpenChange={onOpenChange}
      title={`Connect ${KINDS[kind].name}`}
      wide
      footer={
        <>
          {onBack === null ? null : (
            <Button look="quiet" className="mr-auto" onClick={onBack}>
              Back
            </Button>
          )}
          <Button look="primary" type="submit" form={id} busy={busy}>
            Connect
          </Button>
        </>
      }
    >
      <div className="mb-4 rounded-lg bg-ti-sunken px-4 py-3">
        <HowTo kind={kind} />
      </div>
      <CredentialForm id={id} fields={fields} values={values} onChange={setValues} onSubmit={save} problem={problem} />
      <p className="mt-3 text-[0.8125rem] text-ti-muted">Secrets are stored and never shown again, not even to you.</p>
    </Dialog>
  );
}
