// What the problems' lines need beside what the server says of them.

/** The account that a sentence names as not connected, to fill in the form with. */
export function accountToConnect(sentence: string): string | null {
  return /account (\S{1,40}), which is not connected/.exec(sentence)?.[1] ?? null;
}

export function retrySentence({ marked, more }: { marked: number; more: boolean }): string {
  if (marked === 0) return "There is nothing left to retry.";
  const rows = `${marked} ${marked === 1 ? "row is" : "rows are"} read again by the next sync, which starts in a moment.`;
  return more ? `${rows} Press again for the rest.` : rows;
}
