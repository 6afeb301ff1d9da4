// Every union and object that crosses the wire or is stored. One validator each; the TypeScript types are
// inferred from it, and `worker/models.py` uses the same names.
import { v, type Infer } from "convex/values";

export const vProvider = v.union(v.literal("ibkr"), v.literal("kraken"));
export type Provider = Infer<typeof vProvider>;

/** How a connection reaches its broker. A new broker adds one literal here. */
export const vConnectionKind = v.union(
  v.literal("kraken"),
  v.literal("ibkr_gateway"),
  v.literal("ibkr_oauth"),
  v.literal("ibkr_flex"),
);
export type ConnectionKind = Infer<typeof vConnectionKind>;

export const vConnectionStatus = v.union(
  v.literal("active"),
  v.literal("needs_reauth"),
  v.literal("error"),
  v.literal("disconnected"),
);
export type ConnectionStatus = Infer<typeof vConnectionStatus>;

/** Credentials. Write-only: no function of the app returns them. */
export const vAuth = v.union(
  v.object({
    apiKey: v.string(),
    apiSecret: v.string(),
    kind: v.literal("kraken"),
    otp: v.optional(v.string()),
  }),
  // A gateway in which a person is logged in: the address is all there is.
  v.object({ baseUrl: v.string(), kind: v.literal("ibkr_gateway") }),
  // Keys that are absent are read from the worker's own files.
  v.object({
    accessToken: v.string(),
    accessTokenSecret: v.string(),
    consumerKey: v.string(),
    dhParam: v.optional(v.string()),
    encryptionKey: v.optional(v.string()),
    kind: v.literal("ibkr_oauth"),
    realm: v.optional(v.string()),
    signatureKey: v.optional(v.string()),
  }),
  // Reports without a session: at least one of the two queries.
  v.object({
    activityQueryId: v.optional(v.string()),
    confirmQueryId: v.optional(v.string()),
    kind: v.literal("ibkr_flex"),
    token: v.string(),
    /** Epoch ms; when the token ends, as Client Portal showed it. The service tells nobody. */
    tokenEndsAt: v.optional(v.number()),
  }),
);
export type Auth = Infer<typeof vAuth>;

export const vKrakenTier = v.union(v.literal("starter"), v.literal("intermediate"), v.literal("pro"));

/** Where an Interactive Brokers login's servers are: their nightly resets are at other hours. */
export const vIbkrRegion = v.union(v.literal("america"), v.literal("europe"), v.literal("asia"));
/** Keep the brokerage session up all day, or open it for each sync. */
export const vIbkrKeepalive = v.union(v.literal("always"), v.literal("around_polls"));

export const vConnectionSettings = v.object({
  ibkrKeepalive: v.optional(vIbkrKeepalive),
  ibkrRegion: v.optional(vIbkrRegion),
  /** Epoch ms; executions before it are not asked for. Absent: from the beginning. */
  importFrom: v.optional(v.number()),
  intervalMinutes: v.number(),
  krakenTier: v.optional(vKrakenTier),
});
export type ConnectionSettings = Infer<typeof vConnectionSettings>;

export const vSource = v.union(
  v.literal("kraken_trades"),
  v.literal("ibkr_live"),
  v.literal("ibkr_flex_activity"),
  v.literal("ibkr_flex_confirm"),
);
export type Source = Infer<typeof vSource>;

export const vExecutionKind = v.union(
  v.literal("fill"),
  v.literal("cancel"),
  v.literal("expiry"),
  v.literal("assignment"),
  v.literal("exercise"),
);

export const vAssetClass = v.union(
  v.literal("stock"),
  v.literal("fund"),
  v.literal("crypto"),
  v.literal("option"),
  v.literal("future"),
  v.literal("future_option"),
  v.literal("forex"),
  v.literal("cfd"),
  v.literal("bond"),
  v.literal("warrant"),
  v.literal("tokenized"),
  v.literal("other"),
);
export type AssetClass = Infer<typeof vAssetClass>;

export const vSide = v.union(v.literal("buy"), v.literal("sell"));
export type Side = Infer<typeof vSide>;

/** Facts about a fill that the broker states and the canonical fields have no place for. */
export const vExecutionFlag = v.union(
  v.literal("margin"),
  v.literal("liquidation"),
  v.literal("position_open"),
  v.literal("position_close"),
  v.literal("unresolved_symbol"),
  v.literal("no_time_of_day"),
  v.literal("ambiguous_time"),
);
export type ExecutionFlag = Infer<typeof vExecutionFlag>;

