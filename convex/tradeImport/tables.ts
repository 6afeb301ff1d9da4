// The tables of the trade import, and the optional fields it adds to the app's `trades`.
// In the app: spread `importTables` into `defineSchema`, `importedTradeFields` into the trades table, and put
// `withImportIndexes` around that.
import {
  defineTable,
  type GenericTableIndexes,
  type GenericTableSearchIndexes,
  type GenericTableVectorIndexes,
  type TableDefinition,
} from "convex/server";
import { v } from "convex/values";
import {
  storedExecutionFields,
  vAssetType,
  vAuth,
  vBreaker,
  vConnectionKind,
  vConnectionSettings,
  vConnectionStatus,
  vExtras,
  vImportFlag,
  vInboxStatus,
  vIngested,
  vInterval,
  vJobMode,
  vJobReason,
  vJobStats,
  vJobStatus,
  vProblem,
  vProgress,
  vProvider,
  vSource,
  vSuggestionReason,
  vTradeSource,
} from "./validators";

export const importTables = {
  // One broker account somebody connected. Written by connections.ts and, on status changes, worker.ts.
  brokerageConnections: defineTable({
    /** Absent until the worker has seen which account the credentials open. */
    accountRef: v.optional(v.string()),
    /** Absent once disconnected. */
    auth: v.optional(vAuth),
    /** Rises with every change of `auth`. */
    authVersion: v.number(),
    createdAt: v.number(),
    kind: vConnectionKind,
    label: v.optional(v.string()),
    lastSyncAt: v.optional(v.number()),
    lastValidatedAt: v.optional(v.number()),
    ownerId: v.string(),
    provider: vProvider,
    settings: vConnectionSettings,
    status: vConnectionStatus,
    updatedAt: v.number(),
  })
    .index("by_ownerId", ["ownerId"])
    .index("by_status", ["status"]),

  // One row a connection: when it is due and who syncs it. Written by worker.ts and sync.ts. Kept apart
  // from brokerageConnections so that the app's queries rest while a sync runs.
  connectionSyncState: defineTable({
    breaker: vBreaker,
    connectionId: v.id("brokerageConnections"),
    /** The number of the last lease granted; an older one can write nothing. */
    fence: v.number(),
    /** The worker that got the last lease of this login, of whichever connection: it keeps the session up. */
    keptBy: v.optional(v.string()),
    lease: v.optional(
      v.object({
        expiresAt: v.number(),
        jobId: v.id("importJobs"),
        workerId: v.string(),
      }),
    ),
    nextSyncAt: v.number(),
    /** When the worker was last told of a request. */
    notifiedAt: v.optional(v.number()),
    ownerId: v.string(),
    problem: v.optional(vProblem),
    /** Since when `problem` stands. */
    problemSince: v.optional(v.number()),
    /** How the last job ended. */
    reason: v.optional(vJobReason),
    /** Somebody asked for a sync and no job has served that yet. */
    requestedAt: v.optional(v.number()),
    /** When a job last served a request. */
    servedAt: v.optional(v.number()),
    /** The broker asked not to be called before; requests wait for it too. */
    waitUntil: v.optional(v.number()),
  }).index("by_connectionId", ["connectionId"]),

  // One run of one connection. Written by worker.ts.
  importJobs: defineTable({
    /** Of the credentials that the job was given: the verdict on older ones is no news. */
    authVersion: v.number(),
    connectionId: v.id("brokerageConnections"),
    cursorAfter: v.optional(v.array(vInterval)),
    cursorBefore: v.optional(v.array(vInterval)),
    errorSummary: v.optional(vProblem),
    fence: v.number(),
    finishedAt: v.optional(v.number()),
    /** It read files, not the broker. */
    fromFiles: v.optional(v.boolean()),
    /** Retention has looked at it: it stays for good. */
    kept: v.optional(v.literal(true)),
    /** The last batch of `worker.ingest` and its result: a batch sent twice is applied once. */
    lastBatch: v.optional(v.object({ number: v.number(), result: vIngested })),
    mode: vJobMode,
    ownerId: v.string(),
    progress: v.optional(vProgress),
    reason: vJobReason,
    /** The job whose kept reports were read again. */
    replays: v.optional(v.id("importJobs")),
    /** The raw reports it received. */
    reportIds: v.optional(v.array(v.id("importReports"))),
    startedAt: v.number(),
    stats: vJobStats,
    status: vJobStatus,
    /** What was taken back of it; `running` while steps are left. */
    undo: v.optional(v.object({ at: v.number(), kept: v.number(), removed: v.number(), running: v.boolean() })),
    windowEnd: v.optional(v.number()),
    windowStart: v.optional(v.number()),
    workerId: v.string(),
  })
    .index("by_connectionId_and_startedAt", ["connectionId", "startedAt"])
    .index("by_kept_and_status_and_finishedAt", ["kept", "status", "finishedAt"])
    .index("by_ownerId_and_startedAt", ["ownerId", "startedAt"]),

  // Every execution ever seen, in canonical form. Written by worker.ts; states also by inbox.ts.
  externalExecutions: defineTable(storedExecutionFields)
    .index("by_owner_provider_account_executionId", [
      "ownerId",
      "provider",
      "accountRef",
      "externalExecutionId",
    ])
    // The id comes last so that a row without one never finds a row with one.
    .index("by_owner_provider_account_hash", [
      "ownerId",
      "provider",
      "accountRef",
      "ingestionHash",
      "externalExecutionId",
    ])
    // What a cancel names, and the cancels that name it.
    .index("by_owner_provider_account_tradeId_kind", ["ownerId", "provider", "accountRef", "tradeId", "kind"])
    .index("by_owner_provider_account_transactionId", ["ownerId", "provider", "accountRef", "transactionId"])
    .index("by_owner_provider_account_cancels", ["ownerId", "provider", "accountRef", "cancels"])
    // An instrument's executions in the order in which they move its position: by time, then by id.
    .index("by_owner_account_ticker_and_time", [
      "ownerId",
      "accountRef",
      "assetType",
      "ticker",
      "occurredAt",
      "externalExecutionId",
      "ingestionHash",
    ])
    .index("by_importJobId", ["importJobId"])
    .index("by_owner_provider_account_orderId", ["ownerId", "provider", "accountRef", "externalOrderId"])
    .index("by_ownerId_and_state_and_occurredAt", ["ownerId", "state", "occurredAt"]),

  // What is proven complete, per connection. Written by worker.ts, in the mutation that stores the rows.
  importCursorState: defineTable({
    connectionId: v.id("brokerageConnections"),
    coverage: v.array(vInterval),
    extras: vExtras,
    ownerId: v.string(),
    provider: vProvider,
    updatedAt: v.number(),
  }).index("by_connectionId", ["connectionId"]),

  // One row an instrument of an account: from where its directions have to be derived anew. Written by positions.ts.
  importPositions: defineTable({
    accountRef: v.string(),
    assetType: vAssetType,
    /** When the trades that somebody typed were last looked at. */
    checkedAt: v.number(),
    /** Absent while all that is derived is up to date. */
    dirtyFrom: v.optional(v.number()),
    /** Since when it waits for a run. */
    dirtySince: v.optional(v.number()),
    /** Behind it, the first position that is as it was ends the work. */
    dirtyTo: v.optional(v.number()),
    /** When the scheduled run is due. */
    dueAt: v.optional(v.number()),
    /** When all of it was last derived anew. */
    fullAt: v.number(),
    ownerId: v.string(),
    /** The last execution done of those at `dirtyFrom`. */
    resumeAfter: v.optional(v.id("externalExecutions")),
    ticker: v.string(),
    touchedAt: v.optional(v.number()),
    /** Of the typed trades of this ticker as they were then. */
    typedDigest: v.optional(v.string()),
  })
    .index("by_ownerId_and_accountRef_and_assetType_and_ticker", ["ownerId", "accountRef", "assetType", "ticker"])
    .index("by_checkedAt", ["checkedAt"])
    .index("by_dirtyFrom", ["dirtyFrom"]),

  // Rows nobody could read, with the reason. Written by maintenance.ts and worker.ts.
  importRejects: defineTable({
    /** The account of a row that belongs to another one than its connection's. */
    accountRef: v.optional(v.string()),
    connectionId: v.id("brokerageConnections"),
    externalExecutionId: v.optional(v.string()),
    fingerprint: v.string(),
    importJobId: v.id("importJobs"),
    ownerId: v.string(),
    /** `rawPayload` is empty: the row was read well long ago. */
    payloadDropped: v.optional(v.literal(true)),
    rawPayload: v.string(),
    reason: v.string(),
    resolvedAt: v.optional(v.number()),
    /** Its owner wants it read again; the next lease hands it to the worker. */
    retryAt: v.optional(v.number()),
  })
    .index("by_connectionId_and_resolvedAt_and_retryAt", ["connectionId", "resolvedAt", "retryAt"])
    .index("by_connectionId_and_fingerprint", ["connectionId", "fingerprint"])
    .index("by_payloadDropped_and_resolvedAt", ["payloadDropped", "resolvedAt"])
    .index("by_importJobId", ["importJobId"])
    .index("by_ownerId_and_resolvedAt_and_externalExecutionId", [
      "ownerId",
      "resolvedAt",
      "externalExecutionId",
    ]),

  // Raw Flex reports, each content once a connection, the last MAX_KEPT of a kind. Written by reports.ts.
  importReports: defineTable({
    /** Digest of its parts together. */
    bytes: v.string(),
    connectionId: v.id("brokerageConnections"),
    /** Of its content, as the worker computes it. */
    digest: v.string(),
    /** The first job that received it. */
    importJobId: v.id("importJobs"),
    ownerId: v.string(),
    /** Of the parts that are kept so far, in order. */
    partIds: v.array(v.id("importReportParts")),
    /** How many parts it has, compressed; 0 where it is too large to be kept. */
    parts: v.number(),
    /** Bytes before compression. */
    size: v.number(),
    source: vSource,
  })
    .index("by_connectionId_and_digest", ["connectionId", "digest"])
    .index("by_connectionId_and_source", ["connectionId", "source"]),

  importReportParts: defineTable({
    data: v.bytes(),
    part: v.number(),
    reportId: v.id("importReports"),
  }).index("by_reportId_and_part", ["reportId", "part"]),

  // Which open plans an owner's suggestions were last refreshed for. Written by planChanges.ts.
  importSuggestionState: defineTable({
    ownerId: v.string(),
    plans: v.string(),
    refreshedAt: v.number(),
  }).index("by_ownerId", ["ownerId"]),

  // Which workers live. Written by worker.beat only, so that nothing else re-runs on a heartbeat.
  workerHeartbeats: defineTable({
    lastBeatAt: v.number(),
    startedAt: v.number(),
    version: v.string(),
    workerId: v.string(),
  })
    .index("by_workerId", ["workerId"])
    .index("by_lastBeatAt", ["lastBeatAt"]),

  // One row while no worker beats, none otherwise: queries see it without a clock, and rest meanwhile.
  workerSilence: defineTable({ since: v.number() }),
};

