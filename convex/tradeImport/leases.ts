// A job's right to write: its lease.
import type { Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { refusal } from "./errors";
import { mayWrite } from "./rules/lease";
import { syncStateOf } from "./state";

/** The job, its connection and its lease, if the lease is still the job's. */
export async function heldLease(ctx: MutationCtx, args: { fence: number; jobId: Id<"importJobs"> }) {
  const job = await ctx.db.get("importJobs", args.jobId);
  const connection = job && (await ctx.db.get("brokerageConnections", job.connectionId));
  const state = connection && (await syncStateOf(ctx, connection._id));
  if (
    !job ||
    !connection ||
    !state?.lease ||
    !mayWrite({
      connectionStatus: connection.status,
      currentFence: state.fence,
      fence: args.fence,
      jobId: job._id,
      jobStatus: job.status,
      lease: state.lease,
    })
  ) {
    throw refusal("lease_lost", "This job no longer holds its connection.");
  }
  return { connection, job, lease: state.lease, state };
}
