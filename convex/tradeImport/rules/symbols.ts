// One instrument, many spellings: `btcusd`, `BTC-USD`, `XBT/USD` and a plain `BTC` in a plan all mean the
// ticker `BTC/USD`; `BRK B` means `BRK.B`.

const ALIASES: Readonly<Record<string, string>> = { XBT: "BTC", XDG: "DOGE" };

/** Longest first, so that `BTCUSDT` is not read as `BTCUS` in `DT`. */
const QUOTES = ["FDUSD", "PYUSD", "USDC", "USDT", "AUD", "BTC", "CAD", "CHF", "DAI", "ETH", "EUR", "GBP", "JPY", "USD", "XBT"];

const alias = (asset: string) => ALIASES[asset] ?? asset;

function upper(text: string): string {
  return text.trim().toUpperCase().replace(/\s+/g, " ");
}

/** The spelling that trades carry: the P&L key of the app is case-sensitive. */
export function tickerOf(symbol: string): string {
  const text = upper(symbol);
  const [base, quote, ...rest] = text.split(/[/\-_ ]/);
  if (base !== "" && quote !== undefined && quote !== "" && rest.length === 0) {
    if (QUOTES.includes(quote) || text.includes("/")) {
      return /^[A-Z]$/.test(quote) ? `${base}.${quote}` : `${alias(base)}/${alias(quote)}`;
    }
    if (/^[A-Z]$/.test(quote)) return `${base}.${quote}`;
  }
  return text;
}

/** Does what a plan says its instrument is mean this ticker? */
export function meansTicker(planSymbol: string, ticker: string, assetType: "crypto" | "stock"): boolean {
  const wanted = tickerOf(planSymbol);
  if (wanted === ticker) return true;
  if (assetType === "stock" || wanted.includes("/") || wanted.includes(".")) return false;
  const [base, quote] = ticker.split("/");
  if (quote === undefined) return alias(wanted) === base;
  return alias(wanted) === base || splitPair(wanted) === ticker;
}

/** `XBTUSD` and Kraken's old `XXBTZUSD` as `BTC/USD`; null where no known currency ends the text. */
function splitPair(text: string): string | null {
  const old = /^X([A-Z]{3})[XZ]([A-Z]{3})$/.exec(text);
  if (old !== null) return `${alias(old[1])}/${alias(old[2])}`;
  const quote = QUOTES.find((each) => text.length > each.length && text.endsWith(each));
  return quote === undefined ? null : `${alias(text.slice(0, -quote.length))}/${alias(quote)}`;
}
