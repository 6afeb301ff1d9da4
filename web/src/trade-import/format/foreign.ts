// Text that strangers wrote, made safe to look at.

/** Controls that change how the text around them is drawn, or are not drawn at all. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

/** The same text with every unseen character as its number: `\u202e`. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
}

/** At most `most` characters, and whether any were left out. */
export function clipped(text: string, most: number): { cut: boolean; text: string } {
  if (text.length <= most) return { cut: false, text };
  // No half of a surrogate pair at the end.
  const end = /[\ud800-\udbff]/.test(text.charAt(most - 2)) ? most - 2 : most - 1;
  return { cut: true, text: `${text.slice(0, end)}…` };
}
