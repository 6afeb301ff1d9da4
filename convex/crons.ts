import { cronJobs } from "convex/server";
import { registerTradeImportCrons } from "./tradeImport/crons";

const crons = cronJobs();
registerTradeImportCrons(crons);

export default crons;
