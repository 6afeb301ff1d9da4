import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();

crons.daily("daily note", { hourUTC: 3, minuteUTC: 7 }, internal.notes.addScheduled, { text: "from a cron" });

export default crons;
