"use client";

import { useSyncExternalStore } from "react";

const STEP_MS = 5_000;

/** The present, to five seconds; all users of it tick together. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, current, current);
}

function current(): number {
  return Math.floor(Date.now() / STEP_MS) * STEP_MS;
}

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => listeners.forEach((each) => each()), STEP_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}
