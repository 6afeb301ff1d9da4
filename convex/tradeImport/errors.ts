import { ConvexError } from "convex/values";
import type { ErrorCode } from "./validators";

/** An expected refusal. Its data reaches the caller in production too, where other messages are redacted. */
export function refusal(code: ErrorCode, message: string) {
  return new ConvexError({ code, message });
}

/** The one answer for what does not exist and for what is somebody else's. */
export function notFound(what: string) {
  return refusal("not_found", `${what} not found.`);
}
