/**
 * Shows live numbers on standard error while a command works: a few lines redrawn in place on a
 * terminal, else a plain line now and then.
 *
 * ```
 * recording  12.3 s
 *   client   1,204 frames   1.21 MB stored   rr log 310 kB/s
 *   server   2,310 frames   1.90 MB stored   rr log 402 kB/s
 * ```
 */
import type { Progress, ProgressState, VmProgress } from "./ports.ts";
import { formatBytes, formatCount, formatPercent, formatSeconds } from "./quantities.ts";
import { paint, type Terminal } from "./terminal.ts";
import { plural } from "./table.ts";

/** A redraw in place at most this often. */
const LIVE_INTERVAL_MS = 100;
/** A plain line at most this often, but for a new phase. */
const PLAIN_INTERVAL_MS = 3_000;
/** Rates are taken over at least this time, so that they do not flicker. */
const RATE_INTERVAL_MS = 1_000;
const BAR_CELLS = 20;
/** Plain lines name each VM up to this number, and sums beyond. */
const PLAIN_VMS_MAX = 4;

export const SILENT: Progress = { show() {}, note() {}, clear() {} };

/** Progress on `terminal`. `now` is milliseconds of any steady clock. */
export function createProgress(
  terminal: Terminal,
  now: () => number = () => performance.now(),
): Progress {
  return terminal.errLive ? new LiveProgress(terminal, now) : new PlainProgress(terminal, now);
}

/** The rr log's rate of each VM, from successive byte counts. */
class Rates {
  readonly #last = new Map<string, { bytes: number; atMs: number; rate: number | undefined }>();

  /** Bytes a second, or `undefined` until two counts lie far enough apart. */
  of(vm: VmProgress, nowMs: number): number | undefined {
    if (vm.rrLogBytes === undefined) return undefined;
    const last = this.#last.get(vm.name);
    if (last === undefined) {
      this.#last.set(vm.name, { bytes: vm.rrLogBytes, atMs: nowMs, rate: undefined });
      return undefined;
    }
    const elapsedMs = nowMs - last.atMs;
    if (elapsedMs < RATE_INTERVAL_MS) return last.rate;
    const rate = Math.max(0, (vm.rrLogBytes - last.bytes) * 1000 / elapsedMs);
    this.#last.set(vm.name, { bytes: vm.rrLogBytes, atMs: nowMs, rate });
    return rate;
  }
}

/** When a phase began, and what to call it. */
class Phases {
  #name = "";
  #sinceMs = 0;

