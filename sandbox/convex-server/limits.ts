// Limits that the real backend enforces on values (reference convex 5.1) and convex-test does not.
import { getConvexSize, getDocumentSize, type Value } from "convex/values";
import { mismatch, type ValidatorJson } from "./validate";

const MIB = 1024 * 1024;
export const MAX_BODY_BYTES = 16 * MIB + 2_000;
const MAX_ARGUMENT_BYTES = 16 * MIB;
const MAX_DOCUMENT_BYTES = MIB;
const MAX_ARRAY_LENGTH = 8_192;
const MAX_OBJECT_FIELDS = 1_024;
const MAX_DOCUMENT_NESTING = 16;
const MAX_ARGUMENT_NESTING = 64;
const MAX_FIELD_NAME = 1_024;
const MAX_TOP_FIELD_NAME = 64;

/** Throws with the sentence a developer would read; `convex-test` turns it into the function's failure. */
export function checkDocument(
  document: Record<string, Value>,
  table: { documentType?: ValidatorJson } | undefined,
): void {
  if (table?.documentType !== undefined) {
    const problem = mismatch(table.documentType, document);
    if (problem !== null) {
      throw new Error(`Failed to insert or update a document because it does not match the schema: ${problem}`);
    }
  }
  for (const name of Object.keys(document)) {
    if (name.length > MAX_TOP_FIELD_NAME) {
      throw new Error(`Field name '${name}' is too long (${size(name.length, MAX_TOP_FIELD_NAME, "characters")})`);
    }
  }
  checkShape(document, MAX_DOCUMENT_NESTING);
  const bytes = getDocumentSize(document);
  if (bytes > MAX_DOCUMENT_BYTES) throw new Error(`Value is too large (${size(bytes, MAX_DOCUMENT_BYTES, "bytes")})`);
}

export function checkArguments(args: Record<string, Value>): void {
  checkShape(args, MAX_ARGUMENT_NESTING);
  const bytes = getConvexSize(args);
  if (bytes > MAX_ARGUMENT_BYTES) {
    throw new Error(`Function arguments are too large (${size(bytes, MAX_ARGUMENT_BYTES, "bytes")})`);
  }
}

export function checkReturnValue(value: Value): void {
  checkShape(value, MAX_ARGUMENT_NESTING);
  const bytes = getConvexSize(value);
  if (bytes > MAX_ARGUMENT_BYTES) {
    throw new Error(`Function return value is too large (${size(bytes, MAX_ARGUMENT_BYTES, "bytes")})`);
  }
}

function checkShape(value: Value | undefined, nestingLeft: number): void {
  if (typeof value !== "object" || value === null || value instanceof ArrayBuffer) return;
  if (nestingLeft === 0) throw new Error("Value is too nested");
  if (Array.isArray(value)) {
    if (value.length > MAX_ARRAY_LENGTH) {
      throw new Error(`Array length is too long (${size(value.length, MAX_ARRAY_LENGTH, "elements")})`);
    }
    for (const element of value) checkShape(element, nestingLeft - 1);
    return;
  }
  const fields = Object.entries(value as Record<string, Value | undefined>);
  if (fields.length > MAX_OBJECT_FIELDS) {
    throw new Error(`Object has too many fields (${size(fields.length, MAX_OBJECT_FIELDS, "fields")})`);
  }
  for (const [name, field] of fields) {
    if (name.length > MAX_FIELD_NAME) throw new Error(`Field name '${name.slice(0, 64)}…' is too long`);
    checkShape(field, nestingLeft - 1);
  }
}

function size(actual: number, maximum: number, unit: string): string {
  return `${String(actual)} ${unit} > maximum ${String(maximum)} ${unit}`;
}

