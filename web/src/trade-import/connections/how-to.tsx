"use client";

import type { ReactNode } from "react";
import type { ConnectionKind } from "../api";

/** What to do at the broker before there is anything to enter here. */
export function HowTo({ kind }: { kind: ConnectionKind }) {
  switch (kind) {
    case "kraken":
      return <KrakenHowTo />;
    case "ibkr_gateway":
      return <GatewayHowTo />;
    case "ibkr_flex":
      return <FlexHowTo />;
    case "ibkr_oauth":
      return <OAuthHowTo />;
  }
}

function Steps({ children }: { children: ReactNode }) {
  return <ol className="list-decimal space-y-1.5 pl-5 marker:text-ti-muted">{children}</ol>;
}

function KrakenHowTo() {
  return (
    <Steps>
      <li>
        On kraken.com open <b>Settings → API → Create API key</b>.
      </li>
      <li>
        Under <i>Orders and trades</i> tick <b>Query closed orders &amp; trades</b>, and <b>nothing else</b>. A key that could trade or
        move money is refused.
      </li>
      <li>Leave the expiry and the query dates empty: a key limited in time shows a history that is cut.</li>
      <li>Make the key for this import alone. Two programs with one key make each other&apos;s calls fail.</li>
      <li>Copy both texts. Kraken shows the private key once.</li>
    </Steps>
  );
}

function GatewayHowTo() {
  return (
    <Steps>
      <li>
        Run IBKR&apos;s <b>Client Portal Gateway</b> on the worker&apos;s machine, and name its address in the worker&apos;s{" "}
        <code className="rounded bg-ti-hover px-1">IBKR_GATEWAYS</code>.
      </li>
      <li>Open that address and log in with your second factor. The session ends about once a day; you are asked to log in again.</li>
      <li>A second username at IBKR, for the import alone, keeps it from getting in the way of TWS and the phone.</li>
      <li>It shows the last seven days. For more, connect Flex reports of the same account as well.</li>
    </Steps>
  );
}

/** The boxes of a Flex query, as the portal names them. Which lie in which query differs by a few. */
export const FLEX_BOXES: readonly string[] = [
  "Account ID", "Symbol", "Buy/Sell", "Quantity", "Trade Price", "Date/Time", "Level of Detail", "IB Execution ID",
  "Transaction ID", "Trade ID", "Orig Transaction ID", "Orig Trade ID", "Transaction Type", "Notes/Codes", "IB Commission",
  "IB Commission Currency", "Currency", "Asset Class", "Conid", "Multiplier", "IB Order ID", "Open/Close Indicator",
];

export function FlexBoxes() {
  return (
    <ul className="mt-1.5 grid grid-cols-2 gap-x-4 gap-y-0.5 text-[0.8125rem] sm:grid-cols-3">
      {FLEX_BOXES.map((box) => (
        <li key={box} className="flex gap-1.5">
          <span aria-hidden className="text-ti-good">
            ✓
          </span>
          {box}
        </li>
      ))}
    </ul>
  );
}

export function FlexFormats() {
  return (
    <p>
      Format <b>XML</b>, date <b>yyyyMMdd</b>, time <b>HHmmss</b>, separator <b>;</b> (semicolon).
    </p>
  );
}

function FlexHowTo() {
  return (
    <Steps>
      <li>
        In Client Portal open <b>Performance &amp; Reports → Flex Queries</b> and create an <b>Activity Flex Query</b> with the section{" "}
        <b>Trades</b>, option <b>Executions</b>, and a <b>Trade Confirmation Flex Query</b>. One of them is enough; both are best.
      </li>
      <li>
        Tick these boxes, or choose <i>Select All</i>:
        <FlexBoxes />
      </li>
      <li>
        <FlexFormats />
      </li>
      <li>
        Under <b>Flex Web Service</b> switch it on and make a token that lasts a year. A new token voids the one before.
      </li>
    </Steps>
  );
}

function OAuthHowTo() {
  return (
    <Steps>
      <li>On IBKR&apos;s OAuth self-service page register a consumer key and upload the public halves of your two keys.</li>
      <li>Wait until IBKR has activated it; new keys work from the next night on.</li>
      <li>Make an access token there. Its secret is shown once.</li>
      <li>
        Keep the three key files with the worker (<code className="rounded bg-ti-hover px-1">IBKR_OAUTH_KEYS</code>); paste them here
        only if it has no such folder.
      </li>
    </Steps>
  );
}