  /** Whether `name` is a phase that has just begun. */
  enter(name: string, nowMs: number): boolean {
    if (name === this.#name) return false;
    this.#name = name;
    this.#sinceMs = nowMs;
    return true;
  }

  elapsed(nowMs: number): string {
    return formatSeconds((nowMs - this.#sinceMs) / 1000);
  }
}

/** The cells that describe one VM. */
function cellsOf(vm: VmProgress, rate: number | undefined): string[] {
  if (vm.status !== undefined) return [vm.status];
  const cells: string[] = [];
  if (vm.fraction !== undefined) cells.push(formatPercent(vm.fraction));
  if (vm.frames !== undefined) cells.push(plural(vm.frames, "frame").replace(/^\d+/, formatDigits));
  if (vm.storedBytes !== undefined) cells.push(`${formatBytes(vm.storedBytes)} stored`);
  if (rate !== undefined) cells.push(`rr log ${formatBytes(Math.round(rate))}/s`);
  return cells;
}

const formatDigits = (digits: string) => formatCount(Number(digits));

/** Lines redrawn in place. */
class LiveProgress implements Progress {
  readonly #terminal: Terminal;
  readonly #now: () => number;
  readonly #rates = new Rates();
  readonly #phases = new Phases();
  #drawnLines = 0;
  #drawnAtMs = -Infinity;

  constructor(terminal: Terminal, now: () => number) {
    this.#terminal = terminal;
    this.#now = now;
  }

  show(state: ProgressState): void {
    const nowMs = this.#now();
    const begins = this.#phases.enter(state.phase, nowMs);
    if (!begins && nowMs - this.#drawnAtMs < LIVE_INTERVAL_MS) return;
    const lines = this.#render(state, nowMs);
    this.#terminal.err(this.#erasure() + lines.map((line) => line + "\n").join(""));
    this.#drawnLines = lines.length;
    this.#drawnAtMs = nowMs;
  }

  note(line: string): void {
    this.#terminal.err(this.#erasure() + line + "\n");
    this.#drawnLines = 0;
    this.#drawnAtMs = -Infinity;
  }

  clear(): void {
    if (this.#drawnLines > 0) this.#terminal.err(this.#erasure());
    this.#drawnLines = 0;
  }

  #erasure(): string {
    return this.#drawnLines === 0 ? "" : `\x1b[${this.#drawnLines}A\x1b[J`;
  }

  #render(state: ProgressState, nowMs: number): string[] {
    const style = paint(this.#terminal.errColor);
    const { columns, rows } = this.#terminal.size();
    const total = state.fraction === undefined ? "" : `  ${formatPercent(state.fraction)}`;
    const head = `${state.phase}  ${this.#phases.elapsed(nowMs)}${total}`;
    const shown = state.vms.slice(0, Math.max(1, rows - 3));
    const nameWidth = Math.max(0, ...shown.map((vm) => vm.name.length));
    const cells = shown.map((vm) => cellsOf(vm, this.#rates.of(vm, nowMs)));
    const widths = columnWidths(cells);
    const lines = [style.bold(cut(head, columns))];
    for (const [i, vm] of shown.entries()) {
      const bar = vm.fraction === undefined || vm.status !== undefined ? "" : `${drawBar(vm)}  `;
      const text = cells[i]!.map((cell, c) => cell.padStart(widths[c]!)).join("   ");
      lines.push(cut(`  ${vm.name.padEnd(nameWidth)}  ${bar}${text}`, columns));
    }
    const hidden = state.vms.length - shown.length;
    if (hidden > 0) lines.push(cut(`  and ${plural(hidden, "more VM", "more VMs")}`, columns));
    return lines;
  }
}

/** Column widths over VMs that show numbers; a lone status has no columns. */
function columnWidths(cells: readonly (readonly string[])[]): number[] {
  const widths: number[] = [];
  for (const row of cells) {
    if (row.length < 2) continue;
    for (const [c, cell] of row.entries()) widths[c] = Math.max(widths[c] ?? 0, cell.length);
  }
  return widths.length === 0 ? [0, 0, 0, 0] : [...widths, 0, 0, 0, 0];
}

/** Cut so that a line never wraps: a wrapped line could not be erased. */
function cut(line: string, columns: number): string {
  return line.length < columns ? line : line.slice(0, Math.max(0, columns - 2)) + "…";
}

function drawBar(vm: VmProgress): string {
  const full = Math.floor(Math.min(1, Math.max(0, vm.fraction ?? 0)) * BAR_CELLS);
  return `[${"#".repeat(full)}${"-".repeat(BAR_CELLS - full)}]`;
}

/** Whole lines, seldom: for logs and CI. No escape codes. */
class PlainProgress implements Progress {
  readonly #terminal: Terminal;
  readonly #now: () => number;
  readonly #rates = new Rates();
  readonly #phases = new Phases();
  #saidAtMs = -Infinity;

  constructor(terminal: Terminal, now: () => number) {
    this.#terminal = terminal;
    this.#now = now;
  }

  show(state: ProgressState): void {
    const nowMs = this.#now();
    const begins = this.#phases.enter(state.phase, nowMs);
    if (!begins && nowMs - this.#saidAtMs < PLAIN_INTERVAL_MS) return;
    this.#saidAtMs = nowMs;
    const vms = state.vms.length <= PLAIN_VMS_MAX ? state.vms : [sumOf(state.vms)];
    const parts = vms
      .map((vm) => [vm.name, cellsOf(vm, this.#rates.of(vm, nowMs)).join(", ")].join(" ").trim());
    const total = state.fraction === undefined ? "" : ` ${formatPercent(state.fraction)}`;
    const head = begins ? state.phase : `${state.phase} ${this.#phases.elapsed(nowMs)}`;
    const body = parts.length === 0 ? "" : `: ${parts.join("; ")}`;
    this.#terminal.err(`${head}${total}${body}\n`);
  }

  note(line: string): void {
    this.#terminal.err(line + "\n");
  }

  clear(): void {}
}

/** Many VMs as one: sums, and the slowest's fraction. */
function sumOf(vms: readonly VmProgress[]): VmProgress {
  const sum = (pick: (vm: VmProgress) => number | undefined) =>
    vms.reduce<number | undefined>((total, vm) => {
      const n = pick(vm);
      return n === undefined ? total : (total ?? 0) + n;
    }, undefined);
  const fractions = vms.map((vm) => vm.fraction).filter((f) => f !== undefined);
  const given = <K extends string>(key: K, value: number | undefined) =>
    value === undefined ? {} : { [key]: value } as Record<K, number>;
  return {
    name: plural(vms.length, "VM"),
    ...given("frames", sum((vm) => vm.frames)),
    ...given("storedBytes", sum((vm) => vm.storedBytes)),
    ...given("rrLogBytes", sum((vm) => vm.rrLogBytes)),
    ...given("fraction", fractions.length === 0 ? undefined : Math.min(...fractions)),
  };
}