const executionFields = {
  /** Broker's account id. */
  accountRef: v.string(),
  assetClass: vAssetClass,
  /** For `kind = cancel`: `tx:<transaction id>` or `trade:<trade id>` of the booking it voids. */
  cancels: v.optional(v.string()),
  conid: v.optional(v.string()),
  currency: v.optional(v.string()),
  externalExecutionId: v.optional(v.string()),
  /** Groups fills; never an identity. */
  externalOrderId: v.optional(v.string()),
  /** Decimal string; positive = cost, negative = rebate. */
  fee: v.string(),
  feeCurrency: v.optional(v.string()),
  flags: v.array(vExecutionFlag),
  /** Fallback identity of rows without a native id. */
  ingestionHash: v.string(),
  kind: vExecutionKind,
  multiplier: v.optional(v.string()),
  /** Epoch ms, UTC. */
  occurredAt: v.number(),
  openClose: v.optional(v.union(v.literal("open"), v.literal("close"), v.literal("close_open"))),
  /** Decimal string. */
  price: v.string(),
  provider: vProvider,
  /** Decimal string, > 0 for fills. */
  quantity: v.string(),
  /** The broker's row as JSON text, secrets removed. */
  rawPayload: v.string(),
  rawSymbol: v.string(),
  revision: v.number(),
  /** Absent only where the broker states none: the removal of an expired position. */
  side: v.optional(vSide),
  source: vSource,
  symbol: v.string(),
  /** Interactive Brokers' ids of the booking: its cancel names them. A rebooking keeps the trade id. */
  tradeId: v.optional(v.string()),
  transactionId: v.optional(v.string()),
};

/** The canonical execution (DESIGN section 6), as the worker sends it. */
export const vExecution = v.object(executionFields);
export type Execution = Infer<typeof vExecution>;

export const vExecutionState = v.union(
  v.literal("live"),
  v.literal("voided"),
  v.literal("superseded"),
  v.literal("held"),
  v.literal("dismissed"),
  // Taken back with the job that brought it. A tombstone until a sync brings it again.
  v.literal("undone"),
);
export type ExecutionState = Infer<typeof vExecutionState>;

/** Why an execution is known but not a trade (yet). */
export const vHeldReason = v.union(
  v.literal("asset_class_not_supported"),
  v.literal("kind_not_supported"),
  v.literal("original_not_seen"),
);
export type HeldReason = Infer<typeof vHeldReason>;

/** One source's word on one revision of an execution. */
export const vView = v.object({
  ...executionFields,
  /** The job that brought it. */
  importJobId: v.id("importJobs"),
  seenAt: v.number(),
});
export type View = Infer<typeof vView>;

/** What a user should know before trusting an imported row. */
export const vImportFlag = v.union(
  v.literal("opening_lot_unknown"),
  v.literal("direction_guessed"),
  v.literal("changed_by_broker"),
  v.literal("voided_by_broker"),
  v.literal("margin"),
  v.literal("liquidation"),
  v.literal("tokenized"),
);
export type ImportFlag = Infer<typeof vImportFlag>;

export const vAssetType = v.union(v.literal("crypto"), v.literal("stock"));
export const vDirection = v.union(v.literal("long"), v.literal("short"));

/** Open quantities, decimal strings. */
export const vPosition = v.object({ long: v.string(), short: v.string() });

/** What was derived of an execution when its trades were last written, and the positions right after it. */
export const vDerived = v.object({
  /** With every trade up to then, pending and typed ones too. */
  after: vPosition,
  /** With those alone that count in the figures. */
  counted: vPosition,
  legs: v.array(
    v.object({ direction: vDirection, flags: v.array(vImportFlag), quantity: v.string(), side: vSide }),
  ),
});

export const vInboxStatus = v.union(v.literal("pending_review"), v.literal("reviewed"));

/** A trade as its user left it, kept while the trade is away. */
export const vDecision = v.object({
  assetType: vAssetType,
  campaignId: v.optional(v.id("campaigns")),
  date: v.number(),
  direction: vDirection,
  fee: v.optional(v.number()),
  importFlags: v.optional(v.array(vImportFlag)),
  inboxStatus: v.optional(vInboxStatus),
  leg: v.optional(v.number()),
  notes: v.optional(v.string()),
  price: v.number(),
  quantity: v.number(),
  side: vSide,
  ticker: v.string(),
  tradePlanId: v.optional(v.id("tradePlans")),
});
export type Decision = Infer<typeof vDecision>;

