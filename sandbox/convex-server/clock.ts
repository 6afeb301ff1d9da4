// The machine's own: inside functions Date leads here.
const machineNow = Date.now;

interface Pending {
  readonly callback: () => void;
  readonly due: number;
  timer?: NodeJS.Timeout;
}

/** The longest delay setTimeout takes; later ones wait in steps. */
const MAX_DELAY = 2 ** 31 - 1;

/** The deployment's clock: the machine's plus an offset, with timers that notice when the offset changes. */
export class Clock {
  private offset = 0;
  private readonly pending = new Set<Pending>();

  now(): number {
    return machineNow() + this.offset;
  }

  shift(offset: number): void {
    this.offset = offset;
    for (const entry of this.pending) {
      clearTimeout(entry.timer);
      this.arm(entry);
    }
  }

  schedule(callback: () => void, delay: number): void {
    const entry: Pending = { callback, due: this.now() + delay };
    this.pending.add(entry);
    this.arm(entry);
  }

  cancelAll(): void {
    for (const { timer } of this.pending) clearTimeout(timer);
    this.pending.clear();
  }

  private arm(entry: Pending): void {
    const delay = Math.min(Math.max(0, entry.due - this.now()), MAX_DELAY);
    entry.timer = setTimeout(() => {
      if (entry.due > this.now()) {
        this.arm(entry);
        return;
      }
      this.pending.delete(entry);
      entry.callback();
    }, delay);
  }
}
