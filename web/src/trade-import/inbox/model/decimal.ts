// Exact arithmetic on the decimal strings that the import delivers. Nothing here passes through a float.

type Decimal = { digits: bigint; scale: number };

/** Longer texts are no figures of any market. */
const MAX_LENGTH = 60;

function parse(text: string): Decimal | null {
  if (text.length > MAX_LENGTH) return null;
  const [, sign = "", whole = "", fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text) ?? [];
  if (whole === "") return null;
  const digits = BigInt(whole + fraction);
  return { digits: sign === "-" ? -digits : digits, scale: fraction.length };
}

function print({ digits, scale }: Decimal): string {
  const negative = digits < 0n;
  const text = (negative ? -digits : digits).toString().padStart(scale + 1, "0");
  const whole = text.slice(0, text.length - scale);
  const fraction = text.slice(text.length - scale).replace(/0+$/, "");
  return `${negative ? "-" : ""}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}

function add(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  const at = (each: Decimal) => each.digits * 10n ** BigInt(scale - each.scale);
  return { digits: at(a) + at(b), scale };
}

function multiply(a: Decimal, b: Decimal): Decimal {
  return { digits: a.digits * b.digits, scale: a.scale + b.scale };
}

/** Rounded half away from zero. */
function divide(a: Decimal, b: Decimal, scale: number): Decimal {
  const shift = scale + b.scale - a.scale;
  const dividend = shift < 0 ? a.digits : a.digits * 10n ** BigInt(shift);
  const divisor = shift < 0 ? b.digits * 10n ** BigInt(-shift) : b.digits;
  const size = (value: bigint) => (value < 0n ? -value : value);
  const quotient = (size(dividend) * 2n + size(divisor)) / (size(divisor) * 2n);
  return { digits: dividend < 0n === divisor < 0n ? quotient : -quotient, scale };
}

const ZERO: Decimal = { digits: 0n, scale: 0 };

/** Null where one of them is no figure. */
export function sum(texts: readonly string[]): string | null {
  let total = ZERO;
  for (const text of texts) {
    const value = parse(text);
    if (value === null) return null;
    total = add(total, value);
  }
  return print(total);
}

export type Average = { isRounded: boolean; text: string };

/** The price of several fills together, by quantity; with two digits more than the finest price has. */
export function averagePrice(fills: ReadonlyArray<{ price: string; quantity: string }>): Average | null {
  let value = ZERO;
  let quantity = ZERO;
  let scale = 0;
  for (const fill of fills) {
    const price = parse(fill.price);
    const size = parse(fill.quantity);
    if (price === null || size === null) return null;
    value = add(value, multiply(price, size));
    quantity = add(quantity, size);
    scale = Math.max(scale, price.scale);
  }
  if (quantity.digits === 0n) return null;
  const average = divide(value, quantity, scale + 2);
  const back = multiply(average, quantity);
  const isRounded = add(back, { ...value, digits: -value.digits }).digits !== 0n;
  return { isRounded, text: print(average) };
}

/** With thousands set apart, every digit kept. What is no figure stays as it is. */
export function grouped(text: string): string {
  if (parse(text) === null) return text;
  const [whole = "", fraction] = text.split(".");
  const parted = whole.replace(/\B(?=(?:\d{3})+$)/g, ",");
  return fraction === undefined ? parted : `${parted}.${fraction}`;
}

/** For a narrow column: without the zeros at the end that come after two decimals. The value is the same. */
export function short(text: string): string {
  return parse(text) === null ? text : grouped(text.replace(/(\.\d\d\d*?)0+$/, "$1"));
}
