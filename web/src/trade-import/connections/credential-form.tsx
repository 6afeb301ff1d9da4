"use client";

import { useId, useState, type ReactNode, type SyntheticEvent } from "react";
import { TextAreaField, TextField } from "../ui/field";
import { missing, type FieldSpec, type Values } from "./model/forms";

type Props = {
  children?: ReactNode;
  fields: readonly FieldSpec[];
  /** The form's id, for a button outside it. */
  id: string;
  onChange: (values: Values) => void;
  onSubmit: () => void;
  /** What the server or the check said about the whole. */
  problem: string | null;
  values: Values;
};

/** Fields as specified; needed ones that are empty are named before anything is sent. */
export function CredentialForm({ children, fields, id, onChange, onSubmit, problem, values }: Props) {
  const [tried, setTried] = useState(false);
  const problemId = useId();
  const empty = missing(fields, values);
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    setTried(true);
    const [first] = empty;
    if (first === undefined) onSubmit();
    else event.currentTarget.querySelector<HTMLElement>(`[name="${first}"]`)?.focus();
  };
  return (
    <form id={id} noValidate onSubmit={submit} className="space-y-3" aria-describedby={problem === null ? undefined : problemId}>
      {fields.map((field) => (
        <Entry
          key={field.name}
          field={field}
          error={tried && empty.includes(field.name) ? `${field.label} is empty.` : undefined}
          value={values[field.name] ?? ""}
          onChange={(value) => onChange({ ...values, [field.name]: value })}
        />
      ))}
      {children}
      <div role="alert" id={problemId}>
        {problem === null ? null : <p className="rounded-md bg-ti-bad-soft px-3 py-2 text-ti-bad">{problem}</p>}
      </div>
    </form>
  );
}

type EntryProps = { error: string | undefined; field: FieldSpec; onChange: (value: string) => void; value: string };

function Entry({ error, field, onChange, value }: EntryProps) {
  const { hint, name, needed, placeholder, shape } = field;
  const label = needed ? field.label : `${field.label} (optional)`;
  const shared = { autoCapitalize: "off", autoCorrect: "off", error, hint, label, name, placeholder, spellCheck: false, value } as const;
  if (shape === "area") {
    return <TextAreaField {...shared} autoComplete="off" className="font-mono text-xs" onChange={(event) => onChange(event.target.value)} />;
  }
  return (
    <TextField
      {...shared}
      // A password manager would keep a broker's key as the password of this page.
      autoComplete={shape === "secret" ? "new-password" : "off"}
      aria-required={needed}
      type={shape === "secret" ? "password" : shape === "date" ? "date" : "text"}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}
