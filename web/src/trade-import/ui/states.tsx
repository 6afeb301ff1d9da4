"use client";

import type { LucideIcon } from "lucide-react";
import type { ReactNode } from "react";
import { classes } from "./classes";

/** Nothing to show, on purpose: what that means and what comes next. */
export function EmptyState({ children, icon: Icon, title }: { children?: ReactNode; icon: LucideIcon; title: string }) {
  return (
    <div className="flex flex-col items-center gap-2 px-6 py-16 text-center">
      <Icon aria-hidden className="mb-1 size-7 text-ti-muted" strokeWidth={1.5} />
      <h2 className="text-base font-semibold">{title}</h2>
      <div className="max-w-md text-ti-muted">{children}</div>
    </div>
  );
}

/** Rows to come, in their later size, so that nothing jumps. */
export function LoadingRows({ className, count = 6, label }: { className?: string; count?: number; label: string }) {
  return (
    <div role="status" aria-label={label} className="divide-y divide-ti-line">
      {Array.from({ length: count }, (_, index) => (
        <div key={index} className={classes("flex items-center gap-4 px-4 py-3", className)}>
          <span className="h-3 w-16 rounded bg-ti-hover" />
          <span className="h-3 flex-1 rounded bg-ti-hover" style={{ maxWidth: `${40 - (index % 3) * 8}%` }} />
          <span className="h-3 w-24 rounded bg-ti-hover" />
        </div>
      ))}
    </div>
  );
}
