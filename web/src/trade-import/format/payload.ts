// A broker's row as it came, made readable: indented where it is JSON, itself where it is not.
import { visible } from "./foreign";

/** Longer than this is cut: a page shows, it does not archive. */
const MOST = 20_000;

export function payload(text: string): string {
  const shown = indented(text.slice(0, MOST));
  return text.length > MOST ? `${visible(shown)}\n… ${text.length - MOST} more characters` : visible(shown);
}

const TOKEN = /"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** By its marks only: every number stays as it was written, which a parsed one would not. */
function indented(text: string): string {
  if (!isJson(text)) return text;
  let depth = 0;
  let last = "";
  let out = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const token of text.match(TOKEN) ?? []) {
    const opened = last === "{" || last === "[";
    if (token === "}" || token === "]") {
      depth -= 1;
      out += opened ? token : line() + token;
    } else {
      if (opened || last === ",") out += line();
      out += token === ":" ? ": " : token;
      if (token === "{" || token === "[") depth += 1;
    }
    last = token;
  }
  return out;
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}
