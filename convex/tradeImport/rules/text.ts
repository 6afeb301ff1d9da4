// Text from elsewhere on its way to a person: one short line, whatever it was.

const MAX_SENTENCE = 1_000;

/** The first line, without control characters, credentials in addresses, or anything after an address's path. */
export function plainSentence(text: string): string {
  const [line = ""] = text.trim().split(/[\r\n]/);
  const clean = line.replace(/\p{C}/gu, "").replace(/\bhttps?:\/\/[^\s<>"']+/gi, (url) => plainUrl(url) ?? "…");
  return clean.length > MAX_SENTENCE ? `${clean.slice(0, MAX_SENTENCE)}…` : clean;
}

/** An address to open in a browser, without what may be secret in it; undefined where it is none. */
export function plainUrl(text: string): string | undefined {
  const [, origin, path = ""] = /^(https?:\/\/)(?:[^/?#@]*@)?([^?#]*)/i.exec(text.trim()) ?? [];
  return origin === undefined || path === "" ? undefined : `${origin.toLowerCase()}${path}`;
}
