"use client";

/** The zone of the person who looks. */
export function useZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}
