// One database index: documents in the order of its fields, found by binary search.
import { compareValues, type Value } from "convex/values";

export type Document = Record<string, Value> & { _id: string; _creationTime: number };
export type Key = readonly (Value | undefined)[];

/** One end of a range: a key prefix, and whether keys that start with it belong to the range. */
export interface Bound {
  readonly prefix: Key;
  readonly inclusive: boolean;
}

export interface Range {
  readonly lower: Bound;
  readonly upper: Bound;
}

export const EVERYTHING: Range = {
  lower: { prefix: [], inclusive: true },
  upper: { prefix: [], inclusive: true },
};

/** Negative, zero or positive as `key`, cut to the length of `prefix`, sorts before, with or after it. */
export function comparePrefix(key: Key, prefix: Key): number {
  for (const [i, bound] of prefix.entries()) {
    const order = compareValues(key[i], bound);
    if (order !== 0) return order;
  }
  return 0;
}

export function isWithin(key: Key, { lower, upper }: Range): boolean {
  const low = comparePrefix(key, lower.prefix);
  const high = comparePrefix(key, upper.prefix);
  return (low > 0 || (low === 0 && lower.inclusive)) && (high < 0 || (high === 0 && upper.inclusive));
}

export class SortedIndex {
  private readonly entries: { readonly key: Key; readonly document: Document }[];

  /** `keyOf` must end with `_id`, so that no two documents have equal keys. */
  constructor(
    readonly keyOf: (document: Document) => Key,
    documents: Iterable<Document>,
  ) {
    this.entries = Array.from(documents, (document) => ({ key: keyOf(document), document }));
    this.entries.sort((a, b) => comparePrefix(a.key, b.key));
  }

  add(document: Document): void {
    const key = this.keyOf(document);
    this.entries.splice(
      this.firstAt((other) => comparePrefix(other, key) > 0),
      0,
      { key, document },
    );
  }

  remove(document: Document): void {
    const key = this.keyOf(document);
    this.entries.splice(
      this.firstAt((other) => comparePrefix(other, key) >= 0),
      1,
    );
  }

  *documents({ lower, upper }: Range, order: "asc" | "desc"): Generator<Document> {
    const start = this.firstAt((key) => {
      const side = comparePrefix(key, lower.prefix);
      return lower.inclusive ? side >= 0 : side > 0;
    });
    const end = this.firstAt((key) => {
      const side = comparePrefix(key, upper.prefix);
      return upper.inclusive ? side > 0 : side >= 0;
    });
    for (let i = 0; i < end - start; i++) {
      const entry = this.entries[order === "asc" ? start + i : end - 1 - i];
      if (entry !== undefined) yield entry.document;
    }
  }

  /** The first position whose key satisfies `reached`, which must be false up to some key and true from there on. */
  private firstAt(reached: (key: Key) => boolean): number {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.entries[middle];
      if (entry !== undefined && reached(entry.key)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
