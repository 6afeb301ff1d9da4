// Validators as the real backend applies them: its sentences, and the contents of records too, which
// convex-test leaves unchecked (reference convex 1.7 and 7.1).
import { convexToJson, jsonToConvex, type JSONValue, type Value } from "convex/values";

interface FieldJson {
  fieldType: ValidatorJson;
  optional: boolean;
}

export type ValidatorJson =
  | { type: "null" | "number" | "bigint" | "boolean" | "string" | "bytes" | "any" | "commitTs" }
  | { type: "literal"; value: JSONValue }
  | { type: "id"; tableName: string }
  | { type: "array"; value: ValidatorJson }
  | { type: "record"; keys: ValidatorJson; values: FieldJson }
  | { type: "object"; value: Record<string, FieldJson> }
  | { type: "union"; value: ValidatorJson[] };

/** Why `value` does not match, as the backend says it; null when it does. */
export function mismatch(validator: ValidatorJson, value: Value | undefined, path = ""): string | null {
  switch (validator.type) {
    case "any":
    case "commitTs":
      return null;
    case "null":
      return value === null ? null : wrong(validator, value, path);
    case "number":
    case "bigint":
    case "boolean":
    case "string":
      return typeof value === validator.type ? null : wrong(validator, value, path);
    case "bytes":
      return value instanceof ArrayBuffer ? null : wrong(validator, value, path);
    case "literal":
      return value === jsonToConvex(validator.value) ? null : wrong(validator, value, path);
    case "id":
      return typeof value === "string" && /^\d+(.+)$/.exec(value)?.[1] === validator.tableName
        ? null
        : wrong(validator, value, path);
    case "array": {
      if (!Array.isArray(value)) return wrong(validator, value, path);
      for (const [i, element] of (value).entries()) {
        const problem = mismatch(validator.value, element, `${path}[${String(i)}]`);
        if (problem !== null) return problem;
      }
      return null;
    }
    case "record": {
      if (!isPlainObject(value)) return wrong(validator, value, path);
      for (const [name, field] of Object.entries(value)) {
        const problem =
          mismatch(validator.keys, name, path) ?? mismatch(validator.values.fieldType, field, `${path}.${name}`);
        if (problem !== null) return problem;
      }
      return null;
    }
    case "object":
      return isPlainObject(value) ? objectMismatch(validator.value, value, path) : wrong(validator, value, path);
    case "union":
      return validator.value.some((member) => mismatch(member, value, path) === null)
        ? null
        : wrong(validator, value, path);
  }
}

function objectMismatch(
  fields: Record<string, FieldJson>,
  value: Record<string, Value | undefined>,
  path: string,
): string | null {
  const about = () => `${path === "" ? "" : `\nPath: ${path}`}\n\nObject: ${show(value)}\nValidator: ${describeFields(fields)}`;
  for (const [name, { fieldType, optional }] of Object.entries(fields)) {
    const field = value[name];
    if (field === undefined) {
      if (optional) continue;
      return (
        `Object is missing the required field \`${name}\`. ` +
        `Consider wrapping the field validator in \`v.optional(...)\` if this is expected.${about()}`
      );
    }
    const problem = mismatch(fieldType, field, `${path}.${name}`);
    if (problem !== null) return problem;
  }
  for (const name of Object.keys(value)) {
    if (value[name] !== undefined && !Object.hasOwn(fields, name)) {
      return `Object contains extra field \`${name}\` that is not in the validator.${about()}`;
    }
  }
  return null;
}

function wrong(validator: ValidatorJson, value: Value | undefined, path: string): string {
  return (
    "Value does not match validator." +
    `${path === "" ? "" : `\nPath: ${path}`}\nValue: ${show(value)}\nValidator: ${describe(validator)}`
  );
}

function isPlainObject(value: unknown): value is Record<string, Value | undefined> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof ArrayBuffer);
}

function show(value: Value | undefined): string {
  if (value === undefined) return "undefined";
  try {
    return JSON.stringify(convexToJson(value));
  } catch {
    return typeof value;
  }
}

function describe(validator: ValidatorJson): string {
  switch (validator.type) {
    case "literal":
      return `v.literal(${JSON.stringify(validator.value)})`;
    case "id":
      return `v.id("${validator.tableName}")`;
    case "array":
      return `v.array(${describe(validator.value)})`;
    case "record":
      return `v.record(${describe(validator.keys)}, ${describe(validator.values.fieldType)})`;
    case "object":
      return describeFields(validator.value);
    case "union":
      return `v.union(${validator.value.map(describe).join(", ")})`;
    case "number":
      return "v.float64()";
    case "bigint":
      return "v.int64()";
    default:
      return `v.${validator.type}()`;
  }
}

function describeFields(fields: Record<string, FieldJson>): string {
  const parts = Object.entries(fields).map(
    ([name, { fieldType, optional }]) =>
      `${name}: ${optional ? `v.optional(${describe(fieldType)})` : describe(fieldType)}`,
  );
  return `v.object({${parts.join(", ")}})`;
}
