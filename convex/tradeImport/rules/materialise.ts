// Which executions become trades of the journal, and what they look like there.
import type { AssetClass, Execution, HeldReason, ImportFlag } from "../validators";
import { tickerOf } from "./symbols";

/** The asset classes the journal has a place for. All others are held until it does. */
const ASSET_TYPES: Readonly<Partial<Record<AssetClass, "crypto" | "stock">>> = {
  crypto: "crypto",
  fund: "stock",
  stock: "stock",
  // Tokens that follow a share, traded and held like coins (reference kraken 4.4).
  tokenized: "crypto",
};

/** What the broker knows of a trade. Everything else in the row is the user's. */
export type TradeFacts = {
  assetType: "crypto" | "stock";
  brokerAccountRef: string;
  currency: string | undefined;
  date: number;
  direction: "long" | "short";
  externalExecutionId: string | undefined;
  externalOrderId: string | undefined;
  fee: number;
  feeCurrency: string | undefined;
  importFlags: ImportFlag[];
  price: number;
  quantity: number;
  side: "buy" | "sell";
  source: "ibkr" | "kraken";
  ticker: string;
};

export type Materialised = { heldReason: HeldReason; trades: null } | { trades: TradeFacts[] };

export function materialise(execution: Execution): Materialised {
  const { side } = execution;
  if (execution.kind === "cancel") return { heldReason: "original_not_seen", trades: null };
  if (execution.kind !== "fill" || side === undefined) return { heldReason: "kind_not_supported", trades: null };
  const assetType = ASSET_TYPES[execution.assetClass];
  if (assetType === undefined) return { heldReason: "asset_class_not_supported", trades: null };
  return {
    trades: [
      {
        assetType,
        brokerAccountRef: execution.accountRef,
        currency: execution.currency,
        date: execution.occurredAt,
        // A spot fill adds to or takes from a long position.
        direction: "long",
        externalExecutionId: execution.externalExecutionId,
        externalOrderId: execution.externalOrderId,
        fee: Number(execution.fee),
        feeCurrency: execution.feeCurrency,
        importFlags: flagsOf(execution),
        price: Number(execution.price),
        quantity: Number(execution.quantity),
        side,
        source: execution.provider,
        ticker: tickerOf(execution.symbol),
      },
    ],
  };
}

function flagsOf(execution: Execution): ImportFlag[] {
  const flags: ImportFlag[] = [];
  // A live fill does not say whether it opens or closes a position (reference ibkr 2.8).
  if (execution.provider === "ibkr") flags.push("direction_guessed");
  if (execution.flags.includes("margin")) flags.push("margin");
  if (execution.flags.includes("liquidation")) flags.push("liquidation");
  if (execution.assetClass === "tokenized") flags.push("tokenized");
  return flags;
}
