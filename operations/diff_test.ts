/** The divergence search on made-up recordings: against a simple model, and case by case. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { arbitraryEventOf } from "../hypervisor/rr_log/arbitrary_events.ts";
import { encodeEvent } from "../hypervisor/rr_log/events.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import type { DiffOptions, Progress } from "../lib/cli/ports.ts";
import type { DiffReport } from "../lib/diff/observation.ts";
import {
  type Cutting,
  RR_LOG_VERSION,
  type SyntheticItem,
  type SyntheticVm,
  writeRun,
} from "../lib/diff/testdata/synthetic_run.ts";
import { diff } from "./diff.ts";

const TABLE = tableForVersion(RR_LOG_VERSION);
const SILENT: Progress = { show: () => {}, note: () => {}, clear: () => {} };

function kindOf(name: string): number {
  const kind = TABLE.kinds.findIndex((each) => each.name === name);
  assert.ok(kind >= 0, name);
  return kind;
}

function run(instructions: number): SyntheticItem {
  const kind = kindOf("INSTRUCTION");
  const bytes = encodeEvent({ kind, type: "instruction", count: instructions }, TABLE);
  return { item: "event", bytes, instructions };
}

function plain(name: string): SyntheticItem {
  const bytes = encodeEvent({ kind: kindOf(name), type: "plain" }, TABLE);
  return { item: "event", bytes, instructions: 0 };
}

function clock(value: bigint): SyntheticItem {
  const bytes = encodeEvent({ kind: kindOf("CLOCK_HOST"), type: "clock", value }, TABLE);
  return { item: "event", bytes, instructions: 0 };
}

const frameOf = (text: string) => new TextEncoder().encode(text.padEnd(60, "."));
const send = (text: string): SyntheticItem => ({ item: "send", frame: frameOf(text) });
const whole = (text: string): SyntheticItem => ({ item: "frame", frame: frameOf(text) });
const refer = (source: number, number: number, text: string): SyntheticItem => ({
  item: "reference",
  source,
  number,
  frame: frameOf(text),
});

/** Writes two runs and compares them. */
async function compare(
  a: readonly SyntheticVm[],
  b: readonly SyntheticVm[],
  options: {
    cuttingA?: Cutting;
    cuttingB?: Cutting;
    guestOnly?: boolean;
    context?: number;
    damage?: (dir: string) => void;
  } = {},
): Promise<DiffReport> {
  const dir = Deno.makeTempDirSync({ prefix: "clrr-diff-" });
  try {
    const place = (name: string, vms: readonly SyntheticVm[], cutting?: Cutting) => ({
      kind: "recording" as const,
      path: writeRun(`${dir}/${name}`, vms, cutting),
    });
    const diffOptions: DiffOptions = {
      a: place("a", a, options.cuttingA),
      b: place("b", b, options.cuttingB),
      guestOnly: options.guestOnly ?? false,
      context: options.context ?? 5,
    };
    options.damage?.(`${dir}/b`);
    return await diff(diffOptions, SILENT, new AbortController().signal);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

const first = (report: DiffReport) => {
  const { vm, difference } = report.first!;
  return [vm, difference.kind, difference.icount];
};

Deno.test("instruction counts are QEMU's where the recordings start from a snapshot", async () => {
  const vm = (ram: number, value: bigint): SyntheticVm => ({
    name: "a",
    firstIcount: 1_000_000,
    items: [run(10), clock(1n), { item: "check", icount: 1_000_010, ram }, run(5), clock(value)],
  });
  const report = await compare([vm(1, 2n)], [vm(1, 3n)]);
  assert.deepEqual(first(report), ["a", "event", 1_000_015]);
  // A state that differs before an event does is the first difference.
  const earlier = await compare([vm(1, 2n)], [vm(2, 3n)], { context: 0 });
  assert.deepEqual(first(earlier), ["a", "check", 1_000_010]);
  assert.deepEqual(earlier.first!.difference.context, []);
});

// ---- the model: a VM's log as lists that can be compared with one line of code ----

interface Model {
  /** What is noticed, in order, with its instruction count. */
  readonly things: { icount: number; what: string }[];
  readonly sends: string[];
  readonly checks: Map<number, number>;
}

function modelOf({ items, complete = true }: SyntheticVm, vms: readonly SyntheticVm[]): Model {
  const model: Model = { things: [], sends: [], checks: new Map() };
  let icount = 0;
  for (const item of items) {
    if (item.item === "event" && item.instructions > 0) icount += item.instructions;
    else if (item.item === "event") model.things.push({ icount, what: item.bytes.toHex() });
    else if (item.item === "send") model.sends.push(item.frame.toHex());
    else if (item.item === "check") model.checks.set(item.icount, item.ram);
    else if (item.item === "frame") model.things.push({ icount, what: item.frame.toHex() });
    else {
      const sends = vms[item.source - 1]!.items.filter((each) => each.item === "send");
      const sent = sends[item.number]!.frame;
      model.things.push({ icount, what: `${item.source} ${sent.toHex()}` });
    }
  }
  model.things.push({ icount, what: `end ${complete}` });
  return model;
}

/** The kind of difference and its instruction count as far as the model knows them. */
function expected(a: Model, b: Model): { kinds: string[]; icount?: number } | undefined {
  const at = a.things.findIndex((thing, i) =>
    JSON.stringify(thing) !== JSON.stringify(b.things[i])
  );
  // The last thing of each is its end, so that no list is just the beginning of the other.
  const log = at < 0 ? Infinity : Math.min(a.things[at]!.icount, b.things[at]!.icount);
  const checks = [...a.checks].filter(([icount, ram]) => (b.checks.get(icount) ?? ram) !== ram);
  const check = Math.min(Infinity, ...checks.map(([icount]) => icount));
  const logKinds = ["event", "receive", "end"];
  if (check === log && check < Infinity) return { kinds: ["check", ...logKinds], icount: log };
  if (check < log) return { kinds: ["check"], icount: check };
  if (log < Infinity) return { kinds: logKinds, icount: log };
  return JSON.stringify(a.sends) === JSON.stringify(b.sends) ? undefined : { kinds: ["send"] };
}

function assertAsModelled(
  report: DiffReport,
  a: readonly SyntheticVm[],
  b: readonly SyntheticVm[],
): void {
  for (const [i, vm] of report.vms.entries()) {
    const model = modelOf(a[i]!, a);
    const wanted = expected(model, modelOf(b[i]!, b));
    const { difference } = vm;
    if (wanted === undefined) {
      assert.equal(difference, undefined, `${vm.vm}: ${difference?.what}`);
      assert.equal(vm.equal.sent, model.sends.length);
      assert.equal(vm.equal.instructions, model.things.at(-1)!.icount);
      continue;
    }
    assert.ok(difference !== undefined, `${vm.vm}: ${JSON.stringify(wanted)} was not found`);
    assert.ok(wanted.kinds.includes(difference.kind), `${difference.kind}: ${difference.what}`);
    if (wanted.icount !== undefined) assert.equal(difference.icount, wanted.icount);
  }
  const differing = report.vms.filter(({ difference }) => difference !== undefined);
  assert.equal(report.identical, differing.length === 0);
  assert.equal(report.first === undefined, differing.length === 0);
}

// ---- random runs ----

const PLAIN_KINDS = TABLE.kinds.flatMap(({ type }, kind) =>
  type === "frame" || type === "end" || type === "instruction" ? [] : [kind]
);
const arbitraryFrame = fc.uint8Array({ minLength: 1, maxLength: 90 }).map((frame) =>
  Uint8Array.from(frame)
);

const arbitraryItem: fc.Arbitrary<SyntheticItem> = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 2 ** 31 - 1 }).map(run) },
  {
    weight: 5,
    arbitrary: fc.constantFrom(...PLAIN_KINDS).chain((kind) => arbitraryEventOf(TABLE, kind)).map((
      event,
    ): SyntheticItem => ({ item: "event", bytes: encodeEvent(event, TABLE), instructions: 0 })),
  },
  { weight: 2, arbitrary: arbitraryFrame.map((frame) => ({ item: "send" as const, frame })) },
  arbitraryFrame.map((frame) => ({ item: "frame" as const, frame })),
  fc.tuple(fc.nat(1), fc.nat(50)).map(([source, number]): SyntheticItem => ({
    item: "reference",
    source: source + 1,
    number,
    frame: new Uint8Array(), // that of the send, filled in below
  })),
  fc.nat(255).map((ram): SyntheticItem => ({ item: "check", icount: 0, ram })),
);

