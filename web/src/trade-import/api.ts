// The one door to the app's Convex functions.
import { type FunctionReturnType } from "convex/server";
import { api } from "~/convex/_generated/api";

export { api };
export { checkAuth, checkSettings } from "~/convex/tradeImport/rules/credentials";
export type { Auth, ConnectionSettings, SyncRequest } from "~/convex/tradeImport/validators";
export type { Id } from "~/convex/_generated/dataModel";

export type Connection = FunctionReturnType<typeof api.tradeImport.connections.list>[number];
export type Health = Connection["health"];
export type ConnectionKind = Connection["kind"];
export type Job = FunctionReturnType<typeof api.tradeImport.jobs.list>["page"][number];
export type InboxRow = FunctionReturnType<typeof api.tradeImport.inbox.list>["page"][number];
export type Plan = FunctionReturnType<typeof api.tradePlans.listTradePlans>[number];
export type Campaign = FunctionReturnType<typeof api.campaigns.listCampaigns>[number];
export type HeldRow = FunctionReturnType<typeof api.tradeImport.inbox.held>["page"][number];
export type JobRow = FunctionReturnType<typeof api.tradeImport.jobs.rows>["page"][number];
export type OpenProblem = FunctionReturnType<typeof api.tradeImport.jobs.openProblems>[number];
export type RejectRow = FunctionReturnType<typeof api.tradeImport.inbox.rejects>["page"][number];
