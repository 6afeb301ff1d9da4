import type { ReactNode } from "react";
import { classes } from "./classes";

const TONES = {
  accent: "bg-ti-accent-soft text-ti-accent",
  bad: "bg-ti-bad-soft text-ti-bad",
  good: "bg-ti-good-soft text-ti-good",
  plain: "bg-ti-hover text-ti-muted",
  warn: "bg-ti-warn-soft text-ti-warn",
} as const;

export type Tone = keyof typeof TONES;

export function Badge({ children, tone = "plain" }: { children: ReactNode; tone?: Tone }) {
  return (
    <span className={classes("inline-flex items-center gap-1 rounded px-1.5 py-0.5 text-xs font-medium whitespace-nowrap", TONES[tone])}>
      {children}
    </span>
  );
}
