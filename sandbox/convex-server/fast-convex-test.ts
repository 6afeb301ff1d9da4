// convex-test with real indexes, limits and read sets.
//
// convex-test keeps every document of every table in one object and looks at all of them for each query
// (reference convex 7.2). This module loads a private copy of it whose two inner classes are exported, and
// replaces the methods that read and write documents. The package itself stays as installed. The names below
// are internal to one version, therefore the pin is checked first.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { AsyncLocalStorage } from "node:async_hooks";
import type { convexTest } from "convex-test";
import { ConvexError, getDocumentSize, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { checkDocument } from "./limits";
import { Mutex } from "./mutex";
import { comparePrefix, EVERYTHING, isWithin, SortedIndex, type Document, type Key, type Range } from "./sorted-index";
import type { ValidatorJson } from "./validate";
import { world, type Change, type World } from "./world";

const VERSION = "0.0.60";

export interface Database {
  _documents: Record<string, Document>;
  _writes: Record<string, Document | null>[];
  _schema: {
    tables: Map<string, { indexes: { indexDescriptor: string; fields: string[] }[]; documentType?: ValidatorJson }>;
  } | null;
  _nextDocId: number;
  _lastCreationTime: number;
  startTransaction(): void;
  rollbackWrites(): void;
  commit(commitTs?: bigint | null): void;
  stashWrites(): Record<string, Document | null>[];
  restoreWrites(stashed: Record<string, Document | null>[]): void;
  insert(table: string, value: Record<string, Value>): string;
  patch(table: string | undefined, id: string, value: Record<string, unknown>): void;
  replace(table: string | undefined, id: string, value: Record<string, unknown>): void;
  delete(table: string | undefined, id: string): void;
  get(table: string | undefined, id: string): Document | null;
  startQuery(query: Query): number;
  queryNext(queryId: number): { value: Document | null; done: boolean };
  paginate(request: PageRequest): Page;
  _addWrite(id: string, value: Document | null): void;
  _validate(table: string, document: Record<string, Value>): void;
  _iterateDocs(table: string, callback: (document: Document) => void): void;
  _resolveQuerySource(query: Query): QuerySource;
  _evaluateQuery(query: Query): Document[];
}

interface RangeExpression {
  type: "Eq" | "Gt" | "Gte" | "Lt" | "Lte";
  fieldPath: string;
  value: JSONValue;
}

type Order = "asc" | "desc";

export interface Query {
  source:
    | { type: "FullTableScan"; tableName: string; order?: Order | null }
    | { type: "IndexRange"; indexName: string; range: RangeExpression[]; order?: Order | null }
    | { type: "Search"; indexName: string; filters: unknown[] };
  operators: ({ filter: JSONValue } | { limit: number })[];
}

export interface PageRequest {
  query: Query;
  cursor: string | null;
  endCursor?: string | null;
  pageSize: number;
  maximumRowsRead?: number;
  maximumBytesRead?: number;
}

export interface Page {
  page: Document[];
  isDone: boolean;
  continueCursor: string;
}

interface QuerySource {
  sortedDocs: Document[];
  filterFn: (document: Document) => boolean;
  limit: number | null;
  fieldPathsToSortBy: string[];
  order: Order;
}

export interface TransactionManager {
  _lastCommitTs: bigint;
  begin(isNested: boolean, limits?: unknown): Promise<void>;
  _endTransaction(isNested: boolean): void;
  getMetricsTracker(): { trackRead(bytes: number): void } | null;
}

export interface ConvexGlobal {
  components: Record<string, { db: Database }>;
  transactionManager: TransactionManager;
}

export interface Internals {
  convexTest: typeof convexTest;
  DatabaseFake: { new (schema: unknown, componentPath: string): Database; prototype: Database };
  TransactionManager: { prototype: TransactionManager };
  convexGlobalStorage: AsyncLocalStorage<ConvexGlobal>;
  /** Replaces the timers of scheduled functions. */
  startTimersWith(start: (callback: () => void, delay: number) => void): void;
  tableNameFromId(id: string): string | null;
  evaluateFieldPath(path: string, document: Document): Value | undefined;
  evaluateQueryValue(value: JSONValue): Value | undefined;
  evaluateFilter(document: Document, filter: JSONValue): boolean;
  validateIndexRangeExpression(source: Query["source"], fields: string[]): void;
}

const EXPORTS: Exclude<keyof Internals, "convexTest" | "startTimersWith">[] = [
  "DatabaseFake",
  "TransactionManager",
  "convexGlobalStorage",
  "tableNameFromId",
  "evaluateFieldPath",
  "evaluateQueryValue",
  "evaluateFilter",
  "validateIndexRangeExpression",
];

/** A fresh copy of convex-test with its internals exported and nothing changed. Each `name` is a module of its own. */
export async function loadPlain(name: string): Promise<Internals> {
  const entry = createRequire(import.meta.url).resolve("convex-test");
  const packageDirectory = dirname(dirname(entry));
  const { version } = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as { version: string };
  if (version !== VERSION) {
    throw new Error(
      `The sandbox works with convex-test ${VERSION}, but ${version} is installed. ` +
        "Pin the version in package.json, or adapt sandbox/convex-server/fast-convex-test.ts and its tests.",
    );
  }
  const source = readFileSync(entry, "utf8")
    .replace("./transactionMetrics.js", "../../convex-test/dist/transactionMetrics.js")
    .replace(/^\/\/# sourceMappingURL=.*$/m, "")
    .concat(`export { ${EXPORTS.join(", ")} };\n`)
    .concat(
      "export function startTimersWith(start) {\n",
      "  frameworkSetTimeout = (callback, delay) => globalOverridesStorage.exit(() => start(callback, delay));\n",
      "}\n",
    );
  const digest = createHash("sha256").update(source).digest("hex").slice(0, 12);
  const directory = join(dirname(packageDirectory), ".cache", `convex-test-${VERSION}`);
  const copy = join(directory, `${name}-${digest}.mjs`);
  if (!existsSync(copy)) {
    // Several processes may start at once; a rename is seen whole or not at all.
    mkdirSync(directory, { recursive: true });
    const unfinished = `${copy}.${String(process.pid)}`;
    writeFileSync(unfinished, source);
    renameSync(unfinished, copy);
  }
  return (await import(/* @vite-ignore */ pathToFileURL(copy).href)) as Internals;
}

/** The documents as the running transaction sees them, by table, with the indexes that were asked for so far. */
class View {
  private readonly tables = new Map<string, Map<string, Document>>();
  private readonly indexes = new Map<string, Map<string, SortedIndex>>();

  constructor(private readonly internals: Internals) {}

  show(id: string, document: Document | null): void {
    const name = this.internals.tableNameFromId(id);
    if (name === null) return;
    const table = this.tables.get(name) ?? new Map<string, Document>();
    this.tables.set(name, table);
    const shown = table.get(id);
    if (shown === document) return;
    for (const index of this.indexes.get(name)?.values() ?? []) {
      if (shown !== undefined) index.remove(shown);
      if (document !== null) index.add(document);
    }
    if (document === null) table.delete(id);
    else table.set(id, document);
  }

  documents(table: string): Iterable<Document> {
    return this.tables.get(table)?.values() ?? [];
  }

  index(table: string, fields: readonly string[]): SortedIndex {
    const ofTable = this.indexes.get(table) ?? new Map<string, SortedIndex>();
    this.indexes.set(table, ofTable);
    const name = fields.join();
    const index =
      ofTable.get(name) ??
      new SortedIndex(
        (document) => fields.map((field) => this.internals.evaluateFieldPath(field, document)),
        this.documents(table),
      );
    ofTable.set(name, index);
    return index;
  }
}

interface Located {
  readonly table: string;
  readonly index: SortedIndex;
  readonly fields: string[];
  readonly range: Range;
  readonly order: Order;
}

function install(internals: Internals): void {
  const database = internals.DatabaseFake.prototype;
  const plain = pick(database, ["_addWrite", "rollbackWrites", "stashWrites", "restoreWrites", "commit"]);
  const plainReads = pick(database, ["get", "paginate", "_resolveQuerySource", "_validate"]);
  const views = new WeakMap<Database, View>();

  const viewOf = (db: Database): View => {
    const view = views.get(db) ?? new View(internals);
    views.set(db, view);
    return view;
  };
  const visible = (db: Database, id: string): Document | null => plainReads.get.call(db, undefined, id);

  database._addWrite = function (id, value) {
    plain._addWrite.call(this, id, value);
    viewOf(this).show(id, value);
  };

  database.rollbackWrites = function () {
    const undone = Object.keys(this._writes.at(-1) ?? {});
    plain.rollbackWrites.call(this);
    for (const id of undone) viewOf(this).show(id, visible(this, id));
  };

  database.stashWrites = function () {
    const stashed = plain.stashWrites.call(this);
    for (const id of stashed.flatMap(Object.keys)) viewOf(this).show(id, visible(this, id));
    return stashed;
  };

  database.restoreWrites = function (stashed) {
    plain.restoreWrites.call(this, stashed);
    for (const id of stashed.flatMap(Object.keys)) viewOf(this).show(id, visible(this, id));
  };

  database.commit = function (commitTs = null) {
    if (this._writes.length > 1) {
      plain.commit.call(this, commitTs);
      return;
    }
    const ids = Object.keys(this._writes[0] ?? {});
    const before = ids.map((id) => this._documents[id] ?? null);
    plain.commit.call(this, commitTs);
    const changes = ids.map((id, i): Change => {
      const after = this._documents[id] ?? null;
      viewOf(this).show(id, after);
      return { table: internals.tableNameFromId(id) ?? "", before: before[i] ?? null, after };
    });
    const current = world.getStore();
    if (current === undefined || commitTs === null) return;
    current.commitTs = commitTs;
    current.deployment.committed(changes, commitTs);
  };

  database._iterateDocs = function (table, callback) {
    for (const document of viewOf(this).documents(table)) callback(document);
  };

  database._validate = function (table, document) {
    plainReads._validate.call(this, table, document);
    if (!table.startsWith("_")) checkDocument(document, this._schema?.tables.get(table));
  };

  database.get = function (table, id) {
    const name = typeof id === "string" ? internals.tableNameFromId(id) : null;
    if (name !== null) {
      world.getStore()?.reads?.push({ table: name, covers: (document) => document._id === id });
    }
    return plainReads.get.call(this, table, id);
  };

  function locate(db: Database, { source }: Query): Located | null {
    switch (source.type) {
      case "Search":
        return null;
      case "FullTableScan": {
        const fields = ["_creationTime", "_id"];
        const index = viewOf(db).index(source.tableName, fields);
        return { table: source.tableName, index, fields, range: EVERYTHING, order: source.order ?? "asc" };
      }
      case "IndexRange": {
        const [table = "", name = ""] = source.indexName.split(".");
        const fields = fieldsOf(db, table, name);
        internals.validateIndexRangeExpression(source, fields);
        const equal: Key = source.range.filter(({ type }) => type === "Eq").map(({ value }) => internals.evaluateQueryValue(value));
        let lower = { prefix: equal, inclusive: true };
        let upper = { prefix: equal, inclusive: true };
        for (const { type, value } of source.range) {
          const prefix = [...equal, internals.evaluateQueryValue(value)];
          if (type === "Gt" || type === "Gte") lower = { prefix, inclusive: type === "Gte" };
          if (type === "Lt" || type === "Lte") upper = { prefix, inclusive: type === "Lte" };
        }
        const index = viewOf(db).index(table, fields);
        return { table, index, fields, range: { lower, upper }, order: source.order ?? "asc" };
      }
    }
  }

  function filterOf(query: Query): (document: Document) => boolean {
    const filters = query.operators.flatMap((operator) => ("filter" in operator ? [operator.filter] : []));
    return (document) => {
      if (filters.every((filter) => internals.evaluateFilter(document, filter))) return true;
      // Rows that a filter drops are read all the same; convex-test counts only those it returns.
      const manager = internals.convexGlobalStorage.getStore()?.transactionManager;
      manager?.getMetricsTracker()?.trackRead(getDocumentSize(document));
      return false;
    };
  }

  function limitOf(query: Query): number | null {
    for (const operator of query.operators) if ("limit" in operator) return operator.limit;
    return null;
  }

  function noteRead({ table, index, range }: Located): void {
    world.getStore()?.reads?.push({ table, covers: (document) => isWithin(index.keyOf(document), range) });
  }

  database._evaluateQuery = function (query) {
    const located = locate(this, query);
    if (located === null) {
      noteTable(query);
      const { sortedDocs, filterFn, limit } = plainReads._resolveQuerySource.call(this, query);
      return sortedDocs.filter(filterFn).slice(0, limit ?? undefined);
    }
    const { index, range, order } = located;
    const matches = filterOf(query);
    const limit = limitOf(query);
    const results: Document[] = [];
    if (limit === 0) return results;
    for (const document of index.documents(range, order)) {
      if (matches(document)) results.push(document);
      if (results.length === limit) {
        // What lies behind the last row taken was not read, and its changes cannot matter.
        noteRead({ ...located, range: upTo(range, order, index.keyOf(document)) });
        return results;
      }
    }
    noteRead(located);
    return results;
  };

  // convex-test skips to the cursor row by row: hand it only the rows behind the cursor.
  let cursorKey: Key | null = null;

  database._resolveQuerySource = function (query) {
    const located = locate(this, query);
    if (located === null) {
      noteTable(query);
      return plainReads._resolveQuerySource.call(this, query);
    }
    const { index, fields, order } = located;
    const range = cursorKey === null ? located.range : behind(located.range, order, cursorKey);
    return {
      sortedDocs: [...index.documents(range, order)],
      filterFn: filterOf(query),
      limit: limitOf(query),
      fieldPathsToSortBy: fields,
      order,
    };
  };

  database.paginate = function (request) {
    const located = locate(this, request.query);
    if (located === null) return plainReads.paginate.call(this, request);
    const journal = world.getStore()?.journal;
    const endCursor = request.endCursor ?? journal?.endCursor ?? null;
    const start = keyOfCursor(request.cursor, located.fields);
    cursorKey = start;
    let page: Page;
    try {
      keyOfCursor(endCursor, located.fields);
      page = plainReads.paginate.call(this, { ...request, endCursor });
    } finally {
      cursorKey = null;
    }
    if (journal !== undefined) journal.endCursor = endCursor ?? page.continueCursor;
    const { order } = located;
    const after = start === null ? located.range : behind(located.range, order, start);
    const end = page.isDone ? null : keyOfCursor(page.continueCursor, located.fields);
    noteRead({ ...located, range: end === null ? after : upTo(after, order, end) });
    return page;
  };

  const manager = internals.TransactionManager.prototype;
  const plainManager = pick(manager, ["begin", "_endTransaction"]);

  manager.begin = async function (isNested, limits) {
    if (!isNested && !isPartOfSnapshot()) await transactions(this).acquire();
    await plainManager.begin.call(this, isNested, limits);
    if (!isNested) countReads(this.getMetricsTracker());
  };

  manager._endTransaction = function (isNested) {
    plainManager._endTransaction.call(this, isNested);
    if (!isNested && !isPartOfSnapshot()) transactions(this).release();
  };
}

/** What a transaction reads is what its request has read. */
function countReads(tracker: ReturnType<TransactionManager["getMetricsTracker"]>): void {
  const current = world.getStore();
  if (tracker === null || current === undefined) return;
  const trackRead = tracker.trackRead.bind(tracker);
  tracker.trackRead = (bytes) => {
    current.documentsRead += 1;
    trackRead(bytes);
  };
}

function noteTable({ source }: Query): void {
  const table = source.type === "FullTableScan" ? source.tableName : (source.indexName.split(".")[0] ?? "");
  world.getStore()?.reads?.push({ table, covers: () => true });
}

function fieldsOf(db: Database, table: string, index: string): string[] {
  if (index === "by_creation_time") return ["_creationTime", "_id"];
  if (index === "by_id") return ["_id"];
  const declared = db._schema?.tables.get(table)?.indexes.find(({ indexDescriptor }) => indexDescriptor === index);
  if (declared === undefined) {
    throw new Error(`Cannot use index "${index}" for table "${table}" because it is not declared in the schema.`);
  }
  return [...declared.fields, "_creationTime", "_id"];
}

/** The part of `range` up to and with `key`, in the direction of `order`. */
function upTo(range: Range, order: Order, key: Key): Range {
  const bound = { prefix: key, inclusive: true };
  if (order === "asc") return { lower: range.lower, upper: bound };
  return { lower: bound, upper: range.upper };
}

/** The part of `range` that comes after `key`, in the direction of `order`; `key` may lie before the range. */
function behind(range: Range, order: Order, key: Key): Range {
  const bound = { prefix: key, inclusive: false };
  if (order === "asc") {
    const side = comparePrefix(key, range.lower.prefix);
    return side > 0 || (side === 0 && range.lower.inclusive) ? { lower: bound, upper: range.upper } : range;
  }
  const side = comparePrefix(key, range.upper.prefix);
  return side < 0 || (side === 0 && range.upper.inclusive) ? { lower: range.lower, upper: bound } : range;
}

const END = "_end_cursor";

function keyOfCursor(cursor: string | null, fields: readonly string[]): Key | null {
  if (cursor === null || cursor === "" || cursor === END) return null;
  try {
    const parts = JSON.parse(cursor) as (string | null)[];
    if (parts.length === fields.length) {
      return parts.map((part) => (part === null ? undefined : jsonToConvex(JSON.parse(part) as JSONValue)));
    }
  } catch {
    // Not one of our cursors: refused below.
  }
  throw Object.assign(
    new ConvexError({ isConvexSystemError: true, paginationError: "InvalidCursor" }),
    { message: "InvalidCursor: this cursor does not belong to this query." },
  );
}

const queues = new WeakMap<TransactionManager, Mutex>();
const insideSnapshot = new WeakSet<World>();

/** Whether the running transaction is part of a snapshot, whose holder has queued for all of them. */
function isPartOfSnapshot(): boolean {
  const current = world.getStore();
  return current !== undefined && insideSnapshot.has(current);
}

function transactions(manager: TransactionManager): Mutex {
  const queue = queues.get(manager) ?? new Mutex();
  queues.set(manager, queue);
  return queue;
}

/** Runs `read` while no transaction can commit; worlds passed to `enter` take part in it without waiting. */
export async function snapshot<T>(
  manager: TransactionManager,
  read: (enter: (participant: World) => World) => Promise<T>,
): Promise<T> {
  await transactions(manager).acquire();
  try {
    return await read((participant) => {
      insideSnapshot.add(participant);
      return participant;
    });
  } finally {
    transactions(manager).release();
  }
}

function pick<T extends object, K extends keyof T>(object: T, names: K[]): Pick<T, K> {
  for (const name of names) {
    if (typeof object[name] !== "function") throw new Error(`convex-test ${VERSION} has no method ${String(name)}`);
  }
  return Object.fromEntries(names.map((name) => [name, object[name]])) as Pick<T, K>;
}

export async function loadFast(name = "fast"): Promise<Internals> {
  const internals = await loadPlain(name);
  install(internals);
  return internals;
}
