// How values are written on the wire.
import { convexToJson, type JSONValue, type Value } from "convex/values";

export type Format = "json" | "convex_encoded_json";

export function parseFormat(format: unknown): Format | null {
  switch (format) {
    case undefined:
    case null:
    case "convex_encoded_json":
      return "convex_encoded_json";
    case "json":
    case "convex_clean_json":
      return "json";
    default:
      return null;
  }
}

/**
 * JSON text in which every number is a float (`1.0`): Python's HTTP client refuses a bare `1`
 * (reference convex section 2), and JSON.stringify writes nothing else.
 */
export function writeFloats(json: JSONValue): string {
  if (typeof json === "number") {
    const text = String(json);
    return /^-?\d+$/.test(text) ? `${text}.0` : text;
  }
  if (Array.isArray(json)) return `[${json.map(writeFloats).join(",")}]`;
  if (typeof json === "object" && json !== null) {
    const fields = Object.entries(json).map(([name, field]) => `${JSON.stringify(name)}:${writeFloats(field)}`);
    return `{${fields.join(",")}}`;
  }
  return JSON.stringify(json);
}

export function encode(value: Value, format: Format): JSONValue {
  return format === "json" ? cleanJson(value) : convexToJson(value);
}

/** The documented format "json": no `$` wrappers, so integers and bytes become strings. */
function cleanJson(value: Value): JSONValue {
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (value instanceof ArrayBuffer) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map((element) => cleanJson(element));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).flatMap(([name, field]) =>
        field === undefined ? [] : [[name, cleanJson(field as Value)] as const],
      ),
    );
  }
  return value;
}

/** Timestamps on the socket: base64 of 8 bytes, little-endian. */
export function encodeTs(ts: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(ts);
  return bytes.toString("base64");
}

export function decodeTs(encoded: string): bigint {
  const bytes = Buffer.from(encoded, "base64");
  return bytes.length === 8 ? bytes.readBigUInt64LE() : 0n;
}