/** Fields the import adds to `trades`; all optional, so rows and callers of the app stay valid. */
export const importedTradeFields = {
  brokerAccountRef: v.optional(v.string()),
  campaignId: v.optional(v.id("campaigns")),
  currency: v.optional(v.string()),
  executionId: v.optional(v.id("externalExecutions")),
  externalExecutionId: v.optional(v.string()),
  externalOrderId: v.optional(v.string()),
  fee: v.optional(v.number()),
  feeCurrency: v.optional(v.string()),
  importFlags: v.optional(v.array(vImportFlag)),
  importJobId: v.optional(v.id("importJobs")),
  /** Missing means reviewed: a trade somebody typed. */
  inboxStatus: v.optional(vInboxStatus),
  /** 1 or 2 where one execution reversed a position and became two trades. */
  leg: v.optional(v.number()),
  ownerId: v.optional(v.string()),
  /** Missing means manual. */
  source: v.optional(vTradeSource),
  suggestedTradePlanId: v.optional(v.id("tradePlans")),
  suggestionReason: v.optional(vSuggestionReason),
};

const importedTradeIndexes = {
  by_campaignId: ["campaignId"],
  by_ownerId_and_inboxStatus_and_brokerAccountRef_and_date: ["ownerId", "inboxStatus", "brokerAccountRef", "date"],
  by_ownerId_and_inboxStatus_and_date: ["ownerId", "inboxStatus", "date"],
  by_ownerId_and_inboxStatus_and_source_and_date: ["ownerId", "inboxStatus", "source", "date"],
  by_ownerId_and_inboxStatus_and_ticker_and_date: ["ownerId", "inboxStatus", "ticker", "date"],
} as const;

/** Convex ends every index with the time of creation. */
type Complete<Fields extends readonly string[]> = [...Fields, "_creationTime"];
type ImportedTradeIndexes = {
  [Name in keyof typeof importedTradeIndexes]: Complete<(typeof importedTradeIndexes)[Name]>;
};

type Indexable = { index: (name: string, fields: string[]) => Indexable };

/** The app's trades table, which has `importedTradeFields`, with the indexes that the import reads it by. */
export function withImportIndexes<
  Fields extends TableDefinition["validator"],
  Indexes extends GenericTableIndexes,
  SearchIndexes extends GenericTableSearchIndexes,
  VectorIndexes extends GenericTableVectorIndexes,
>(trades: TableDefinition<Fields, Indexes, SearchIndexes, VectorIndexes>) {
  let indexed = trades as unknown as Indexable;
  for (const [name, fields] of Object.entries(importedTradeIndexes)) indexed = indexed.index(name, [...fields]);
  return indexed as unknown as TableDefinition<
    Fields,
    Indexes & ImportedTradeIndexes,
    SearchIndexes,
    VectorIndexes
  >;
}
