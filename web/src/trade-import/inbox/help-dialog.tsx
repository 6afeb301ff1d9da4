"use client";

import { Fragment } from "react";
import { Dialog } from "../ui/dialog";
import { CHAPTERS, keyName } from "./model/commands";

/** All keys, from the table that the key handler reads. */
export function HelpDialog({ onClose, onClosed }: { onClose: () => void; onClosed: () => void }) {
  const isApple = /Mac|iPhone|iPad/.test(navigator.userAgent);
  return (
    <Dialog
      open
      onClosed={onClosed}
      wide
      onOpenChange={(open) => !open && onClose()}
      title="Keys"
      description="They work while the list has the focus. An order line stands for all its fills; with rows selected, keys are about those."
    >
      <div className="gap-8 sm:columns-2">
        {CHAPTERS.map(({ bindings, name }) => (
          <section key={name} className="mb-4 break-inside-avoid">
            <h3 className="mb-1 text-xs font-semibold tracking-wide text-ti-muted uppercase">{name}</h3>
            <dl className="divide-y divide-ti-line">
              {bindings.map(({ command, keys, says }) => (
                <div key={command} className="flex items-baseline gap-3 py-1">
                  <dt className="w-32 shrink-0">
                    {keys.map((key, index) => (
                      <Fragment key={key}>
                        {index === 0 ? null : <span className="px-1 text-xs text-ti-muted">or</span>}
                        {keyName(key, isApple).map((part) => (
                          <kbd key={part} className="mr-0.5 inline-block min-w-5 rounded border border-ti-line bg-ti-sunken px-1 text-center font-sans text-xs">
                            {part}
                          </kbd>
                        ))}
                      </Fragment>
                    ))}
                  </dt>
                  <dd className="min-w-0 flex-1">{says}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
