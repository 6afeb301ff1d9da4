// Raw Flex reports, kept compressed and in parts, so that a mended parser can read them again. The worker's alone.
import { v } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { workerMutation, workerQuery } from "./access";
import { differenceOf } from "./comparison";
import { notFound, refusal } from "./errors";
import { heldLease } from "./leases";
import { vConnectionKind, vDifference, vExecution, vSource, type Source } from "./validators";

/** Of one connection and one kind of report: a month of daily statements. */
export const MAX_KEPT = 30;

/** Well below the megabyte of a document. */
const MAX_PART_BYTES = 600_000;
const MAX_PARTS = 40;

const MAX_COMPARED = 500;

const vReport = v.object({
  digest: v.string(),
  keptAt: v.number(),
  /** 0: the report was too large to be kept. */
  parts: v.number(),
  reportId: v.id("importReports"),
  size: v.number(),
  source: vSource,
});

/**
 * Notes that a job received a report, and makes room for its parts. A report that is known already is not kept
 * twice: `partsKept` says with which part to go on.
 */
export const begin = workerMutation({
  args: {
    /** Of the report's content, as the worker computes it. */
    digest: v.string(),
    fence: v.number(),
    jobId: v.id("importJobs"),
    parts: v.number(),
    /** Bytes before compression. */
    size: v.number(),
    source: vSource,
  },
  handler: async (ctx, args) => {
    const { connection, job } = await heldLease(ctx, args);
    const { digest, parts, size, source } = args;
    if (!Number.isInteger(parts) || parts < 0 || parts > MAX_PARTS) {
      throw refusal("invalid_row", `A report has at most ${MAX_PARTS} parts.`);
    }
    const known = await ctx.db
      .query("importReports")
      .withIndex("by_connectionId_and_digest", (q) => q.eq("connectionId", connection._id).eq("digest", digest))
      .unique();
    const reportId =
      known?._id ??
      (await ctx.db.insert("importReports", {
        connectionId: connection._id,
        digest,
        importJobId: job._id,
        ownerId: connection.ownerId,
        parts,
        partsKept: 0,
        size,
        source,
      }));
    const reportIds = job.reportIds ?? [];
    if (!reportIds.includes(reportId)) {
      await ctx.db.patch("importJobs", job._id, { reportIds: [...reportIds, reportId] });
    }
    if (known === null) await dropOldest(ctx, connection._id, source);
    return { parts: known?.parts ?? parts, partsKept: known?.partsKept ?? 0, reportId };
  },
  returns: v.object({ parts: v.number(), partsKept: v.number(), reportId: v.id("importReports") }),
});

/** Keeps one part, in order; one that is kept already is not kept again. */
export const keep = workerMutation({
  args: {
    data: v.bytes(),
    fence: v.number(),
    jobId: v.id("importJobs"),
    part: v.number(),
    reportId: v.id("importReports"),
  },
  handler: async (ctx, args) => {
    const { connection } = await heldLease(ctx, args);
    const report = await ctx.db.get("importReports", args.reportId);
    if (report?.connectionId !== connection._id) throw notFound("Report");
    if (args.data.byteLength > MAX_PART_BYTES) {
      throw refusal("invalid_row", `A part of a report has at most ${MAX_PART_BYTES} bytes.`);
    }
    if (args.part > report.partsKept || args.part >= report.parts) {
      throw refusal("invalid_row", "The parts of a report come in order.");
    }
    if (args.part < report.partsKept) return null;
    await ctx.db.insert("importReportParts", { data: args.data, part: args.part, reportId: report._id });
    await ctx.db.patch("importReports", report._id, { partsKept: report.partsKept + 1 });
    return null;
  },
  returns: v.null(),
});

/** Two at most: a call stays far below the limits of a transaction, and no more than one comes with each report. */
async function dropOldest(ctx: MutationCtx, connectionId: Id<"brokerageConnections">, source: Source) {
  const kept = await ctx.db
    .query("importReports")
    .withIndex("by_connectionId_and_source", (q) => q.eq("connectionId", connectionId).eq("source", source))
    .take(MAX_KEPT + 2);
  for (const report of kept.slice(0, Math.max(0, kept.length - MAX_KEPT))) {
    const parts = await partsOf(ctx, report._id);
    for (const { _id } of parts) await ctx.db.delete("importReportParts", _id);
    await ctx.db.delete("importReports", report._id);
  }
}

async function partsOf(ctx: QueryCtx, reportId: Id<"importReports">): Promise<Doc<"importReportParts">[]> {
  return await ctx.db
    .query("importReportParts")
    .withIndex("by_reportId_and_part", (q) => q.eq("reportId", reportId))
    .take(MAX_PARTS);
}

/** The reports that a job received and that are kept whole, or null for a job that is not known. */
export const ofJob = workerQuery({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const jobId = ctx.db.normalizeId("importJobs", args.jobId);
    const job = jobId && (await ctx.db.get("importJobs", jobId));
    const connection = job && (await ctx.db.get("brokerageConnections", job.connectionId));
    if (!job || !connection) return null;
    const reports = await Promise.all((job.reportIds ?? []).map((id) => ctx.db.get("importReports", id)));
    const kept = reports.filter((report) => report !== null);
    return {
      accountRef: connection.accountRef ?? null,
      connectionId: connection._id,
      /** Reports that were received and are no longer kept. */
      dropped: reports.length - kept.length,
      importFrom: connection.settings.importFrom ?? null,
      kind: connection.kind,
      reports: kept.filter(isWhole).map(viewOf),
    };
  },
  returns: v.union(
    v.null(),
    v.object({
      accountRef: v.union(v.string(), v.null()),
      connectionId: v.id("brokerageConnections"),
      dropped: v.number(),
      importFrom: v.union(v.number(), v.null()),
      kind: vConnectionKind,
      reports: v.array(vReport),
    }),
  ),
});

/** A part of a report, as it was sent; null where there is none. */
export const part = workerQuery({
  args: { part: v.number(), reportId: v.id("importReports") },
  handler: async (ctx, args) => {
    const found = await ctx.db
      .query("importReportParts")
      .withIndex("by_reportId_and_part", (q) => q.eq("reportId", args.reportId).eq("part", args.part))
      .unique();
    return found?.data ?? null;
  },
  returns: v.union(v.null(), v.bytes()),
});

/**
 * What storing these rows, as read again from the reports of a job, would change. Nothing is written. Raises
 * `not_found` for a job that is not known.
 */
export const compare = workerQuery({
  args: { executions: v.array(vExecution), jobId: v.id("importJobs") },
  handler: async (ctx, args) => {
    if (args.executions.length > MAX_COMPARED) {
      throw refusal("invalid_row", `At most ${MAX_COMPARED} rows are compared at once.`);
    }
    const job = await ctx.db.get("importJobs", args.jobId);
    if (job === null) throw notFound("Job");
    return await Promise.all(args.executions.map((execution) => differenceOf(ctx, job, execution)));
  },
  returns: v.array(vDifference),
});

function isWhole(report: Doc<"importReports">): boolean {
  return report.parts === report.partsKept;
}

function viewOf(report: Doc<"importReports">) {
  return {
    digest: report.digest,
    keptAt: report._creationTime,
    parts: report.parts,
    reportId: report._id,
    size: report.size,
    source: report.source,
  };
}
