/**
 * Backward execution by seeking: there is no way back in a VM, but every place can be reached again from
 * an earlier one.
 *
 * ```
 *  stepBack       seek ──s──s──s──▶ here      the places on the way are the trail; the one before `here`
 *                                             is the answer: seek again, step up to it
 *  continueBack   ... ◀── window 16 N ──┼── window N ──▶ here
 *                 seek to a window's start, run with the breakpoints, note each hit; the last one before
 *                 `here` wins, and if there is none, a longer window follows
 * ```
 *
 * Measured on QEMU 7.2: breakpoints, watchpoints and single steps are exact in a replay, at the ends of
 * instruction runs too (README.md here).
 */
import { ClusterrrError } from "../../lib/errors.ts";
import { isSamePlace, type Place, type Target, wasPaused } from "./target.ts";
import type { Stop } from "./stub.ts";

/** Where a reverse command has ended up, and why there. */
export type Arrival =
  | { readonly kind: "stepped" | "breakpoint" | "begin" | "interrupted" }
  /** Just before the access; `watch` is that part of the stop reply. */
  | { readonly kind: "watchpoint"; readonly watch: string };

/** A breakpoint (stopped before the instruction) or watchpoint (stopped after the access) met. */
interface Hit {
  readonly place: Place;
  /** Empty for a breakpoint. */
  readonly watch: string;
}

/** How the search is paced; a test takes small numbers to have many windows. */
export interface TimelinePace {
  /** The first window of a search, in instructions: a few milliseconds of a VM's time. */
  readonly windowFirst: number;
  /** How much longer each next window is. */
  readonly windowGrowth: number;
  /** After so many hits in a row the search leaps ahead instead of counting on. */
  readonly hitsMax: number;
  /** How far back a trail is laid. */
  readonly trailSteps: number;
}

export const PACE_DEFAULT: TimelinePace = {
  windowFirst: 1 << 20,
  windowGrowth: 16,
  hitsMax: 64,
  trailSteps: 32,
};

/** A window reaches a little into the one after it, so that an access at the seam is in one of them. */
const OVERLAP = 16;
/** Below that, leaping ahead is not worth a seek. */
const LEAP_MIN = 4096;

export class Timeline {
  /** Consecutive places, known from having stepped through them. */
  #trail: Place[] = [];

  constructor(
    private readonly target: Target,
    private readonly pace: TimelinePace = PACE_DEFAULT,
  ) {}

  /** Goes back by one instruction, or by the delivery of an interrupt or exception. */
  async stepBack(): Promise<Arrival> {
    const here = await this.target.place();
    return await this.#goBefore(here) ? { kind: "stepped" } : await this.#begin();
  }

  /** Goes back to the last breakpoint before here, or to before the last watched access. */
  async continueBack(): Promise<Arrival> {
    const { vm, breakpoints } = this.target;
    const here = await this.target.place();
    let limit = here.icount;
    let window = this.pace.windowFirst;
    while (breakpoints.size > 0 && limit > vm.firstIcount) {
      const from = this.#standBefore(here.icount - window);
      await this.target.seek(from);
      const hit = await this.#lastHit(limit);
      if (this.target.interrupted) {
        await this.#returnTo(here);
        return { kind: "interrupted" };
      }
      if (hit !== undefined) return await this.#arriveAt(hit);
      if (from <= vm.firstIcount) break;
      limit = Math.min(limit, from + OVERLAP);
      window *= this.pace.windowGrowth;
    }
    return await this.#begin();
  }

