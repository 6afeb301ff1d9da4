"use client";

import { useMutation } from "convex/react";
import { useId, useState, type SyntheticEvent } from "react";
import { api, checkSettings, type Connection, type ConnectionSettings } from "../api";
import { day, startOfDay } from "../format/instant";
import { sentenceOf } from "../hooks/refusal";
import { useZone } from "../hooks/use-zone";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField, TextField } from "../ui/field";
import { useToast } from "../ui/toast";
import { nameOf } from "./model/kinds";

type Props = { connection: Connection; onOpenChange: (open: boolean) => void; open: boolean };

export function SettingsDialog(props: Props) {
  return props.open ? <Settings {...props} /> : null;
}

function Settings({ connection, onOpenChange }: Props) {
  const id = useId();
  const zone = useZone();
  const toast = useToast();
  const update = useMutation(api.tradeImport.connections.updateSettings);
  const { kind, settings } = connection;
  const [label, setLabel] = useState(connection.label ?? "");
  const [interval, setInterval] = useState(String(settings.intervalMinutes));
  const [from, setFrom] = useState(settings.importFrom === undefined ? "" : day(settings.importFrom, zone));
  const [rest, setRest] = useState<ConnectionSettings>(settings);
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const throughLogin = kind === "ibkr_gateway" || kind === "ibkr_oauth";

  const save = (event: SyntheticEvent) => {
    event.preventDefault();
    const importFrom = startOfDay(from, zone) ?? undefined;
    const wanted = { ...rest, importFrom, intervalMinutes: interval.trim() === "" ? NaN : Number(interval) };
    const checked = checkSettings(wanted, Date.now());
    if (!checked.ok) {
      setProblem(checked.message);
      return;
    }
    setBusy(true);
    update({
      connectionId: connection.connectionId,
      importFrom: importFrom ?? null,
      intervalMinutes: wanted.intervalMinutes,
      label: label.trim() || null,
      ...(throughLogin ? { ibkrKeepalive: rest.ibkrKeepalive, ibkrRegion: rest.ibkrRegion } : {}),
      ...(kind === "kraken" ? { krakenTier: rest.krakenTier } : {}),
    })
      .then(() => {
        toast.show({ text: "Settings saved." });
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
      title={`Settings of ${nameOf(connection)}`}
      footer={
        <Button look="primary" type="submit" form={id} busy={busy}>
          Save
        </Button>
      }
    >
      <form id={id} noValidate onSubmit={save} className="space-y-3">
        <TextField label="Name (optional)" value={label} maxLength={80} onChange={(event) => setLabel(event.target.value)} />
        <TextField
          label="Minutes between syncs"
          inputMode="numeric"
          value={interval}
          onChange={(event) => setInterval(event.target.value)}
        />
        <TextField
          hint="Empty: from the beginning, as far as the broker shows it."
          label="Import trades from (optional)"
          type="date"
          value={from}
          onChange={(event) => setFrom(event.target.value)}
        />
        {throughLogin ? (
          <>
            <SelectField
              hint="Its nightly resets are at other hours."
              label="Where the login's servers are"
              value={rest.ibkrRegion ?? "america"}
              onChange={(event) => setRest({ ...rest, ibkrRegion: event.target.value as ConnectionSettings["ibkrRegion"] })}
            >
              <option value="america">America</option>
              <option value="europe">Europe</option>
              <option value="asia">Asia</option>
            </SelectField>
            <SelectField
              label="The brokerage session"
              value={rest.ibkrKeepalive ?? "always"}
              onChange={(event) => setRest({ ...rest, ibkrKeepalive: event.target.value as ConnectionSettings["ibkrKeepalive"] })}
            >
              <option value="always">is kept up all day</option>
              <option value="around_polls">is opened for each sync</option>
            </SelectField>
          </>
        ) : null}
        {kind === "kraken" ? (
          <SelectField
            hint="Kraken lets higher levels ask more often."
            label="Verification level"
            value={rest.krakenTier ?? "starter"}
            onChange={(event) => setRest({ ...rest, krakenTier: event.target.value as ConnectionSettings["krakenTier"] })}
          >
            <option value="starter">Starter, or not known</option>
            <option value="intermediate">Intermediate</option>
            <option value="pro">Pro</option>
          </SelectField>
        ) : null}
        <div role="alert">
          {problem === null ? null : <p className="rounded-md bg-ti-bad-soft px-3 py-2 text-ti-bad">{problem}</p>}
        </div>
      </form>
    </Dialog>
  );
}