/** Makes references name frames that were sent, and checks stand where they are. */
function settle(vms: readonly (readonly SyntheticItem[])[]): SyntheticVm[] {
  const sent = vms.map((items) => items.filter((item) => item.item === "send"));
  return vms.map((items, v) => {
    let icount = 0;
    let checkedAt = -1;
    return {
      name: ["client", "server"][v]!,
      items: items.flatMap((item): SyntheticItem[] => {
        if (item.item === "event") icount += item.instructions;
        if (item.item === "reference") {
          const frames = sent[item.source - 1]!;
          if (frames.length === 0) return [];
          const number = item.number % frames.length;
          return [{ ...item, number, frame: frames[number]!.frame }];
        }
        if (item.item !== "check") return [item];
        if (icount === checkedAt) return [];
        checkedAt = icount;
        return [{ ...item, icount }];
      }),
    };
  });
}

const arbitraryLogs = fc.tuple(
  fc.array(arbitraryItem, { maxLength: 60 }),
  fc.array(arbitraryItem, { maxLength: 60 }),
);
const arbitraryRun = arbitraryLogs.map(settle);

/** Blocks, segments and Lamport times of one recording. */
const arbitraryCutting: fc.Arbitrary<Cutting> = fc.record({
  blockBytes: fc.integer({ min: 1, max: 2000 }),
  segmentBytes: fc.integer({ min: 1, max: 4000 }),
  flushes: fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }),
  base: fc.bigInt(0n, 2n ** 60n),
  every: fc.integer({ min: 1, max: 20 }),
}).map(({ flushes, base, every, ...sizes }) => ({
  ...sizes,
  epoch: (i) => i % every === 0 ? 1 + i : undefined,
  flush: (i) => flushes[i % flushes.length]!,
  lamport: (i) => base + BigInt(2 * i),
}));

