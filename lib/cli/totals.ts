/** What was recorded of each VM: taken from a manifest, and as the table of `record` and `show`. */
import type { ManifestVm } from "../recording/manifest.ts";
import type { VmTotals } from "./ports.ts";
import { formatBytes, formatCount } from "./quantities.ts";
import { renderTable } from "./table.ts";
import type { Paint } from "./terminal.ts";

/** The totals that the manifest holds of `vm`. */
export function totalsOf(vm: ManifestVm): VmTotals {
  const totals = vm.totals;
  return {
    name: vm.name,
    instructions: vm.end?.icount ?? null,
    bytes: {
      rrLog: totals?.rrLogBytes ?? null,
      hybrid: totals?.hybridBytes ?? null,
      stored: totals?.storedBytes ?? null,
    },
    frames: {
      internal: totals?.framesInternal ?? null,
      external: totals?.framesExternal ?? null,
      stored: totals === null ? null : totals.framesExternal + totals.framesUnmatched,
      sent: totals?.framesSent ?? null,
    },
    checks: totals?.checks ?? null,
  };
}

/** The numbers of a VM in the table's order, with how each is written. */
const NUMBERS: readonly {
  readonly title: string;
  readonly pick: (vm: VmTotals) => number | null;
  readonly format: (n: number) => string;
}[] = [
  { title: "INSTRUCTIONS", pick: (vm) => vm.instructions, format: formatCount },
  { title: "SENT", pick: (vm) => vm.frames.sent, format: formatCount },
  { title: "INTERNAL", pick: (vm) => vm.frames.internal, format: formatCount },
  { title: "EXTERNAL", pick: (vm) => vm.frames.external, format: formatCount },
  { title: "STORED WHOLE", pick: (vm) => vm.frames.stored, format: formatCount },
  { title: "CHECKS", pick: (vm) => vm.checks, format: formatCount },
  { title: "QEMU'S LOG", pick: (vm) => vm.bytes.rrLog, format: formatBytes },
  { title: "STORED", pick: (vm) => vm.bytes.stored, format: formatBytes },
];

/** One line a VM; with several VMs a line of sums. What is not known is "?". */
export function totalsTable(vms: readonly VmTotals[], style: Paint): string {
  const rows = vms.map((vm) => [
    vm.name,
    ...NUMBERS.map(({ pick, format }) => known(pick(vm), format)),
  ]);
  if (vms.length > 1) {
    rows.push(["all", ...NUMBERS.map(({ pick, format }) => known(sum(vms.map(pick)), format))]);
  }
  return renderTable(
    [{ title: "VM" }, ...NUMBERS.map(({ title }) => ({ title, align: "right" } as const))],
    rows,
    style,
    (text, row) => row === vms.length ? style.bold(text) : text,
  );
}

function known(n: number | null, format: (n: number) => string): string {
  return n === null ? "?" : format(n);
}

function sum(numbers: readonly (number | null)[]): number | null {
  return numbers.reduce((total, n) => total === null || n === null ? null : total + n, 0);
}
