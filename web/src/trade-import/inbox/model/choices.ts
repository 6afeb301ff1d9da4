// Which plans the chooser offers, the likeliest first.
import type { Campaign, Id, InboxRow, Plan } from "../../api";

type PlanFacts = Pick<Plan, "_creationTime" | "_id" | "campaignId" | "instrumentSymbol" | "name" | "status">;

export type PlanChoice = {
  campaign: string | null;
  id: Id<"tradePlans">;
  isClosed: boolean;
  name: string;
  /** It is about the instrument of the rows, or suggested for them. */
  why: "instrument" | "suggested" | null;
  symbol: string;
};

type Given = {
  campaigns: readonly Pick<Campaign, "_id" | "name">[];
  plans: readonly PlanFacts[];
  rows: readonly Pick<InboxRow, "suggestion" | "symbol">[];
  typed: string;
};

const MAX_SHOWN = 50;

/**
 * Without a word: open plans, suggested ones first, then those of the same instrument, then the newest. With words: all
 * plans whose name, symbol or campaign has each of them, those that begin with them first.
 */
export function planChoices({ campaigns, plans, rows, typed }: Given): PlanChoice[] {
  const words = wordsOf(typed);
  const suggested = new Set(rows.flatMap(({ suggestion }) => suggestion?.tradePlanId ?? []));
  const ranked: { choice: PlanChoice; made: number; rank: number }[] = [];
  for (const plan of plans) {
    const isClosed = plan.status === "closed";
    if (isClosed && words.length === 0) continue;
    const campaign = campaigns.find(({ _id }) => _id === plan.campaignId)?.name ?? null;
    const match = matchOf(words, plan.name, [plan.instrumentSymbol, campaign ?? ""]);
    if (match === null) continue;
    const fits = rows.some(({ symbol }) => sameInstrument(plan.instrumentSymbol, symbol));
    const why = suggested.has(plan._id) ? "suggested" : fits ? "instrument" : null;
    const choice: PlanChoice = { campaign, id: plan._id, isClosed, name: plan.name, symbol: plan.instrumentSymbol, why };
    const nearness = why === "suggested" ? 0 : why === "instrument" ? 1 : 2;
    ranked.push({ choice, made: plan._creationTime, rank: (isClosed ? 100 : 0) + match * 10 + nearness });
  }
  ranked.sort((a, b) => a.rank - b.rank || b.made - a.made);
  return ranked.slice(0, MAX_SHOWN).map(({ choice }) => choice);
}

export type CampaignChoice = { id: Id<"campaigns">; name: string; status: Campaign["status"] };

export function campaignChoices(campaigns: readonly Pick<Campaign, "_id" | "name" | "status">[], typed: string): CampaignChoice[] {
  const words = wordsOf(typed);
  return campaigns
    .flatMap(({ _id: id, name, status }) => {
      const match = status === "closed" && words.length === 0 ? null : matchOf(words, name, []);
      return match === null ? [] : { choice: { id, name, status }, rank: (status === "closed" ? 10 : 0) + match };
    })
    .sort((a, b) => a.rank - b.rank)
    .slice(0, MAX_SHOWN)
    .map(({ choice }) => choice);
}

function wordsOf(typed: string): string[] {
  return plain(typed).split(/\s+/).filter((word) => word !== "");
}

/** Without case and accents. */
function plain(text: string): string {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

/** 0 begins with what was typed, 1 a word does, 2 has it; null has it not. */
function matchOf(words: readonly string[], name: string, others: readonly string[]): 0 | 1 | 2 | null {
  const [first] = words;
  if (first === undefined) return 0;
  const text = plain(name);
  const everything = [text, ...others.map(plain)].join(" ");
  if (!words.every((word) => everything.includes(word))) return null;
  if (text.startsWith(words.join(" "))) return 0;
  return everything.split(/[\s/\-_.]+/).some((word) => word.startsWith(first)) ? 1 : 2;
}

/** Only for what comes first; the server knows better, and suggests. */
function sameInstrument(planSymbol: string, symbol: string): boolean {
  const bare = (text: string) => text.toUpperCase().replace(/XBT/g, "BTC").replace(/[^A-Z0-9]/g, "");
  const wanted = bare(planSymbol);
  return wanted !== "" && (wanted === bare(symbol) || wanted === bare(symbol.split("/")[0] ?? ""));
}
