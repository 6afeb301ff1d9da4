// Faults that tests order in advance: the next calls of a function fail in a given way.

/**
 * `die_*` close the connection without (or, on the socket, right after) an answer; `hang` never answers;
 * `refuse` answers with a status of its own; `conflict` is a mutation that lost against others too often.
 */
export const FAULT_KINDS = [
  "die_before_commit",
  "die_after_commit",
  "die_before_transition",
  "refuse",
  "conflict",
  "delay",
  "hang",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  /** `module:function`, or `*`. */
  readonly function: string;
  readonly kind: FaultKind;
  /** How many calls fail; 1 unless given. */
  times: number;
  /** How many calls pass before the first one fails. */
  skip: number;
  /** Of `delay`. */
  readonly ms?: number;
  /** Of `refuse`. */
  readonly status?: number;
  readonly body?: string;
  readonly contentType?: string;
}

export class FaultBook {
  private faults: Fault[] = [];

  order(fault: unknown): Fault {
    const ordered = parseFault(fault);
    this.faults.push(ordered);
    return ordered;
  }

  clear(): void {
    this.faults = [];
  }

  pending(): readonly Fault[] {
    return this.faults;
  }

  /** The fault of this call, if one was ordered. HTTP has no transitions, so those wait for a socket. */
  take(path: string, channel: "http" | "socket"): Fault | null {
    for (const fault of this.faults) {
      if (fault.function !== "*" && fault.function !== path) continue;
      if (fault.kind === "die_before_transition" && channel === "http") continue;
      if (fault.skip > 0) {
        fault.skip -= 1;
        continue;
      }
      fault.times -= 1;
      if (fault.times === 0) this.faults = this.faults.filter((other) => other !== fault);
      return fault;
    }
    return null;
  }
}

function parseFault(input: unknown): Fault {
  const given = (input ?? {}) as Partial<Fault>;
  if (typeof given.function !== "string") throw new Error("A fault needs the name of a function, or *.");
  if (!FAULT_KINDS.some((kind) => kind === given.kind)) {
    throw new Error(`A fault's kind is one of ${FAULT_KINDS.join(", ")}.`);
  }
  const { times = 1, skip = 0 } = given;
  if (!(Number.isInteger(times) && times > 0 && Number.isInteger(skip) && skip >= 0)) {
    throw new Error("A fault's times must be a whole number above 0, its skip one from 0 on.");
  }
  return { ...(given as Fault), times, skip };
}
