/* eslint-disable */
/**
 * Generated `api` utility.
 *
 * THIS CODE IS AUTOMATICALLY GENERATED.
 *
 * To regenerate, run `npx convex dev`.
 * @module
 */

import type * as analytics from "../analytics.js";
import type * as campaignNotes from "../campaignNotes.js";
import type * as campaigns from "../campaigns.js";
import type * as crons from "../crons.js";
import type * as lib_plCalculation from "../lib/plCalculation.js";
import type * as portfolioSnapshots from "../portfolioSnapshots.js";
import type * as positions from "../positions.js";
import type * as tradeImport_access from "../tradeImport/access.js";
import type * as tradeImport_analytics from "../tradeImport/analytics.js";
import type * as tradeImport_authProvider from "../tradeImport/authProvider.js";
import type * as tradeImport_cancels from "../tradeImport/cancels.js";
import type * as tradeImport_comparison from "../tradeImport/comparison.js";
import type * as tradeImport_connections from "../tradeImport/connections.js";
import type * as tradeImport_crons from "../tradeImport/crons.js";
import type * as tradeImport_decisions from "../tradeImport/decisions.js";
import type * as tradeImport_env from "../tradeImport/env.js";
import type * as tradeImport_errors from "../tradeImport/errors.js";
import type * as tradeImport_inbox from "../tradeImport/inbox.js";
import type * as tradeImport_inboxRows from "../tradeImport/inboxRows.js";
import type * as tradeImport_ingestion from "../tradeImport/ingestion.js";
import type * as tradeImport_jobs from "../tradeImport/jobs.js";
import type * as tradeImport_journal from "../tradeImport/journal.js";
import type * as tradeImport_leases from "../tradeImport/leases.js";
import type * as tradeImport_maintenance from "../tradeImport/maintenance.js";
import type * as tradeImport_planChanges from "../tradeImport/planChanges.js";
import type * as tradeImport_positions from "../tradeImport/positions.js";
import type * as tradeImport_problems from "../tradeImport/problems.js";
import type * as tradeImport_pulse from "../tradeImport/pulse.js";
import type * as tradeImport_rejects from "../tradeImport/rejects.js";
import type * as tradeImport_removal from "../tradeImport/removal.js";
import type * as tradeImport_reports from "../tradeImport/reports.js";
import type * as tradeImport_rules_accounts from "../tradeImport/rules/accounts.js";
import type * as tradeImport_rules_analytics from "../tradeImport/rules/analytics.js";
import type * as tradeImport_rules_cancels from "../tradeImport/rules/cancels.js";
import type * as tradeImport_rules_completeness from "../tradeImport/rules/completeness.js";
import type * as tradeImport_rules_corrections from "../tradeImport/rules/corrections.js";
import type * as tradeImport_rules_credentials from "../tradeImport/rules/credentials.js";
import type * as tradeImport_rules_decimal from "../tradeImport/rules/decimal.js";
import type * as tradeImport_rules_derivation from "../tradeImport/rules/derivation.js";
import type * as tradeImport_rules_direction from "../tradeImport/rules/direction.js";
import type * as tradeImport_rules_health from "../tradeImport/rules/health.js";
import type * as tradeImport_rules_lease from "../tradeImport/rules/lease.js";
import type * as tradeImport_rules_linkage from "../tradeImport/rules/linkage.js";
import type * as tradeImport_rules_materialise from "../tradeImport/rules/materialise.js";
import type * as tradeImport_rules_planned from "../tradeImport/rules/planned.js";
import type * as tradeImport_rules_plans from "../tradeImport/rules/plans.js";
import type * as tradeImport_rules_problems from "../tradeImport/rules/problems.js";
import type * as tradeImport_rules_retention from "../tradeImport/rules/retention.js";
import type * as tradeImport_rules_schedule from "../tradeImport/rules/schedule.js";
import type * as tradeImport_rules_suggestion from "../tradeImport/rules/suggestion.js";
import type * as tradeImport_rules_symbols from "../tradeImport/rules/symbols.js";
import type * as tradeImport_rules_text from "../tradeImport/rules/text.js";
import type * as tradeImport_rules_twins from "../tradeImport/rules/twins.js";
import type * as tradeImport_rules_undo from "../tradeImport/rules/undo.js";
import type * as tradeImport_rules_views from "../tradeImport/rules/views.js";
import type * as tradeImport_state from "../tradeImport/state.js";
import type * as tradeImport_suggestions from "../tradeImport/suggestions.js";
import type * as tradeImport_sync from "../tradeImport/sync.js";
import type * as tradeImport_tables from "../tradeImport/tables.js";
import type * as tradeImport_twins from "../tradeImport/twins.js";
import type * as tradeImport_undo from "../tradeImport/undo.js";
import type * as tradeImport_validators from "../tradeImport/validators.js";
import type * as tradeImport_worker from "../tradeImport/worker.js";
import type * as tradePlans from "../tradePlans.js";
import type * as trades from "../trades.js";

