"use client";

import type { Connection, Id } from "../api";
import { Command } from "../ui/command";
import { Dialog } from "../ui/dialog";
import { Instant } from "../ui/instant";
import { FlexBoxes, FlexFormats } from "./how-to";

type Dialogue = { onOpenChange: (open: boolean) => void; open: boolean };

/** How a time that no live source remembers is filled from a statement. */
export function StatementDialog({ connection, onOpenChange, open }: Dialogue & { connection: Connection }) {
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title="Close the gap with a statement"
      description="If you did not trade in these times, nothing is missing and there is nothing to do."
      wide
    >
      {connection.gaps.length === 0 ? null : (
        <ul className="mb-3 space-y-0.5 tabular-nums">
          {connection.gaps.map((gap) => (
            <li key={gap.start}>
              <Instant at={gap.start} /> to <Instant at={gap.end} />
            </li>
          ))}
        </ul>
      )}
      <ol className="list-decimal space-y-2 pl-5 marker:text-ti-muted">
        <li>
          Best, and once for all: connect <b>Flex reports</b> of the same account. They fill this gap and every later one by themselves.
        </li>
        <li>
          Or in Client Portal run your Flex query for these days, save the XML file, and on the worker&apos;s machine run
          <ImportCommand connectionId={connection.connectionId} />
          The same file twice changes nothing.
        </li>
      </ol>
    </Dialog>
  );
}

export function ImportCommand({ connectionId }: { connectionId: Id<"brokerageConnections"> }) {
  return <Command text={`trade-sync import-flex FILE.xml --connection ${connectionId}`} />;
}

/** What a Flex query must have ticked. */
export function CheckQueryDialog({ onOpenChange, open }: Dialogue) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="What the Flex query needs" wide>
      <div className="space-y-3">
        <p>
          Section <b>Trades</b> with the option <b>Executions</b> (an Activity query), or a Trade Confirmation query, for every account
          that is connected.
        </p>
        <FlexBoxes />
        <FlexFormats />
        <p>For a statement you saved, this names what is missing in its query and what that costs:</p>
        <Command text="trade-sync check-flex FILE.xml" />
        <p className="text-ti-muted">IBKR needs a few minutes before a changed query is used.</p>
      </div>
    </Dialog>
  );
}