/** The same run, recorded differently. */
function recordedDifferently(vms: readonly SyntheticVm[], choices: readonly boolean[]) {
  let turn = 0;
  const choose = () => choices[turn++ % choices.length]!;
  return vms.map((vm): SyntheticVm => {
    const items: SyntheticItem[] = [];
    for (const item of vm.items) {
      if (item.item === "event" && item.instructions > 1 && choose()) {
        const part = Math.ceil(item.instructions / 3);
        items.push(run(part), run(item.instructions - part)); // a run that was cut by a stop
      } else if (item.item === "reference" && choose()) {
        items.push({ item: "frame", frame: item.frame }); // the recorder lost the event
      } else if (item.item === "check" && choose()) {
        continue; // taken at other times
      } else if (item.item === "send" && items.at(-1)?.item === "event" && choose()) {
        items.splice(-1, 0, item); // written earlier
      } else items.push(item);
    }
    return { ...vm, items };
  });
}

const choices = fc.array(fc.boolean(), { minLength: 1, maxLength: 11 });

Deno.test("property: one run that is recorded differently is identical", async () => {
  await fc.assert(
    fc.asyncProperty(
      arbitraryRun,
      choices,
      arbitraryCutting,
      arbitraryCutting,
      async (vms, how, cuttingA, cuttingB) => {
        const other = recordedDifferently(vms, how);
        const report = await compare(vms, other, { cuttingA, cuttingB });
        assert.equal(report.identical, true, report.first?.difference.what);
        for (const [i, { equal }] of report.vms.entries()) {
          const { things, sends } = modelOf(vms[i]!, vms);
          assert.equal(equal.events + equal.received - countRuns(vms[i]!), things.length - 1);
          assert.equal(equal.sent, sends.length);
          assert.equal(equal.instructions, things.at(-1)!.icount);
          assert.equal(equal.unproven, 0);
        }
      },
    ),
    { numRuns: 150 },
  );
});

function countRuns({ items }: SyntheticVm): number {
  return items.filter((item) => item.item === "event" && item.instructions > 0).length;
}

