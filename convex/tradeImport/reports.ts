// Raw Flex reports, kept compressed and in parts, so that a mended parser can read them again. The worker's alone.
import { v } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { workerMutation, workerQuery } from "./access";
import { asOf, differenceOf } from "./comparison";
import { notFound, refusal } from "./errors";
import { heldLease } from "./leases";
import { vConnectionKind, vDifference, vExecution, vSource, type Source } from "./validators";

/** Of one connection and one kind of report: a month of daily statements. */
export const MAX_KEPT = 30;

/** Well below the megabyte of a document. */
const MAX_PART_BYTES = 600_000;
/** All parts of a report are deleted in one transaction, which reads them for it, and may read 16 MiB. */
const MAX_PARTS = 24;

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
    /** Digest of all parts together: the same content may come in other bytes. */
    bytes: v.string(),
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
    const { bytes, digest, parts, size, source } = args;
    if (!Number.isInteger(parts) || parts < 0 || parts > MAX_PARTS) {
      throw refusal("invalid_row", `A report has at most ${MAX_PARTS} parts.`);
    }
    const found = await ctx.db
      .query("importReports")
      .withIndex("by_connectionId_and_digest", (q) => q.eq("connectionId", connection._id).eq("digest", digest))
      .unique();
    // Parts of other bytes do not fit to those that were kept before a job died.
    const known = found !== null && (isWhole(found) || found.bytes === bytes) ? found : null;
    if (found !== null && known === null) await drop(ctx, found);
    const reportId =
      known?._id ??
      (await ctx.db.insert("importReports", {
        bytes,
        connectionId: connection._id,
        digest,
        importJobId: job._id,
        ownerId: connection.ownerId,
        partIds: [],
        parts,
        size,
        source,
      }));
    const reportIds = job.reportIds ?? [];
    if (!reportIds.includes(reportId)) {
      await ctx.db.patch("importJobs", job._id, { reportIds: [...reportIds, reportId] });
    }
    if (found === null) await dropOldest(ctx, connection._id, source);
    return { parts: known?.parts ?? parts, partsKept: known?.partIds.length ?? 0, reportId };
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
    const { partIds } = report;
    if (args.part > partIds.length || args.part >= report.parts) {
      throw refusal("invalid_row", "The parts of a report come in order.");
    }
    if (args.part < partIds.length) return null;
    const { data, part, reportId } = args;
    const partId = await ctx.db.insert("importReportParts", { data, part, reportId });
    await ctx.db.patch("importReports", report._id, { partIds: [...partIds, partId] });
    return null;
  },
  returns: v.null(),
});

/** One at most, and no more than one comes with each report. */
async function dropOldest(ctx: MutationCtx, connectionId: Id<"brokerageConnections">, source: Source) {
  const kept = await ctx.db
    .query("importReports")
    .withIndex("by_connectionId_and_source", (q) => q.eq("connectionId", connectionId).eq("source", source))
    .take(MAX_KEPT + 1);
  const [oldest] = kept;
  if (oldest !== undefined && kept.length > MAX_KEPT) await drop(ctx, oldest);
}

async function drop(ctx: MutationCtx, report: Doc<"importReports">) {
  for (const partId of report.partIds) await ctx.db.delete("importReportParts", partId);
  await ctx.db.delete("importReports", report._id);
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
    const kept = reports.filter((report) => report !== null && isWhole(report)) as Doc<"importReports">[];
    return {
      accountRef: connection.accountRef ?? null,
      connectionId: connection._id,
      /** Reports that were received and are not kept any more, or not whole. */
      dropped: reports.length - kept.length,
      importFrom: connection.settings.importFrom ?? null,
      kind: connection.kind,
      reports: kept.map(viewOf),
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
    const seenAt = await asOf(ctx, job);
    return await Promise.all(args.executions.map((execution) => differenceOf(ctx, job, seenAt, execution)));
  },
  returns: v.array(vDifference),
});

function isWhole(report: Doc<"importReports">): boolean {
  return report.parts === report.partIds.length;
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
