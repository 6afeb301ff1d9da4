"use client";

import { useId, type ComponentProps, type ReactNode } from "react";
import { classes } from "./classes";

const BOX =
  "ti-focus w-full rounded-md border border-ti-edge bg-ti-surface px-2.5 text-ti-ink placeholder:text-ti-muted aria-[invalid=true]:border-ti-bad";

type Around = {
  error?: string | undefined;
  hint?: ReactNode;
  label: string;
};

type Given = { "aria-describedby": string | undefined; "aria-invalid": boolean | undefined; id: string };

function Field({ children, error, hint, label }: Around & { children: (given: Given) => ReactNode }) {
  const id = useId();
  const says = [hint === undefined ? null : `${id}-hint`, error === undefined ? null : `${id}-error`].filter(Boolean).join(" ");
  return (
    <div className="space-y-1">
      <label htmlFor={id} className="block font-medium">
        {label}
      </label>
      {hint === undefined ? null : (
        <p id={`${id}-hint`} className="text-[0.8125rem] text-ti-muted">
          {hint}
        </p>
      )}
      {children({ "aria-describedby": says || undefined, "aria-invalid": error === undefined ? undefined : true, id })}
      {error === undefined ? null : (
        <p id={`${id}-error`} className="text-[0.8125rem] text-ti-bad">
          {error}
        </p>
      )}
    </div>
  );
}

export function TextField({ className, error, hint, label, ...rest }: Around & ComponentProps<"input">) {
  return (
    <Field error={error} hint={hint} label={label}>
      {(given) => <input {...given} {...rest} className={classes(BOX, "h-9 pointer-coarse:h-11", className)} />}
    </Field>
  );
}

export function TextAreaField({ className, error, hint, label, ...rest }: Around & ComponentProps<"textarea">) {
  return (
    <Field error={error} hint={hint} label={label}>
      {(given) => <textarea rows={3} {...given} {...rest} className={classes(BOX, "py-1.5", className)} />}
    </Field>
  );
}

export function SelectField({ children, className, error, hint, label, ...rest }: Around & ComponentProps<"select">) {
  return (
    <Field error={error} hint={hint} label={label}>
      {(given) => (
        <select {...given} {...rest} className={classes(BOX, "h-9 pointer-coarse:h-11", className)}>
          {children}
        </select>
      )}
    </Field>
  );
}