  async #begin(): Promise<Arrival> {
    await this.target.seek(this.target.vm.firstIcount);
    return { kind: "begin" };
  }

  async #arriveAt({ place, watch }: Hit): Promise<Arrival> {
    if (watch === "") {
      await this.#goTo(place);
      return { kind: "breakpoint" };
    }
    return await this.#goBefore(place) ? { kind: "watchpoint", watch } : await this.#begin();
  }

  /** The last hit from where the VM stands up to `limit`; nothing where there is none. */
  async #lastHit(limit: number): Promise<Hit | undefined> {
    let last: Hit | undefined;
    let end = limit;
    let count = 0;
    while (true) {
      const hit = await this.#nextHit(last, end);
      if (hit === undefined || this.target.interrupted) return last;
      last = hit;
      count++;
      if (count < this.pace.hitsMax || end - hit.place.icount < LEAP_MIN) continue;
      // Many hits: leap over half of the rest and look there first.
      const middle = this.#standBefore((hit.place.icount + end) / 2);
      if (middle <= hit.place.icount) continue;
      requireAlive(await this.target.runThrough(middle));
      const later = await this.#lastHit(end);
      if (later !== undefined || this.target.interrupted) return later;
      await this.target.seek(this.#standBefore(hit.place.icount));
      last = undefined; // met again at once
      end = Math.min(end, middle + OVERLAP);
      count = 0;
    }
  }

  /**
   * Goes on to the next hit: a breakpoint before `limit`, or an access by an instruction before it.
   * @param after the hit where the VM stands, if it does
   */
  async #nextHit(after: Hit | undefined, limit: number): Promise<Hit | undefined> {
    const { target } = this;
    if (after !== undefined && after.watch === "") {
      // A single step does not stop at the breakpoint where it starts; a run would.
      const { watch } = requireAlive(await target.step());
      const place = await target.place();
      if (place.icount > limit) return undefined;
      if (watch !== "") return { place, watch };
    }
    const end = this.#standBefore(limit - 1);
    if (await target.vm.icount() < end) {
      const stop = requireAlive(await target.run(end));
      if (!wasPaused(stop)) return { place: await target.place(), watch: stop.watch };
      if (target.interrupted) return undefined;
    }
    return await this.#stepToHit(limit);
  }

  /** The last instructions before `limit`, where a run cannot be made to end. */
  async #stepToHit(limit: number): Promise<Hit | undefined> {
    const { target } = this;
    let place = await target.place();
    while (place.icount < limit) {
      if (target.breakpoints.stopsBefore(place.pc)) return { place, watch: "" };
      const { watch } = requireAlive(await target.step());
      place = await target.place();
      if (watch !== "" && place.icount <= limit) return { place, watch };
    }
    return undefined;
  }

  /** Goes to the place one step before `here`; false where `here` is the first one. */
  async #goBefore(here: Place): Promise<boolean> {
    let index = this.#trail.findIndex((place) => isSamePlace(place, here));
    if (index < 1) {
      if (here.icount <= this.target.vm.firstIcount) return false;
      await this.#layTrail(here);
      index = this.#trail.length - 1;
      if (index < 1) return false; // where a recording starts from a snapshot, nothing is before it
    }
    await this.#goTo(this.#trail[index - 1]!);
    return true;
  }

  /** Steps up to `here` from a little before it. */
  async #layTrail(here: Place): Promise<void> {
    await this.target.seek(this.#standBefore(here.icount - this.pace.trailSteps));
    const trail = [await this.target.place()];
    while (!isSamePlace(trail.at(-1)!, here) && trail.at(-1)!.icount <= here.icount) {
      requireAlive(await this.target.step());
      trail.push(await this.target.place());
    }
    // A CPU that sleeps at `here` is woken by the step to it: `here` itself is then not seen.
    this.#trail = isSamePlace(trail.at(-1)!, here)
      ? trail
      : [...trail.filter((place) => place.icount < here.icount), here];
  }

  /** @throws {ClusterrrError} where `place` is not met again */
  async #goTo(place: Place): Promise<void> {
    if (await this.#reaches(place)) return;
    throw new ClusterrrError(
      `VM ${this.target.vm.name}: instruction ${place.icount} was not found again: ` +
        `this replay is not the one before`,
    );
  }

  /** Seeks and steps to `place`; false where it is not met: the VM is then just behind it. */
  async #reaches(place: Place): Promise<boolean> {
    await this.target.seek(this.#standBefore(place.icount));
    let at = await this.target.place();
    while (!isSamePlace(at, place)) {
      if (at.icount > place.icount) return false;
      requireAlive(await this.target.step());
      at = await this.target.place();
    }
    return true;
  }

  /** Comes back from a search. A place where the CPU slept is not met by steps: then just before it. */
  async #returnTo(place: Place): Promise<void> {
    if (!await this.#reaches(place)) await this.target.seek(this.#standBefore(place.icount));
  }

  #standBefore(icount: number): number {
    const { vm } = this.target;
    return vm.standBefore(Math.max(vm.firstIcount, Math.floor(icount)));
  }
}

/** @throws {ClusterrrError} where the VM has ended in the middle of what it had done before */
function requireAlive(stop: Stop): Stop {
  if (stop.exited) throw new ClusterrrError("the VM ended on the way: see the replay's messages");
  return stop;
}
