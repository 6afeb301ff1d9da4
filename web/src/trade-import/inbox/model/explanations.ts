// What marks on a row mean and what to do about them.
import type { InboxRow } from "../../api";

type Tone = "bad" | "plain" | "warn";
export type Explanation = { name: string; says: string; tone: Tone };

type Flag = InboxRow["flags"][number];
type ExecutionFlag = InboxRow["executionFlags"][number];

const FLAGS: Record<Flag, Explanation> = {
  changed_by_broker: {
    name: "changed",
    says: "The broker corrected this execution. The figures are the new ones; what you decided stays. Compare below, then mark it as seen.",
    tone: "warn",
  },
  direction_guessed: {
    name: "direction?",
    says: "The broker does not say whether this opens or closes, and nothing before it tells. Check the direction and turn it if it is wrong.",
    tone: "warn",
  },
  liquidation: { name: "liquidation", says: "The broker closed this position by force.", tone: "bad" },
  margin: { name: "margin", says: "Traded on margin.", tone: "plain" },
  opening_lot_unknown: {
    name: "opening?",
    says: "This closes something whose purchase is not known here, so its proceeds count as no profit. Import the earlier history and it heals by itself.",
    tone: "warn",
  },
  tokenized: { name: "token", says: "A token that stands for a share. It is not the share itself.", tone: "plain" },
  voided_by_broker: {
    name: "cancelled",
    says: "The broker cancelled this execution. It counts in no figure. Mark it as seen and it leaves the journal.",
    tone: "bad",
  },
};

/** Those that are flags of the row as well are told by it. */
const EXECUTION_FLAGS: Record<ExecutionFlag, Explanation | null> = {
  ambiguous_time: {
    name: "hour?",
    says: "It happened in the hour that the clock showed twice. The first of the two was taken.",
    tone: "warn",
  },
  liquidation: null,
  margin: null,
  no_time_of_day: { name: "time?", says: "The report gives the day but not the time.", tone: "warn" },
  position_close: null,
  position_open: null,
  unresolved_symbol: { name: "symbol?", says: "The broker's list does not know this symbol, so it is shown as the broker wrote it.", tone: "warn" },
};

/** The most urgent first. */
export function explanationsOf(row: Pick<InboxRow, "executionFlags" | "flags">): Explanation[] {
  const all = [...row.flags.map((flag) => FLAGS[flag]), ...row.executionFlags.flatMap((flag) => EXECUTION_FLAGS[flag] ?? [])];
  const order: Record<Tone, number> = { bad: 0, warn: 1, plain: 2 };
  return all.sort((a, b) => order[a.tone] - order[b.tone]);
}

/** Has the broker said something that waits to be seen? */
export function isNews({ flags }: Pick<InboxRow, "flags">): boolean {
  return flags.includes("changed_by_broker") || flags.includes("voided_by_broker");
}

export const SOURCES: Record<InboxRow["source"], string> = {
  ibkr_flex_activity: "activity statement",
  ibkr_flex_confirm: "trade confirmation",
  ibkr_live: "live API",
  kraken_trades: "trades history",
};

export const PROVIDER_NAMES: Record<InboxRow["provider"], string> = { ibkr: "Interactive Brokers", kraken: "Kraken" };

/** Where there is little room. */
export const SHORT_NAMES: Record<InboxRow["provider"], string> = { ibkr: "IBKR", kraken: "Kraken" };
