/** Where a clock is missing that a replay reads, and which one. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeEvents } from "./events.ts";
import { stoppedTimerMender } from "./stopped_timer.ts";
import { tableForVersion } from "./tables.ts";

const TABLE = tableForVersion(0xe0200c);
const kindOf = (name: string) => TABLE.kinds.findIndex((kind) => kind.name === name);

/** An event by a short name; clocks with their time, `f`: a received frame. */
type Word = "start" | "account" | "timers" | "virtual" | "reset" | "int" | "f" | number;

const NAMES = {
  start: "CHECKPOINT_CLOCK_WARP_START",
  account: "CHECKPOINT_CLOCK_WARP_ACCOUNT",
  timers: "CHECKPOINT_CLOCK_VIRTUAL_RT",
  virtual: "CHECKPOINT_CLOCK_VIRTUAL",
  reset: "CHECKPOINT_RESET_REQUESTED",
  int: "INTERRUPT",
};

function bytesOf(word: Exclude<Word, "f">): number[] {
  if (typeof word !== "number") return [kindOf(NAMES[word])];
  const time = new Uint8Array(8);
  new DataView(time.buffer).setBigInt64(0, BigInt(word));
  return [kindOf("CLOCK_VIRTUAL_RT"), ...time];
}

function wordsOf(bytes: Uint8Array): Word[] {
  return [...decodeEvents(bytes.slice(), TABLE, "test")].map((event): Word => {
    if (event.type === "clock") return Number(event.value);
    return Object.entries(NAMES).find(([, name]) => name === event.name)![0] as Word;
  });
}

/** Mends a log whose events come in stretches of the given lengths. */
function mend(words: readonly Word[], stretches: readonly number[] = [Infinity]): Word[] {
  const mender = stoppedTimerMender(TABLE);
  const out: Word[] = [];
  let stretch: number[] = [];
  let length = 0;
  let next = 0;
  const flush = () => {
    out.push(...wordsOf(mender.events(Uint8Array.from(stretch))));
    stretch = [];
    length = 0;
  };
  for (const word of words) {
    if (word === "f") {
      flush();
      const missing = mender.beforeFrame();
      if (missing !== undefined) out.push(...wordsOf(missing));
      out.push("f");
      continue;
    }
    stretch.push(...bytesOf(word));
    if (++length >= stretches[next % stretches.length]!) {
      flush();
      next++;
    }
  }
  flush();
  return out;
}

Deno.test("a reset between the timers and the clock of how long to sleep: nothing is missing", () => {
  // As recorded at a guest's reboot.
  const log: Word[] = ["account", "start", 17, "timers", 20, "reset", 86, "timers", 95, 98, "f"];
  assert.deepEqual(mend(log), log);
  // And where no clock follows, it is missing there.
  const stopped: Word[] = ["start", 17, "timers", 20, "reset", "account"];
  assert.deepEqual(mend(stopped), ["start", 17, "timers", 20, "reset", 17, "account"]);
});

Deno.test("a timer that fired while its VM was stopped reads the time at which the sleep began", () => {
  // As recorded under load: the frame behind the stop was taken for the clock.
  const log: Word[] = ["account", "start", 60, "timers", 66, 72, "timers", 99, "f", "account"];
  const mended: Word[] = [
    "account",
    "start",
    60,
    "timers",
    66,
    72,
    "timers",
    99,
    60,
    "f",
    "account",
  ];
  assert.deepEqual(mend(log), mended);
  const other: Word[] = ["start", 60, "timers", 66, 72, "timers", 99, "account", "int"];
  assert.deepEqual(mend(other), [
    "start",
    60,
    "timers",
    66,
    72,
    "timers",
    99,
    60,
    "account",
    "int",
  ]);
});

Deno.test("the sleep began at the first start that set the timer since it was off", () => {
  assert.deepEqual(
    mend([
      "start",
      1,
      "account",
      "start",
      2,
      "start",
      3,
      "timers",
      4,
      5,
      "start",
      6,
      "timers",
      7,
      "int",
    ]),
    [
      "start",
      1,
      "account",
      "start",
      2,
      "start",
      3,
      "timers",
      4,
      5,
      "start",
      6,
      "timers",
      7,
      3,
      "int",
    ],
  );
  // Once only: it has fired.
  const twice: Word[] = ["start", 3, "timers", 4, "int", "timers", 5, "int"];
  assert.deepEqual(mend(twice), ["start", 3, "timers", 4, 3, "int", "timers", 5, "int"]);
});

Deno.test("nothing is put into a log without such a stop", () => {
  const logs: Word[][] = [
    ["start", 60, "timers", 66, 72, "start", 80, "timers", 81, 82, "account", "f"],
    ["account", 7, "start", 8, "account", "int", "timers", 9, "int"],
    ["start", 60, "account", "virtual", "f"],
    ["start", 60, "timers", 66], // the log ends there
  ];
  for (const log of logs) assert.deepEqual(mend(log), log);
});

Deno.test("property: how the log comes in makes no difference, and nothing but clocks is put in", () => {
  const word = fc.oneof(
    fc.constantFrom<Word>("start", "account", "timers", "virtual", "int", "f"),
    fc.nat({ max: 50 }),
  );
  fc.assert(fc.property(
    fc.array(word, { maxLength: 60 }),
    fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 }),
    (log, stretches) => {
      const whole = mend(log);
      assert.deepEqual(mend(log, stretches), whole);
      let at = 0;
      for (const each of whole) {
        if (each === log[at]) at++;
        else assert.equal(typeof each, "number");
      }
      assert.equal(at, log.length);
    },
  ));
});