export const storedExecutionFields = {
  ...executionFields,
  /** With `ticker`: the instrument whose position it is part of, from its first trade on. */
  assetType: v.optional(vAssetType),
  connectionId: v.id("brokerageConnections"),
  /** Of an undone execution, or of a cancelled one that was acknowledged: its trades, should it come back. */
  decisions: v.optional(v.array(vDecision)),
  derived: v.optional(vDerived),
  /** Also of a voided one that is no trade: what it is once a rebooking revives it. */
  heldReason: v.optional(vHeldReason),
  importJobId: v.id("importJobs"),
  ownerId: v.string(),
  state: vExecutionState,
  ticker: v.optional(v.string()),
  tradeIds: v.array(v.id("trades")),
  /** All that was ever said of it, the best first, where that is more than the row itself. */
  views: v.optional(v.array(vView)),
};

export const vReject = v.object({
  /** The account of a row that belongs to another one than its connection's. */
  accountRef: v.optional(v.string()),
  externalExecutionId: v.optional(v.string()),
  fingerprint: v.string(),
  rawPayload: v.string(),
  reason: v.string(),
});
export type Reject = Infer<typeof vReject>;

/** `(start, end]` in epoch ms, proven complete for one source. */
export const vInterval = v.object({ end: v.number(), source: vSource, start: v.number() });
export type Interval = Infer<typeof vInterval>;

export const vExtras = v.record(v.string(), v.string());
export type Extras = Infer<typeof vExtras>;

export const vBreaker = v.object({
  failures: v.number(),
  openedAt: v.optional(v.number()),
  phase: v.union(v.literal("closed"), v.literal("open"), v.literal("half_open")),
  until: v.optional(v.number()),
});
export type Breaker = Infer<typeof vBreaker>;

export const vProgress = v.object({
  completeBackTo: v.optional(v.number()),
  rows: v.number(),
  total: v.optional(v.number()),
});

export const vJobMode = v.union(v.literal("scheduled"), v.literal("manual"), v.literal("backfill"));
export type JobMode = Infer<typeof vJobMode>;

export const vJobStatus = v.union(
  v.literal("running"),
  v.literal("succeeded"),
  v.literal("partial"),
  v.literal("failed"),
  v.literal("blocked_reauth"),
);

export const vJobReason = v.union(
  v.literal("none"),
  v.literal("maintenance"),
  v.literal("rate_limited"),
  v.literal("report_not_ready"),
  v.literal("session_in_use"),
  v.literal("auth"),
  v.literal("unavailable"),
  v.literal("rejected"),
  v.literal("bad_records"),
  v.literal("incomplete_report"),
  v.literal("gap"),
  v.literal("lease_lost"),
  v.literal("cancelled"),
);
export type JobReason = Infer<typeof vJobReason>;

/** One open problem: what a person reads and does. */
export const vProblem = v.object({
  action: v.string(),
  code: v.string(),
  sentence: v.string(),
  /** The address to open, where the action needs one. */
  url: v.optional(v.string()),
});
export type Problem = Infer<typeof vProblem>;

export const vJobOutcome = v.object({
  problem: v.optional(vProblem),
  reason: vJobReason,
  status: v.union(
    v.literal("succeeded"),
    v.literal("partial"),
    v.literal("failed"),
    v.literal("blocked_reauth"),
  ),
});
export type JobOutcome = Infer<typeof vJobOutcome>;

/** What only the worker can count; the fates of sent rows are counted by `worker.ingest`. */
export const vCounts = v.object({
  errors: v.number(),
  fetched: v.number(),
  remembered: v.number(),
  skipped: v.number(),
});

export const vJobStats = v.object({
  errors: v.number(),
  fetched: v.number(),
  held: v.number(),
  inserted: v.number(),
  known: v.number(),
  pendingReview: v.number(),
  rejected: v.number(),
  skipped: v.number(),
  updated: v.number(),
});
export type JobStats = Infer<typeof vJobStats>;

/** A reject that its owner wants read again. */
export const vRetriedReject = v.object({
  accountRef: v.optional(v.string()),
  externalExecutionId: v.optional(v.string()),
  fingerprint: v.string(),
  rawPayload: v.string(),
});
export type RetriedReject = Infer<typeof vRetriedReject>;

/** A reject that still cannot be read, and why. */
export const vUnsettled = v.object({ fingerprint: v.string(), reason: v.string() });
export type Unsettled = Infer<typeof vUnsettled>;

