import assert from "node:assert/strict";
import { MemoryTerminal } from "./command_fixture.ts";
import { createProgress } from "./progress.ts";
import type { ProgressState } from "./ports.ts";

const ESCAPE = "\x1b";

function recording(frames: number, rrLogBytes: number): ProgressState {
  return {
    phase: "recording",
    vms: [
      { name: "client", frames, storedBytes: 1_210_000, rrLogBytes },
      { name: "dns", frames: 1, storedBytes: 900, rrLogBytes: 0 },
    ],
  };
}

Deno.test("without a terminal: plain lines, seldom, no escape codes", () => {
  const terminal = new MemoryTerminal();
  let nowMs = 0;
  const progress = createProgress(terminal, () => nowMs);
  progress.show({ phase: "booting", vms: [] });
  progress.show({ phase: "booting", vms: [] });
  for (nowMs = 500; nowMs <= 7_000; nowMs += 10) {
    progress.show(recording(nowMs, nowMs * 310));
  }
  progress.note("the VM client is slow");
  progress.clear();
  assert.equal(
    terminal.stderr,
    "booting\n" +
      "recording: client 500 frames, 1.21 MB stored; dns 1 frame, 900 B stored\n" +
      "recording 3.0 s: client 3,500 frames, 1.21 MB stored, rr log 310 kB/s; " +
      "dns 1 frame, 900 B stored, rr log 0 B/s\n" +
      "recording 6.0 s: client 6,500 frames, 1.21 MB stored, rr log 310 kB/s; " +
      "dns 1 frame, 900 B stored, rr log 0 B/s\n" +
      "the VM client is slow\n",
  );
  assert.ok(!terminal.stderr.includes(ESCAPE));
});

Deno.test("without a terminal: many VMs are summed, the slowest counts", () => {
  const terminal = new MemoryTerminal();
  const vms = Array.from({ length: 5 }, (_, i) => ({
    name: `vm${i}`,
    frames: 1000,
    fraction: (i + 1) / 10,
  }));
  createProgress(terminal, () => 0).show({ phase: "replaying", fraction: 0.3, vms });
  assert.equal(terminal.stderr, "replaying 30 %: 5 VMs 10 %, 5,000 frames\n");
});

/** What stands on a screen after `written`: understands the two escape codes that are used. */
function screenOf(written: string): string[] {
  const lines: string[] = [];
  const code = new RegExp(`${ESCAPE}\\[(\\d+)A${ESCAPE}\\[J`);
  for (let rest = written; rest !== "";) {
    const up = code.exec(rest);
    const end = up === null ? rest.length : up.index;
    lines.push(...rest.slice(0, end).split("\n").slice(0, -1));
    if (up !== null) lines.length -= Number(up[1]);
    rest = rest.slice(end + (up?.[0].length ?? 0));
  }
  return lines;
}

Deno.test("on a terminal: lines are redrawn in place and gone at the end", () => {
  const terminal = new MemoryTerminal();
  terminal.errLive = true;
  let nowMs = 0;
  const progress = createProgress(terminal, () => nowMs);
  progress.show({ phase: "booting", vms: [{ name: "client", status: "booting" }] });
  nowMs = 100;
  progress.show(recording(10, 0));
  nowMs = 150;
  progress.show(recording(99, 0)); // too soon to be drawn
  assert.deepEqual(screenOf(terminal.stderr), [
    "recording  0.0 s",
    "  client  10 frames   1.21 MB stored",
    "  dns       1 frame     900 B stored",
  ]);
  nowMs = 1_200;
  progress.show(recording(1_204, 341_000));
  assert.deepEqual(screenOf(terminal.stderr), [
    "recording  1.1 s",
    "  client  1,204 frames   1.21 MB stored   rr log 310 kB/s",
    "  dns          1 frame     900 B stored      rr log 0 B/s",
  ]);
  progress.note("a note that stays");
  progress.show(recording(1_300, 400_000));
  assert.equal(screenOf(terminal.stderr)[0], "a note that stays");
  progress.clear();
  progress.clear();
  assert.deepEqual(screenOf(terminal.stderr), ["a note that stays"]);
});

Deno.test("on a terminal: a replay shows how far each VM is", () => {
  const terminal = new MemoryTerminal();
  terminal.errLive = true;
  createProgress(terminal, () => 0).show({
    phase: "replaying",
    vms: [
      { name: "client", fraction: 0.42, frames: 7 },
      { name: "server", fraction: 1, status: "ended" },
    ],
  });
  assert.deepEqual(screenOf(terminal.stderr), [
    "replaying  0.0 s",
    "  client  [########------------]  42 %   7 frames",
    "  server  ended",
  ]);
});

Deno.test("on a terminal: no line reaches the margin, no screen overflows", () => {
  const terminal = new MemoryTerminal();
  Object.assign(terminal, { errLive: true, columns: 30, rows: 8 });
  const vms = Array.from({ length: 40 }, (_, i) => ({
    name: `a-rather-long-name-${i}`,
    frames: 1_000_000,
    storedBytes: 1e9,
  }));
  createProgress(terminal, () => 0).show({ phase: "recording", vms });
  const lines = screenOf(terminal.stderr);
  assert.equal(lines.length, 7);
  assert.equal(lines.at(-1), "  and 35 more VMs");
  for (const line of lines) assert.ok(line.length < 30, line);
});

Deno.test("colours only where they are wanted", () => {
  const terminal = new MemoryTerminal();
  Object.assign(terminal, { errLive: true, errColor: true });
  createProgress(terminal, () => 0).show({ phase: "booting", vms: [] });
  assert.equal(terminal.stderr, "\x1b[1mbooting  0.0 s\x1b[22m\n");
});
