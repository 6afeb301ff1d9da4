// What an action did, in one sentence.
import type { InboxRow } from "../../api";
import { clipped, visible } from "../../format/foreign";
import { grouped, sum } from "./decimal";
import { rowsOf, shared, type Line } from "./lines";
import type { Link } from "./decisions";

/** A stranger's word inside a sentence: its direction stays its own. */
export function quoted(text: string, most = 32): string {
  return `\u2068${clipped(visible(text), most).text}\u2069`;
}

/** «BTC/USD, buy 0.5», «BTC/USD, 4 fills», «12 rows». */
export function nameOf(rows: readonly InboxRow[]): string {
  const [first] = rows;
  const symbol = shared(rows, (row) => row.symbol);
  if (first === undefined || symbol === undefined) return countOf(rows.length, "row");
  if (rows.length > 1) return `${quoted(symbol)}, ${countOf(rows.length, "fill")}`;
  return `${quoted(symbol)}, ${first.side ?? "change of"} ${quoted(grouped(first.quantity))}`;
}

export function countOf(count: number, what: string): string {
  return `${grouped(String(count))} ${what}${count === 1 ? "" : "s"}`;
}

export function reviewedWith(rows: readonly InboxRow[], link: Link, plans: readonly { name: string }[]): string {
  const what = nameOf(rows);
  switch (link.kind) {
    case "accept": {
      const [plan, ...others] = plans;
      return plan !== undefined && others.length === 0 ? `${what}: saved with “${quoted(plan.name)}”.` : `${what}: saved with ${countOf(plans.length, "plan")}.`;
    }
    case "blank":
      return `${what}: saved without a plan.`;
    case "campaign":
    case "plan":
      return `${what}: saved with “${quoted(link.name)}”.`;
  }
}

/** A line as a screen reader reads it. */
export function readOut(line: Line): string {
  const rows = rowsOf(line);
  const [first] = rows;
  if (first === undefined) return "";
  const plan = shared(rows, (row) => (row.plan ?? (row.status === "pending_review" ? row.suggestion : null))?.name ?? null);
  const quantity = sum(rows.map((row) => row.quantity));
  const parts = [
    `${quoted(first.symbol)}, ${first.side ?? ""} ${quantity === null ? "" : grouped(quantity)}`,
    line.kind === "order" ? `order of ${countOf(rows.length, "fill")}` : `at ${quoted(grouped(first.price))}`,
    first.direction === null ? "" : `${(first.direction === "long") === (first.side === "buy") ? "opens" : "closes"} ${first.direction}`,
    plan === undefined ? "several plans suggested" : plan === null ? "no plan" : `${first.plan === null ? "suggested plan" : "plan"} ${quoted(plan)}`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}