Deno.test("property: of a change of one item, exactly that item is found", async () => {
  const change = fc.tuple(
    fc.nat(1),
    fc.nat(),
    fc.constantFrom("replace", "remove", "insert", "cut"),
  );
  await fc.assert(
    fc.asyncProperty(
      arbitraryLogs,
      change,
      arbitraryItem,
      arbitraryCutting,
      arbitraryCutting,
      async (logs, [v, where, how], item, cuttingA, cuttingB) => {
        const changed = logs.map((items) => [...items]);
        const log = changed[v]!;
        const at = where % (log.length + 1);
        if (how === "replace") log.splice(at, 1, item);
        if (how === "remove") log.splice(at, 1);
        if (how === "insert") log.splice(at, 0, item);
        if (how === "cut") log.splice(at);
        const a = settle(logs);
        const b = settle(changed);
        assertAsModelled(await compare(a, b, { cuttingA, cuttingB }), a, b);
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test("property: any two runs are compared as the model says", async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryRun, arbitraryRun, async (a, b) => {
      assertAsModelled(await compare(a, b), a, b);
    }),
    { numRuns: 100 },
  );
});

// ---- case by case ----

const BOOT = [run(100), plain("INTERRUPT"), run(50), plain("EXCEPTION")];

Deno.test("an event at another instruction: both places, and what came before", async () => {
  const a = [...BOOT, run(7), plain("INTERRUPT"), run(1)];
  const b = [...BOOT, run(9), plain("INTERRUPT"), run(1)];
  const report = await compare([{ name: "vm", items: a }], [{ name: "vm", items: b }]);
  const { difference, equal } = report.vms[0]!;
  assert.equal(difference!.kind, "event");
  assert.equal(difference!.what, "INTERRUPT in A, 2 instructions before INTERRUPT in B");
  assert.deepEqual([difference!.a.icount, difference!.b.icount], [157, 159]);
  assert.deepEqual(difference!.context.map(({ icount, kind }) => [icount, kind]), [
    [100, "INTERRUPT"],
    [150, "EXCEPTION"],
  ]);
  assert.deepEqual([equal.events, equal.instructions], [4, 157]);
  const short = await compare([{ name: "vm", items: a }], [{ name: "vm", items: b }], {
    context: 1,
  });
  assert.deepEqual(short.vms[0]!.difference!.context, difference!.context.slice(-1));
});

Deno.test("context reaches back over blocks, and over all kinds of items", async () => {
  const items = [...BOOT, send("hello"), run(1), whole("from outside"), run(1), plain("INTERRUPT")];
  const b = [...items.slice(0, -1), plain("EXCEPTION")];
  const report = await compare([{ name: "vm", items }], [{ name: "vm", items: b }], {
    cuttingA: { flush: () => true },
  });
  const { context } = report.vms[0]!.difference!;
  assert.deepEqual(context.map(({ kind }) => kind), ["INTERRUPT", "EXCEPTION", "SEND", "RECEIVE"]);
});

Deno.test("clocks and checkpoints are left out with --guest-only, and only then", async () => {
  const log = (ns: bigint, checkpoints: number) => [
    clock(ns),
    ...Array.from({ length: checkpoints }, () => [run(3), plain("CHECKPOINT_CLOCK_VIRTUAL")])
      .flat(),
    run(100 - 3 * checkpoints),
    plain("INTERRUPT"),
    clock(ns + 1n),
  ];
  const vms = (ns: bigint, checkpoints: number) => [{ name: "vm", items: log(ns, checkpoints) }];
  const strict = await compare(vms(1n, 2), vms(2n, 5));
  assert.deepEqual(first(strict), ["vm", "event", 0]);
  assert.match(strict.first!.difference.what, /another CLOCK_HOST/);
  const guest = await compare(vms(1n, 2), vms(2n, 5), { guestOnly: true });
  assert.equal(guest.identical, true);
  const later = vms(2n, 5).map((vm) => ({
    ...vm,
    items: [...vm.items, run(1), plain("EXCEPTION")],
  }));
  const found = await compare(vms(1n, 2), later, { guestOnly: true });
  assert.deepEqual(first(found), ["vm", "end", 100]);
  assert.match(found.first!.difference.what, /A ends where B goes on/);
  assert.deepEqual(found.first!.difference.context.map(({ kind }) => kind), ["INTERRUPT"]);
});

Deno.test("a difference that travels: the VM where it began comes first", async () => {
  // The second VM's log differs earlier by its instruction count, but because of what it received.
  const vms = (text: string): SyntheticVm[] => [
    { name: "receiver", items: [run(5), refer(2, 0, text), run(5), plain("INTERRUPT")] },
    { name: "origin", items: [run(900), clock(BigInt(text.length)), run(1), send(text)] },
  ];
  const stamps = { lamport: (i: number) => i === 3 ? 10n : 11n };
  const report = await compare(vms("one"), vms("three"), { cuttingA: stamps, cuttingB: stamps });
  assert.deepEqual(first(report), ["origin", "event", 900]);
  assert.deepEqual(report.vms.map((vm) => vm.difference!.kind), ["receive", "event"]);
  assert.match(report.vms[0]!.difference!.what, /VM origin sent other bytes/);
  assert.equal(
    new TextDecoder().decode(
      Uint8Array.fromHex(report.vms[0]!.difference!.b.bytes!),
    ).slice(0, 6),
    "three.",
  );
});

Deno.test("the epoch is that of the last stamped item", async () => {
  const log = (name: string) => [send("a"), run(1), send("b"), run(1), plain(name), send("c")];
  const lamport = (i: number) => (BigInt(i) << 40n) + 1n;
  const report = await compare(
    [{ name: "vm", items: log("INTERRUPT") }],
    [{ name: "vm", items: log("EXCEPTION") }],
    { cuttingA: { lamport, blockBytes: 1 }, cuttingB: { lamport, blockBytes: 1 } },
  );
  assert.equal(report.first!.difference.epoch, 2);
});

Deno.test("the epoch is that of the last cut, where nothing was stamped since", async () => {
  const vms = (name: string) => [{ name: "vm", items: [send("a"), run(1), run(1), plain(name)] }];
  const cutting = { epoch: (i: number) => i > 0 ? 10 * i : undefined };
  const report = await compare(vms("INTERRUPT"), vms("EXCEPTION"), {
    cuttingA: cutting,
    cuttingB: { epoch: (i) => i === 1 ? 7 : undefined },
  });
  assert.equal(report.first!.difference.epoch, 30);
  assert.deepEqual(report.first!.difference.lamport, { a: 30n << 40n, b: 7n << 40n });
});

Deno.test("a reference equals another number, if the same bytes were sent", async () => {
  const sender = (texts: string[]): SyntheticVm => ({ name: "sender", items: texts.map(send) });
  const a = [sender(["x", "y"]), { name: "vm", items: [refer(1, 1, "y"), run(1)] }];
  const b = [sender(["y", "x"]), { name: "vm", items: [refer(1, 0, "y"), run(1)] }];
  const report = await compare(a, b);
  assert.equal(report.vms[1]!.difference, undefined);
  assert.equal(report.vms[0]!.difference!.kind, "send");
  // The same number, but another frame: found although the numbers are trusted at first.
  const same = [sender(["y", "x"]), { name: "vm", items: [refer(1, 1, "x"), run(1)] }];
  assert.equal((await compare(a, same)).vms[1]!.difference!.kind, "receive");
});

Deno.test("the same bytes of another VM are another frame", async () => {
  const senders = ["one", "two"].map((name) => ({ name, items: [send("same")] }));
  const vm = (source: number) => ({ name: "vm", items: [refer(source, 0, "same")] });
  const report = await compare([...senders, vm(1)], [...senders, vm(2)]);
  assert.match(report.first!.difference.what, /sent by VM one in A, by VM two in B/);
});

Deno.test("a padded frame that is kept whole equals the reference to the short one", async () => {
  const short = new TextEncoder().encode("short");
  const padded = new Uint8Array(60);
  padded.set(short);
  const sender: SyntheticVm = { name: "sender", items: [{ item: "send", frame: short }] };
  const reference: SyntheticItem = { item: "reference", source: 1, number: 0, frame: padded };
  const vm = (item: SyntheticItem) => [sender, { name: "vm", items: [item] }];
  const same = await compare(vm(reference), vm({ item: "frame", frame: padded }));
  assert.equal(same.identical, true);
  const wrong = padded.with(59, 1);
  const other = await compare(vm({ item: "frame", frame: wrong }), vm(reference));
  assert.equal(other.first!.difference.kind, "receive");
});

Deno.test("a send that differs comes first only if the log stays equal for long", async () => {
  const filler = Array.from({ length: 30_000 }, (_, i) => [run(1 + i % 7), plain("INTERRUPT")])
    .flat(); // 180 kB
  const log = (text: string, name: string, fillers: number) => [{
    name: "vm",
    items: [
      run(10),
      send(text),
      ...Array.from({ length: fillers }, () => filler).flat(),
      plain(name),
    ],
  }];
  const near = await compare(log("a", "INTERRUPT", 1), log("b", "EXCEPTION", 1));
  assert.equal(near.first!.difference.kind, "event");
  const far = await compare(log("a", "INTERRUPT", 13), log("b", "EXCEPTION", 13));
  assert.equal(far.first!.difference.kind, "send");
  assert.match(far.first!.difference.a.text, /^frame 0, 60 bytes/);
});

Deno.test("a VM that only one side has, and one side that sends more", async () => {
  const vm = { name: "vm", items: BOOT };
  const more = { name: "vm", items: [...BOOT, send("more")] };
  const lone = await compare([vm], [vm, { name: "other", items: BOOT }]);
  assert.deepEqual(first(lone), ["other", "vm", 0]);
  assert.match(lone.first!.difference.what, /only B has this VM/);
  const sends = await compare([more], [vm], { cuttingA: { flush: () => true } });
  assert.deepEqual(first(sends), ["vm", "send", 150]);
  assert.match(sends.first!.difference.what, /A sends a frame that B does not send/);
});

Deno.test("an incomplete log: where it ends early, and where both do", async () => {
  const cut = [{ name: "vm", items: BOOT.slice(0, 3), complete: false }];
  const report = await compare([{ name: "vm", items: BOOT }], cut);
  assert.deepEqual(first(report), ["vm", "end", 150]);
  assert.match(report.first!.difference.what, /B ends early where A goes on/);
  const both = await compare(cut, cut);
  assert.equal(both.identical, true);
  assert.deepEqual(both.vms[0]!.cutOff, { a: "closed early", b: "closed early" });
});

Deno.test("damage: compared up to there, and named with file and offset", async () => {
  const items = Array.from({ length: 400 }, () => BOOT).flat();
  const vms = [{ name: "vm", items }];
  const cuttingB = { blockBytes: 500 };
  const report = await compare(vms, vms, {
    cuttingB,
    damage(dir) {
      const path = `${dir}/vms/vm/hybrid-000000.seg`;
      const bytes = Deno.readFileSync(path);
      bytes[bytes.length >> 1]! ^= 1;
      Deno.writeFileSync(path, bytes);
    },
  });
  assert.equal(report.identical, false);
  const [vm] = report.vms;
  assert.match(vm!.damage.join(), /^Cannot read .*\/vms\/vm\/hybrid-000000\.seg at byte \d+: /);
  assert.equal(vm!.difference!.kind, "end");
  assert.ok(vm!.equal.events > 400 && vm!.equal.events < 1600, `${vm!.equal.events} events`);
});

Deno.test("equal logs, different consoles", async () => {
  const vm = { name: "vm", items: BOOT };
  const report = await compare([{ ...vm, console: "one\ntwo\n" }], [{
    ...vm,
    console: "one\ntoo\n",
  }]);
  assert.deepEqual(first(report), ["vm", "console", 150]);
  assert.deepEqual(report.vms[0]!.console, { result: "different", at: { byte: 5, line: 2 } });
});

Deno.test("a check that is logged late is found, and comes first by its instruction", async () => {
  const log = (ram: number, name: string): SyntheticVm[] => [{
    name: "vm",
    items: [...BOOT, run(10), plain(name), run(10), plain("INTERRUPT"), {
      item: "check",
      icount: 120,
      ram,
    }],
  }];
  const cutting = { cuttingA: { flush: () => true }, cuttingB: { blockBytes: 1 } };
  const report = await compare(log(1, "INTERRUPT"), log(2, "EXCEPTION"), cutting);
  assert.deepEqual(first(report), ["vm", "check", 120]);
  const same = await compare(log(1, "INTERRUPT"), log(1, "EXCEPTION"), cutting);
  assert.deepEqual(first(same), ["vm", "event", 160]);
});

Deno.test("an abort ends the comparison", async () => {
  const dir = Deno.makeTempDirSync({ prefix: "clrr-diff-" });
  try {
    const items = Array.from({ length: 20_000 }, () => BOOT).flat();
    const place = {
      kind: "recording" as const,
      path: writeRun(`${dir}/a`, [{ name: "vm", items }], { blockBytes: 500 }),
    };
    const options = { a: place, b: place, guestOnly: false, context: 5 };
    await assert.rejects(diff(options, SILENT, AbortSignal.abort(new Error("stopped"))), /stopped/);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});
