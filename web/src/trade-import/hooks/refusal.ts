import { ConvexError } from "convex/values";

/** The sentence of a refused call, for people; a plain one where the server hides it. */
export function sentenceOf(error: unknown): string {
  if (error instanceof ConvexError) {
    const data: unknown = error.data;
    if (typeof data === "object" && data !== null && "message" in data && typeof data.message === "string") return data.message;
  }
  return "This did not work. Try again; if it stays so, reload the page.";
}
