// Amounts travel as text, exact to the last digit (DESIGN section 2, promise 4). Only the journal's own
// fields are float64, because the app computes with numbers.

const PLAIN = /^-?(0|[1-9]\d*)(\.\d+)?$/;

/** A plain decimal that fits a float64: no exponent, no sign but `-`, no NaN. */
export function isDecimal(text: string): boolean {
  return PLAIN.test(text) && Number.isFinite(Number(text));
}

export function isPositive(text: string): boolean {
  return isDecimal(text) && !text.startsWith("-") && /[1-9]/.test(text);
}
