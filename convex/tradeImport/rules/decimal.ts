// Amounts travel as text, exact to the last digit (DESIGN section 2, promise 4). Only the journal's own
// fields are float64, because the app computes with numbers.

const PLAIN = /^-?(0|[1-9]\d*)(\.\d+)?$/;

/** A share of an amount is cut off here; what is left belongs to the last share. */
const SHARE_PLACES = 18;

/** A plain decimal that fits a float64: no exponent, no sign but `-`, no NaN. */
export function isDecimal(text: string): boolean {
  return PLAIN.test(text) && Number.isFinite(Number(text));
}

export function isPositive(text: string): boolean {
  return isDecimal(text) && !text.startsWith("-") && /[1-9]/.test(text);
}

/** What a number of the journal says, as its shortest text: 0.1 is `0.1`, not the float64 next to it. */
export function decimalOf(value: number): string {
  const [, sign = "", whole = "0", part = "", exponent = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
  const scale = part.length - Number(exponent);
  const units = BigInt(sign + whole + part);
  return scale < 0 ? textOf({ scale: 0, units: units * ten(-scale) }) : textOf({ scale, units });
}

export function plus(a: string, b: string): string {
  return combined(a, b, (first, second) => first + second);
}

export function minus(a: string, b: string): string {
  return combined(a, b, (first, second) => first - second);
}

/** Negative, zero or positive, as `a` is less than, equal to or more than `b`. */
export function compare(a: string, b: string): number {
  const difference = minus(a, b);
  return difference === "0" ? 0 : difference.startsWith("-") ? -1 : 1;
}

export function least(a: string, b: string): string {
  return compare(a, b) < 0 ? a : b;
}

/** `amount` divided in proportion to `parts`, which add up to more than nothing; the shares add up to `amount`. */
export function shares(amount: string, parts: ReadonlyArray<string>): string[] {
  const whole = parts.reduce(plus, "0");
  let left = amount;
  return parts.map((part, index) => {
    const share = index === parts.length - 1 ? left : portion(amount, part, whole);
    left = minus(left, share);
    return share;
  });
}

function portion(amount: string, part: string, whole: string): string {
  const [a, p, w] = [exactOf(amount), exactOf(part), exactOf(whole)];
  const units = (a.units * p.units * ten(SHARE_PLACES + w.scale)) / (w.units * ten(a.scale + p.scale));
  return textOf({ scale: SHARE_PLACES, units });
}

/** `units` divided by ten to the power of `scale`. */
type Exact = { scale: number; units: bigint };

function exactOf(text: string): Exact {
  const point = text.indexOf(".");
  return { scale: point < 0 ? 0 : text.length - point - 1, units: BigInt(text.replace(".", "")) };
}

function textOf({ scale, units }: Exact): string {
  const digits = String(units < 0 ? -units : units).padStart(scale + 1, "0");
  const whole = digits.slice(0, digits.length - scale);
  const part = digits.slice(digits.length - scale).replace(/0+$/, "");
  return `${units < 0 ? "-" : ""}${whole}${part === "" ? "" : `.${part}`}`;
}

function combined(a: string, b: string, by: (first: bigint, second: bigint) => bigint): string {
  const [first, second] = [exactOf(a), exactOf(b)];
  const scale = Math.max(first.scale, second.scale);
  const units = by(first.units * ten(scale - first.scale), second.units * ten(scale - second.scale));
  return textOf({ scale, units });
}

function ten(power: number): bigint {
  return BigInt(10) ** BigInt(power);
}
