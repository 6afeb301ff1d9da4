// One instrument, many spellings: `btcusd`, `BTC-USD`, `XBT/USD` and a plain `BTC` in a plan all mean the
// ticker `BTC/USD`; `BRK B` means `BRK.B`.

const ALIASES: Readonly<Record<string, string>> = { XBT: "BTC", XDG: "DOGE" };

/** Longest first, so that `BTCUSDT` is not read as `BTCUS` in `DT`. */
const QUOTES = [
  "FDUSD", "PYUSD", "USDC", "USDT", "AUD", "BTC", "CAD", "CHF",
  "DAI", "ETH", "EUR", "GBP", "JPY", "USD", "XBT",
];

const alias = (asset: string) => ALIASES[asset] ?? asset;

function upper(text: string): string {
  return text.trim().toUpperCase().replace(/\s+/g, " ");
}

/** The spelling that trades carry: the P&L key of the app is case-sensitive. */
export function tickerOf(symbol: string): string {
  const text = upper(symbol);
  const parts = /^([^/\-_ ]+)([/\-_ ])([^/\-_ ]+)$/.exec(text);
  if (parts === null) return text;
  const [, base = "", mark, quote = ""] = parts;
  if (/^[A-Z]$/.test(quote)) return `${base}.${quote}`;
  return mark === "/" || QUOTES.includes(quote) ? `${alias(base)}/${alias(quote)}` : text;
}

/** Does what a plan says its instrument is mean this ticker? */
export function meansTicker(planSymbol: string, ticker: string, assetType: "crypto" | "stock"): boolean {
  const wanted = tickerOf(planSymbol);
  if (wanted === ticker) return true;
  // A stock's name may well end in three letters that are also a currency.
  if (assetType === "stock") return false;
  const [base] = ticker.split("/");
  return alias(wanted) === base || splitPair(wanted) === ticker;
}

/** `XBTUSD` and Kraken's old `XXBTZUSD` as `BTC/USD`; null where no known currency ends the text. */
function splitPair(text: string): string | null {
  const [, oldBase, oldQuote] = /^X([A-Z]{3})[XZ]([A-Z]{3})$/.exec(text) ?? [];
  if (oldBase !== undefined && oldQuote !== undefined) return `${alias(oldBase)}/${alias(oldQuote)}`;
  const quote = QUOTES.find((each) => text.length > each.length && text.endsWith(each));
  return quote === undefined ? null : `${alias(text.slice(0, -quote.length))}/${alias(quote)}`;
}
