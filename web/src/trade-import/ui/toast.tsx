"use client";

import { CircleAlert, CircleCheck, X } from "lucide-react";
import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { Button } from "./button";
import { classes } from "./classes";

const SHOWN_MS = 7_000;
const MOST_AT_ONCE = 3;

export type ToastMessage = {
  action?: { name: string; run: () => void };
  /** A bad one stays until it is closed. */
  tone?: "bad" | "good";
  text: string;
};

type Shown = ToastMessage & { key: number };
type Toasts = { dismiss: (key: number) => void; show: (message: ToastMessage) => number };

const ToastContext = createContext<Toasts | null>(null);

/** Says in a corner what an action did; read out by screen readers, and never takes the focus. */
export function useToast(): Toasts {
  const toasts = useContext(ToastContext);
  if (toasts === null) throw new Error("useToast needs a ToastProvider around it.");
  return toasts;
}

export function ToastProvider({ children }: { children: ReactNode }) {
  const [shown, setShown] = useState<Shown[]>([]);
  const next = useRef(1);
  const dismiss = useCallback((key: number) => setShown((all) => all.filter((each) => each.key !== key)), []);
  const show = useCallback((message: ToastMessage) => {
    const key = next.current++;
    setShown((all) => [...all, { ...message, key }].slice(-MOST_AT_ONCE));
    return key;
  }, []);
  const toasts = useMemo(() => ({ dismiss, show }), [dismiss, show]);
  return (
    <ToastContext.Provider value={toasts}>
      {children}
      <div
        role="region"
        aria-label="Messages"
        className="pointer-events-none fixed inset-x-3 bottom-3 z-60 flex flex-col items-center gap-2 sm:items-end"
      >
        <div role="status" className="contents">
          {shown.map((each) => (each.tone === "bad" ? null : <Toast key={each.key} message={each} dismiss={dismiss} />))}
        </div>
        <div role="alert" className="contents">
          {shown.map((each) => (each.tone === "bad" ? <Toast key={each.key} message={each} dismiss={dismiss} /> : null))}
        </div>
      </div>
    </ToastContext.Provider>
  );
}

function Toast({ dismiss, message }: { dismiss: (key: number) => void; message: Shown }) {
  const { action, key, text, tone = "good" } = message;
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (held || tone === "bad") return;
    const timer = setTimeout(() => dismiss(key), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [dismiss, held, key, tone]);
  const Icon = tone === "bad" ? CircleAlert : CircleCheck;
  return (
    <div
      className="pointer-events-auto flex w-full max-w-md items-center gap-2 rounded-lg bg-ti-surface py-1.5 pr-1.5 pl-3 text-ti-ink shadow-ti-pop"
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      <Icon aria-hidden className={classes("size-4 shrink-0", tone === "bad" ? "text-ti-bad" : "text-ti-good")} />
      <span className="min-w-0 flex-1 [overflow-wrap:anywhere]">{text}</span>
      {action === undefined ? null : (
        <Button
          look="quiet"
          size="sm"
          className="text-ti-accent"
          onClick={() => {
            action.run();
            dismiss(key);
          }}
        >
          {action.name}
        </Button>
      )}
      <Button look="quiet" size="icon" aria-label="Close message" onClick={() => dismiss(key)}>
        <X aria-hidden className="size-4" />
      </Button>
    </div>
  );
}
