// Trades that somebody typed and that the import has now brought as well.
import { meansTicker } from "./symbols";

type Trade = {
  assetType: "crypto" | "stock";
  date: number;
  price: number;
  quantity: number;
  side: "buy" | "sell";
  ticker: string;
};

export const DAY_MS = 86_400_000;

/** People round prices, and average those of several fills. */
const PRICE_TOLERANCE = 0.005;

/** Floats of one decimal number differ by less. */
const DUST = 1e-9;

/** The UTC day of an instant, as a number. */
export function dayOf(instant: number): number {
  return Math.floor(instant / DAY_MS);
}

/**
 * Is `typed` likely the same trade as `imported`? Same instrument, side and quantity, a price within half a percent,
 * and days that differ by one at most: a trade may be typed with its local day alone, and one local day has moments
 * on two UTC days. The direction is no evidence: it is what either of the two may have got wrong.
 */
export function isTwin(imported: Trade, typed: Trade): boolean {
  return (
    imported.assetType === typed.assetType &&
    imported.side === typed.side &&
    Math.abs(dayOf(imported.date) - dayOf(typed.date)) <= 1 &&
    Math.abs(imported.quantity - typed.quantity) <= DUST &&
    Math.abs(imported.price - typed.price) <= imported.price * PRICE_TOLERANCE &&
    meansTicker(typed.ticker, imported.ticker, imported.assetType)
  );
}
