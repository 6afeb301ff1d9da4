// When suggestions have to be made anew: the open plans are not those for which they were made.

/** Changes with any open plan that comes, goes or gets another symbol; of equal length however many there are. */
export function fingerprintOf(plans: ReadonlyArray<{ _id: string; instrumentSymbol: string }>): string {
  const text = plans
    .map(({ _id, instrumentSymbol }) => JSON.stringify([_id, instrumentSymbol]))
    .sort()
    .join();
  return `${plans.length}:${hash(text, 0x811c9dc5)}${hash(text, 0x9e3779b9)}`;
}

/** FNV-1a: an accident would only leave a suggestion as it is until the next change. */
function hash(text: string, seed: number): string {
  let value = seed;
  for (let index = 0; index < text.length; index += 1) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  return (value >>> 0).toString(16).padStart(8, "0");
}
