"use client";

import { useState } from "react";
import { clipped, visible } from "../format/foreign";
import { payload } from "../format/payload";

/** A broker's row as it came, behind a line that opens it. */
export function Payload({ name, text }: { name: string; text: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="mt-1" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="ti-focus w-fit max-w-full cursor-pointer rounded text-[0.8125rem] text-ti-muted">
        As the broker sent it<span className="sr-only">: {clipped(visible(name), 60).text}</span>
      </summary>
      {open ? (
        // Scrolls sideways, so it takes the keyboard.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <pre tabIndex={0} role="region" aria-label="Payload" dir="ltr" className="ti-focus-inset mt-1 max-h-72 overflow-auto rounded-md bg-ti-sunken px-3 py-2 text-xs">
          {payload(text)}
        </pre>
      ) : null}
    </details>
  );
}
