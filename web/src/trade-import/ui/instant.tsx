"use client";

import { moment, relative, utc } from "../format/instant";
import { useNow } from "../hooks/use-now";
import { useZone } from "../hooks/use-zone";

/** `2026-11-23 07:04:12` in the reader's zone, UTC on hover. */
export function Instant({ at, className }: { at: number; className?: string }) {
  const zone = useZone();
  return (
    <time dateTime={new Date(at).toISOString()} title={utc(at)} className={className}>
      {moment(at, zone)}
    </time>
  );
}

/** `3 minutes ago`, both zones on hover. */
export function Ago({ at, className }: { at: number; className?: string }) {
  const zone = useZone();
  const now = useNow();
  return (
    <time dateTime={new Date(at).toISOString()} title={`${moment(at, zone)} ${zone} · ${utc(at)}`} className={className}>
      {relative(at, now)}
    </time>
  );
}
