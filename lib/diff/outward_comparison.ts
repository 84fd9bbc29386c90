/**
 * Compares what two runs of one VM did outwardly, in lockstep, up to the first difference. For traces,
 * which have no more. Memory: one line or block of each side and some hundred checks.
 */
import { describeCheck, describeEnd, describeSent } from "./describe.ts";
import type { LogDiff } from "./log_comparison.ts";
import type { Difference, Ended, Observed, Sent } from "./observation.ts";
import type { OutwardSource } from "./outward.ts";
import { CheckPairs, sameSend, type SideName } from "./pairs.ts";
import { later, placeOf } from "./stamps.ts";

/** Between two turns of others. */
const TURN_THINGS = 1000;

type Next = { readonly thing: Sent | Ended; readonly near: number };
type Found = Pick<Difference, "kind" | "what" | "a" | "b">;

export class OutwardComparison {
  readonly #sources: Record<SideName, OutwardSource>;
  readonly #checks = new CheckPairs<Record<SideName, bigint | null>>();
  readonly #lamport: Record<SideName, bigint | null> = { a: null, b: null };
  readonly #past: { readonly sent: Sent; readonly near: number }[] = [];
  #sent = 0;
  #things = 0;

  constructor(a: OutwardSource, b: OutwardSource, private readonly context: number) {
    this.#sources = { a, b };
  }

  /** Yields now and then, so that the caller can let others have their turn. */
  *run(): Generator<void, LogDiff> {
    try {
      for (;;) {
        const a = yield* this.#next("a");
        const b = yield* this.#next("b");
        const done = a.thing.item === "end" && b.thing.item === "end";
        const found = this.#checkFound() ?? this.#difference(a, b);
        if (found !== undefined || done) return this.#conclude(a, b, found);
        this.#sent++;
        if (a.thing.item === "send") this.#past.push({ sent: a.thing, near: a.near });
        if (this.#past.length > this.context) this.#past.shift();
      }
    } finally {
      this.#sources.a.close();
      this.#sources.b.close();
    }
  }

  /** The next send or the end of a side; checks are paired on the way. */
  *#next(name: SideName): Generator<void, Next> {
    for (;;) {
      if (++this.#things % TURN_THINGS === 0) yield;
      const { thing, near } = this.#sources[name].next();
      if (thing.item === "check") this.#checks.add(name, thing, { ...this.#lamport });
      else {
        if (thing.item === "send") {
          this.#lamport[name] = later(this.#lamport[name], thing.lamport ?? null);
        }
        return { thing, near };
      }
    }
  }

  #checkFound(): Found | undefined {
    const { mismatch } = this.#checks;
    if (mismatch === undefined) return undefined;
    const { a, b } = mismatch;
    const shown = { a: describeCheck(a, b), b: describeCheck(b, a) };
    return { kind: "check", what: "another state of the machine", ...shown };
  }

  #difference(a: Next, b: Next): Found | undefined {
    const shown = { a: describe(a), b: describe(b) };
    if (a.thing.item === "send" && b.thing.item === "send") {
      if (sameSend(a.thing, b.thing)) return undefined;
      return { kind: "send", what: "another sent frame", ...shown };
    }
    if (a.thing.item === "end" && b.thing.item === "end") {
      const same = a.thing.complete === b.thing.complete &&
        divergence(a.thing) === divergence(b.thing);
      return same ? undefined : { kind: "end", what: "the runs end differently", ...shown };
    }
    const aEnds = a.thing.item === "end";
    const end = (aEnds ? a.thing : b.thing) as Ended;
    const [ending, other] = aEnds ? ["A", "B"] : ["B", "A"];
    return end.complete
      ? { kind: "send", what: `${other} sends a frame that ${ending} does not send`, ...shown }
      : { kind: "end", what: `${ending} ends early where ${other} goes on`, ...shown };
  }

  #conclude(a: Next, b: Next, found: Found | undefined): LogDiff {
    const near = Math.min(a.near, b.near);
    const lamport = found?.kind === "check" ? this.#lamportAtCheck() : { ...this.#lamport };
    return {
      equal: {
        instructions: found === undefined ? near : Math.min(found.a.icount, found.b.icount),
        events: 0,
        received: 0,
        sent: this.#sent,
        checks: this.#checks.equal,
        logBytes: 0,
        unproven: 0,
      },
      ends: {
        ...(a.thing.item === "end" ? { a: a.thing } : {}),
        ...(b.thing.item === "end" ? { b: b.thing } : {}),
      },
      lamport: { ...this.#lamport },
      trusted: new Map(),
      ramsNotCompared: this.#checks.ramsNotCompared,
      ...(found === undefined ? {} : {
        difference: {
          ...found,
          icount: Math.min(found.a.icount, found.b.icount),
          ...placeOf(lamport),
          context: this.#past.map(({ sent, near }) => describeSent(sent, near)),
        },
      }),
    };
  }

  #lamportAtCheck(): Difference["lamport"] {
    const { markA, markB } = this.#checks.mismatch!;
    return { a: markA.a, b: markB.b };
  }
}

function describe({ thing, near }: Next): Observed {
  return thing.item === "send" ? describeSent(thing, near) : describeEnd(thing, near);
}

/** What a replay diverged by: two replays that diverge in the same way are equal. */
function divergence({ reason }: Ended): string {
  return reason.startsWith("diverged: ") ? reason : "";
}