import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";

declare const fullApi: ApiFromModules<{
  analytics: typeof analytics;
  campaignNotes: typeof campaignNotes;
  campaigns: typeof campaigns;
  crons: typeof crons;
  "lib/plCalculation": typeof lib_plCalculation;
  portfolioSnapshots: typeof portfolioSnapshots;
  positions: typeof positions;
  "tradeImport/access": typeof tradeImport_access;
  "tradeImport/analytics": typeof tradeImport_analytics;
  "tradeImport/authProvider": typeof tradeImport_authProvider;
  "tradeImport/cancels": typeof tradeImport_cancels;
  "tradeImport/comparison": typeof tradeImport_comparison;
  "tradeImport/connections": typeof tradeImport_connections;
  "tradeImport/crons": typeof tradeImport_crons;
  "tradeImport/decisions": typeof tradeImport_decisions;
  "tradeImport/env": typeof tradeImport_env;
  "tradeImport/errors": typeof tradeImport_errors;
  "tradeImport/inbox": typeof tradeImport_inbox;
  "tradeImport/inboxRows": typeof tradeImport_inboxRows;
  "tradeImport/ingestion": typeof tradeImport_ingestion;
  "tradeImport/jobs": typeof tradeImport_jobs;
  "tradeImport/journal": typeof tradeImport_journal;
  "tradeImport/leases": typeof tradeImport_leases;
  "tradeImport/maintenance": typeof tradeImport_maintenance;
  "tradeImport/planChanges": typeof tradeImport_planChanges;
  "tradeImport/positions": typeof tradeImport_positions;
  "tradeImport/problems": typeof tradeImport_problems;
  "tradeImport/pulse": typeof tradeImport_pulse;
  "tradeImport/rejects": typeof tradeImport_rejects;
  "tradeImport/removal": typeof tradeImport_removal;
  "tradeImport/reports": typeof tradeImport_reports;
  "tradeImport/rules/accounts": typeof tradeImport_rules_accounts;
  "tradeImport/rules/analytics": typeof tradeImport_rules_analytics;
  "tradeImport/rules/cancels": typeof tradeImport_rules_cancels;
  "tradeImport/rules/completeness": typeof tradeImport_rules_completeness;
  "tradeImport/rules/corrections": typeof tradeImport_rules_corrections;
  "tradeImport/rules/credentials": typeof tradeImport_rules_credentials;
  "tradeImport/rules/decimal": typeof tradeImport_rules_decimal;
  "tradeImport/rules/derivation": typeof tradeImport_rules_derivation;
  "tradeImport/rules/direction": typeof tradeImport_rules_direction;
  "tradeImport/rules/health": typeof tradeImport_rules_health;
  "tradeImport/rules/lease": typeof tradeImport_rules_lease;
  "tradeImport/rules/linkage": typeof tradeImport_rules_linkage;
  "tradeImport/rules/materialise": typeof tradeImport_rules_materialise;
  "tradeImport/rules/planned": typeof tradeImport_rules_planned;
  "tradeImport/rules/plans": typeof tradeImport_rules_plans;
  "tradeImport/rules/problems": typeof tradeImport_rules_problems;
  "tradeImport/rules/retention": typeof tradeImport_rules_retention;
  "tradeImport/rules/schedule": typeof tradeImport_rules_schedule;
  "tradeImport/rules/suggestion": typeof tradeImport_rules_suggestion;
  "tradeImport/rules/symbols": typeof tradeImport_rules_symbols;
  "tradeImport/rules/text": typeof tradeImport_rules_text;
  "tradeImport/rules/twins": typeof tradeImport_rules_twins;
  "tradeImport/rules/undo": typeof tradeImport_rules_undo;
  "tradeImport/rules/views": typeof tradeImport_rules_views;
  "tradeImport/state": typeof tradeImport_state;
  "tradeImport/suggestions": typeof tradeImport_suggestions;
  "tradeImport/sync": typeof tradeImport_sync;
  "tradeImport/tables": typeof tradeImport_tables;
  "tradeImport/twins": typeof tradeImport_twins;
  "tradeImport/undo": typeof tradeImport_undo;
  "tradeImport/validators": typeof tradeImport_validators;
  "tradeImport/worker": typeof tradeImport_worker;
  tradePlans: typeof tradePlans;
  trades: typeof trades;
}>;

/**
 * A utility for referencing Convex functions in your app's public API.
 *
 * Usage:
 * ```js
 * const myFunctionReference = api.myModule.myFunction;
 * ```
 */
export declare const api: FilterApi<
  typeof fullApi,
  FunctionReference<any, "public">
>;

/**
 * A utility for referencing Convex functions in your app's internal API.
 *
 * Usage:
 * ```js
 * const myFunctionReference = internal.myModule.myFunction;
 * ```
 */
export declare const internal: FilterApi<
  typeof fullApi,
  FunctionReference<any, "internal">
>;

export declare const components: {};
