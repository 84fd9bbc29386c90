import assert from "node:assert/strict";
import { ClusterrrError } from "../../lib/errors.ts";
import { withBareVm } from "./bare_vm.ts";
import { ramRanges } from "./memory_map.ts";

const GIB = 2 ** 30;

Deno.test("RAM below the PCI hole is one block but for what is below 1 MiB", () => {
  assert.deepEqual(ramRanges("pc", 128), [
    { address: 0, size: 0xa0000, shadowed: false },
    { address: 0xc0000, size: 0x40000, shadowed: true },
    { address: 1 << 20, size: 127 << 20, shadowed: false },
  ]);
});

Deno.test("what does not fit below the PCI hole continues at 4 GiB", () => {
  const above = (machine: string, memoryMiB: number) => ramRanges(machine, memoryMiB).at(3);
  assert.equal(above("pc", 3583), undefined);
  assert.deepEqual(above("pc", 3584), { address: 4 * GIB, size: GIB / 2, shadowed: false });
  assert.deepEqual(above("pc-i440fx-7.2", 8192), {
    address: 4 * GIB,
    size: 5 * GIB,
    shadowed: false,
  });
  assert.equal(above("q35", 2815), undefined);
  assert.deepEqual(above("q35", 2816), { address: 4 * GIB, size: 768 * 2 ** 20, shadowed: false });
  assert.deepEqual(above("pc-q35-7.2", 65_536), {
    address: 4 * GIB,
    size: 62 * GIB,
    shadowed: false,
  });
});

Deno.test("an unknown machine is refused", () => {
  assert.throws(() => ramRanges("microvm", 128), ClusterrrError);
});

/** QEMU's own view: where `pc.ram` is mapped, without the ROM and the shadows below 1 MiB. */
async function mappedRam(machine: string, memoryMiB: number): Promise<string[]> {
  const found: string[] = [];
  const extra = ["-machine", machine, "-m", `${memoryMiB}`];
  await withBareVm(extra, async (qemu) => {
    const text = await qemu.qmp.hmp("info mtree -f");
    const pattern = /^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio \d+, ram\): pc\.ram/gm;
    const view = text.slice(text.indexOf("Root memory region: system"));
    for (const [, first, last] of view.slice(0, view.indexOf("FlatView #", 1)).matchAll(pattern)) {
      if (parseInt(first!, 16) >= 1 << 20) found.push(`${first}-${last}`);
    }
  });
  return found;
}

Deno.test("the layout is the one that QEMU reports", async () => {
  const hex = (value: number) => value.toString(16).padStart(16, "0");
  const cases = [
    ["pc", 128],
    ["pc", 3584],
    ["pc", 5120],
    ["q35", 2815],
    ["q35,sata=off,smbus=off", 2816],
  ] as const;
  for (const [machine, memoryMiB] of cases) {
    const expected = ramRanges(machine, memoryMiB).slice(2).map(({ address, size }) =>
      `${hex(address)}-${hex(address + size - 1)}`
    );
    assert.deepEqual(await mappedRam(machine, memoryMiB), expected, `${machine} ${memoryMiB} MiB`);
  }
});
