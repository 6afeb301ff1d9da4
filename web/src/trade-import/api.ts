// The one door to the app's Convex functions.
import { type FunctionReturnType } from "convex/server";
import { api } from "~/convex/_generated/api";

export { api };
export type { Id } from "~/convex/_generated/dataModel";

export type Connection = FunctionReturnType<typeof api.tradeImport.connections.list>[number];
export type Health = Connection["health"];
export type ConnectionKind = Connection["kind"];
export type Job = FunctionReturnType<typeof api.tradeImport.jobs.list>["page"][number];
export type InboxRow = FunctionReturnType<typeof api.tradeImport.inbox.list>["page"][number];
export type Plan = FunctionReturnType<typeof api.tradePlans.listTradePlans>[number];
export type Campaign = FunctionReturnType<typeof api.campaigns.listCampaigns>[number];
