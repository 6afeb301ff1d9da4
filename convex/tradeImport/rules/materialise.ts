// Which executions become trades of the journal, and what they look like there.
import type { AssetClass, Execution, HeldReason, ImportFlag, Side } from "../validators";
import { shares } from "./decimal";
import type { Leg } from "./direction";
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
  /** 1 or 2 where the execution became two trades. */
  leg: number | undefined;
  price: number;
  quantity: number;
  side: "buy" | "sell";
  source: "ibkr" | "kraken";
  ticker: string;
};

/** Where an execution belongs in the journal. */
export type Place = { assetType: "crypto" | "stock"; side: Side; ticker: string };

export type Materialised = { heldReason: HeldReason; place: null } | { place: Place };

export function materialise(execution: Execution): Materialised {
  const { side } = execution;
  if (execution.kind === "cancel") return { heldReason: "original_not_seen", place: null };
  if (execution.kind !== "fill" || side === undefined) return { heldReason: "kind_not_supported", place: null };
  const assetType = ASSET_TYPES[execution.assetClass];
  if (assetType === undefined) return { heldReason: "asset_class_not_supported", place: null };
  return { place: { assetType, side, ticker: tickerOf(execution.symbol) } };
}

/** One trade a leg. The legs' fees add up to the execution's. */
export function tradesOf(execution: Execution, { assetType, ticker }: Place, legs: ReadonlyArray<Leg>): TradeFacts[] {
  const fees = shares(
    execution.fee,
    legs.map(({ quantity }) => quantity),
  );
  return legs.map((leg, index) => ({
    assetType,
    brokerAccountRef: execution.accountRef,
    currency: execution.currency,
    date: execution.occurredAt,
    direction: leg.direction,
    externalExecutionId: execution.externalExecutionId,
    externalOrderId: execution.externalOrderId,
    fee: Number(fees[index]),
    feeCurrency: execution.feeCurrency,
    importFlags: [...leg.flags, ...flagsOf(execution)],
    leg: legs.length === 1 ? undefined : index + 1,
    price: Number(execution.price),
    quantity: Number(leg.quantity),
    side: leg.side,
    source: execution.provider,
    ticker,
  }));
}

function flagsOf(execution: Execution): ImportFlag[] {
  const flags: ImportFlag[] = [];
  if (execution.flags.includes("margin")) flags.push("margin");
  if (execution.flags.includes("liquidation")) flags.push("liquidation");
  if (execution.assetClass === "tokenized") flags.push("tokenized");
  return flags;
}