/** `worker.claim`: the lease and all that is known about its connection. */
export const vClaim = v.union(
  v.object({
    granted: v.literal(true),
    lease: v.object({
      breaker: vBreaker,
      connection: v.object({
        accountRef: v.optional(v.string()),
        auth: vAuth,
        authVersion: v.number(),
        connectionId: v.id("brokerageConnections"),
        kind: vConnectionKind,
        label: v.optional(v.string()),
        /** Of the owner's other connections to this broker. */
        otherAccounts: v.array(v.string()),
        ownerId: v.string(),
        /** Of the owner's other connections through the same login. */
        takenAccounts: v.array(v.string()),
        ownRef: v.string(),
        provider: vProvider,
        settings: vConnectionSettings,
        status: vConnectionStatus,
      }),
      coverage: v.array(vInterval),
      expiresAt: v.number(),
      extras: vExtras,
      fence: v.number(),
      jobId: v.id("importJobs"),
      mode: vJobMode,
      serverNow: v.number(),
      /** Rows kept because nobody could read them, to be read again; the answer goes with `worker.ingest`. */
      rejects: v.array(vRetriedReject),
      /** What the owner's other connections to the same account have proven complete. */
      siblingCoverage: v.array(vInterval),
      /** What the owner's other connections of the same login noted about it. */
      siblingNotes: v.array(v.string()),
    }),
  }),
  v.object({
    granted: v.literal(false),
    reason: v.union(
      v.literal("held"),
      v.literal("not_due"),
      v.literal("disconnected"),
      v.literal("unknown"),
    ),
  }),
);

/** `worker.ingest`: what became of the batch, and until when the lease now runs. */
export const vIngested = v.object({
  expiresAt: v.number(),
  held: v.number(),
  inserted: v.number(),
  known: v.number(),
  rejected: v.number(),
  serverNow: v.number(),
  updated: v.number(),
});
export type Ingested = Infer<typeof vIngested>;

/** One fact of an execution that would be another; null where it is not stated. */
export const vChange = v.object({
  after: v.union(v.string(), v.null()),
  before: v.union(v.string(), v.null()),
  fact: v.string(),
});
export type Change = Infer<typeof vChange>;

/** `reports.compare`: what storing a row again would do. `outdated`: the broker has said something else since. */
export const vDifference = v.object({
  changes: v.array(vChange),
  fate: v.union(v.literal("changed"), v.literal("known"), v.literal("new"), v.literal("outdated")),
});
export type Difference = Infer<typeof vDifference>;

/** `worker.watch`: one line a connection that is not disconnected. */
export const vDueConnection = v.object({
  authVersion: v.number(),
  connectionId: v.id("brokerageConnections"),
  keptBy: v.optional(v.string()),
  kind: vConnectionKind,
  label: v.optional(v.string()),
  leaseExpiresAt: v.optional(v.number()),
  nextSyncAt: v.number(),
  requestedAt: v.optional(v.number()),
  status: vConnectionStatus,
});

export const vTradeSource = v.union(v.literal("manual"), v.literal("ibkr"), v.literal("kraken"));
export const vSuggestionReason = v.union(v.literal("symbol_and_side_match"), v.literal("none"));

/** What `sync.syncNow` did with a request. */
export const vSyncRequest = v.union(
  v.object({ result: v.literal("queued") }),
  v.object({ jobId: v.id("importJobs"), result: v.literal("joined") }),
  v.object({ result: v.literal("limited"), until: v.number() }),
);
export type SyncRequest = Infer<typeof vSyncRequest>;

export const vHealthState = v.union(
  v.literal("ok"),
  v.literal("syncing"),
  v.literal("degraded"),
  v.literal("maintenance_window"),
  v.literal("in_use_elsewhere"),
  v.literal("needs_reauth"),
  v.literal("stale"),
  v.literal("worker_offline"),
  v.literal("disconnected"),
  v.literal("never_synced"),
);

/** How a connection is, derived at read time: one sentence to read and at most one thing to do. */
export const vHealth = v.object({
  action: v.string(),
  sentence: v.string(),
  since: v.number(),
  state: vHealthState,
  until: v.optional(v.number()),
  /** The address to open, where the action needs one. */
  url: v.optional(v.string()),
});
export type Health = Infer<typeof vHealth>;

/** What to do about an open problem; `none` where it ends by itself or is only told. */
export const vProblemAction = v.union(
  v.literal("check_flex_query"),
  v.literal("connect_account"),
  v.literal("disconnect"),
  v.literal("import_statement"),
  v.literal("log_in"),
  v.literal("none"),
  v.literal("retry_rejects"),
  v.literal("start_worker"),
  v.literal("sync_now"),
  v.literal("update_credentials"),
);
export type ProblemAction = Infer<typeof vProblemAction>;

/** The closed set of codes that functions throw: `ConvexError({code, message})`. */
export const vErrorCode = v.union(
  // To the app.
  v.literal("conflict"),
  v.literal("invalid_argument"),
  v.literal("not_authenticated"),
  v.literal("not_found"),
  // To the worker.
  v.literal("invalid_row"),
  v.literal("lease_lost"),
  v.literal("other_account"),
);
export type ErrorCode = Infer<typeof vErrorCode>;
