import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  loadFast,
  loadPlain,
  type Database,
  type Internals,
  type Query,
} from "../../sandbox/convex-server/fast-convex-test";
import type { Document } from "../../sandbox/convex-server/sorted-index";
import schema from "./fixture-convex/schema";

/** Numbers from a seed, so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Step = (db: Database) => unknown;

/** A random life of a database: nested transactions, writes of every kind, queries of every kind. */
class Life {
  private readonly ids: string[] = [];
  private depth = 0;
  private readonly cursors = new Map<string, string>();

  constructor(
    private readonly pick: (below: number) => number,
    private readonly apply: (step: Step) => unknown,
  ) {}

  step(): void {
    const { pick } = this;
    if (this.depth === 0) {
      this.begin();
      return;
    }
    switch (pick(16)) {
      case 0:
        if (this.depth < 3) this.begin();
        return;
      case 1:
      case 2:
        this.depth -= 1;
        this.apply((db) => {
          db.commit(this.depth === 0 ? 1n : null);
        });
        return;
      case 3:
        this.depth -= 1;
        this.apply((db) => {
          db.rollbackWrites();
        });
        return;
      case 4:
      case 5:
      case 6:
      case 7: {
        const value = this.note();
        const id = this.apply((db) => db.insert("notes", { ...value }));
        this.ids.push(id as string);
        return;
      }
      case 8: {
        const [id, rank] = [this.someId(), this.rank()];
        this.apply((db) => {
          db.patch("notes", id, { rank: rank === undefined ? { $undefined: null } : rank });
        });
        return;
      }
      case 9: {
        const [id, value] = [this.someId(), this.note()];
        this.apply((db) => {
          db.replace("notes", id, { ...value });
        });
        return;
      }
      case 10: {
        const id = this.someId();
        this.apply((db) => {
          db.delete("notes", id);
        });
        return;
      }
      case 11: {
        const query = this.query();
        this.apply((db) => {
          const stashed = db.stashWrites();
          const results = all(db, query);
          db.restoreWrites(stashed);
          return results;
        });
        return;
      }
      case 12:
      case 13: {
        const query = this.query();
        this.apply((db) => all(db, query));
        return;
      }
      default:
        this.page();
    }
  }

  private begin(): void {
    this.depth += 1;
    this.apply((db) => {
      db.startTransaction();
    });
  }

  private page(): void {
    const query = this.query();
    const source = query.source.type === "IndexRange" ? query.source.indexName : "scan";
    const pageSize = 1 + this.pick(5);
    // Often a cursor of another range, or of documents long gone.
    const cursor = this.pick(3) === 0 ? null : (this.cursors.get(source) ?? null);
    const first = this.apply((db) => outcome(() => db.paginate({ query, cursor, pageSize })));
    const { continueCursor } = first as { continueCursor?: string };
    if (continueCursor === undefined || continueCursor === "_end_cursor") return;
    this.cursors.set(source, continueCursor);
    // The same page again, up to where it ended.
    this.apply((db) => outcome(() => db.paginate({ query, cursor, endCursor: continueCursor, pageSize })));
  }

  private query(): Query {
    const { pick } = this;
    const order = pick(2) === 0 ? "asc" : "desc";
    const operators: Query["operators"] = [];
    if (pick(3) === 0) operators.push({ filter: { $eq: [{ $field: "text" }, { $literal: `t${String(pick(3))}` }] } });
    if (pick(2) === 0) operators.push({ limit: pick(6) });
    switch (pick(4)) {
      case 0:
        return { source: { type: "FullTableScan", tableName: "notes", order }, operators };
      case 1:
        return { source: { type: "IndexRange", indexName: "notes.by_rank", range: this.range("rank"), order }, operators };
      case 2:
        return { source: { type: "IndexRange", indexName: "notes.by_author_and_rank", range: this.range("author"), order }, operators };
      default: {
        const equal = { type: "Eq" as const, fieldPath: "author", value: `a${String(pick(3))}` };
        const range = [equal, ...this.range("rank")];
        return { source: { type: "IndexRange", indexName: "notes.by_author_and_rank", range, order }, operators };
      }
    }
  }

  private range(fieldPath: string) {
    const { pick } = this;
    const value = () => {
      if (fieldPath === "author") return `a${String(pick(3))}`;
      const rank = this.rank();
      return rank === undefined ? { $undefined: null } : rank;
    };
    const low = { type: pick(2) === 0 ? ("Gt" as const) : ("Gte" as const), fieldPath, value: value() };
    const high = { type: pick(2) === 0 ? ("Lt" as const) : ("Lte" as const), fieldPath, value: value() };
    return [[], [{ type: "Eq" as const, fieldPath, value: value() }], [low], [high], [low, high], [high, low]][pick(6)] ?? [];
  }

  private note() {
    const rank = this.rank();
    return {
      author: `a${String(this.pick(3))}`,
      text: `t${String(this.pick(3))}`,
      ...(rank === undefined ? {} : { rank }),
    };
  }

  /** Every kind of value that sorts differently: absent, null, numbers on both sides of zero. */
  private rank(): number | null | undefined {
    return [undefined, null, -1.5, 0, 1, 2, 3][this.pick(7)];
  }

  private someId(): string {
    return this.ids[this.pick(this.ids.length)] ?? "10000notes";
  }
}

function all(db: Database, query: Query): Document[] {
  const id = db.startQuery(query);
  const results: Document[] = [];
  for (;;) {
    const { value, done } = db.queryNext(id);
    if (done || value === null) return results;
    results.push(value);
  }
}

function outcome<T>(step: () => T): T | string {
  try {
    return step();
  } catch (error) {
    return error instanceof Error ? "refused" : String(error);
  }
}

describe("the indexed database", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["Date"], now: 1_770_000_000_000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("answers as convex-test does, whatever is written and asked", async () => {
    const plain = await loadPlain("plain");
    const fast = await loadFast("fast");
    let compared = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const pair = [plain, fast].map((internals: Internals) => new internals.DatabaseFake(schema, ""));
      const life = new Life(random(seed), (step) => {
        const [expected, actual] = pair.map((db) => outcome(() => step(db)));
        expect(actual, `seed ${String(seed)}`).toStrictEqual(expected);
        if (Array.isArray(expected) && expected.length > 0) compared += 1;
        return expected;
      });
      for (let i = 0; i < 400; i++) life.step();
    }
    // The lives must not be spent on refusals and empty answers.
    expect(compared).toBeGreaterThan(2_000);
  }, 60_000);
});
