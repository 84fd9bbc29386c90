/** From a cluster file's VM to the machine that recording and replay share. */
import assert from "node:assert/strict";
import { ClusterrrError } from "../lib/errors.ts";
import type { ClusterSpec, VmSpec } from "../lib/cluster/spec.ts";
import { hardwareOf, portableCommandLine, requireRoot } from "./machine.ts";

const vm: VmSpec = {
  number: 2,
  name: "web",
  memoryMiB: 96,
  kernel: "/images/vmlinuz",
  kernelArgs: "console=ttyS0 quiet",
  disks: [],
  mac: "52:54:00:77:00:02",
};
const spec: ClusterSpec = {
  name: "pair",
  network: {},
  qemu: { program: "qemu", machine: "pc", cpu: "qemu64", icountShift: 3, nic: "e1000" },
  vms: [vm],
};
const CREATED_AT = "2026-01-31T12:34:56.789Z";
const qemu = { path: "/usr/bin/qemu-system-x86_64", version: "7.2.22" };

Deno.test("machine: what the cluster file says, the guest's clock from when the recording began", () => {
  assert.deepEqual(hardwareOf(spec, vm, CREATED_AT), {
    name: "web",
    number: 2,
    memoryMiB: 96,
    machine: "pc",
    cpu: "qemu64",
    icountShift: 3,
    nic: "e1000",
    mac: "52:54:00:77:00:02",
    kernel: "/images/vmlinuz",
    kernelArgs: "console=ttyS0 quiet",
    rtcBase: "2026-01-31T12:34:56",
    disks: [],
    serialInput: false,
    restarts: false,
  });
});

Deno.test("machine: initrd, disks and serial input where there are some", () => {
  const disks = [
    { image: "/images/a.qcow2", format: "qcow2" as const },
    { image: "/images/b.raw", format: "raw" as const },
  ];
  const full = { ...vm, initrd: "/images/initrd", disks, serialInput: "root\n" };
  const hardware = hardwareOf(spec, full, CREATED_AT);
  assert.equal(hardware.initrd, "/images/initrd");
  assert.deepEqual(hardware.disks, [{ name: "disk0" }, { name: "disk1" }]);
  assert.equal(hardware.serialInput, true);
  assert.equal(hardwareOf(spec, { ...vm, serialInput: "" }, CREATED_AT).serialInput, true);
});

Deno.test("machine: the portable command line names no path of a run, and stays the same", () => {
  const full = {
    ...vm,
    disks: [{ image: "/images/a.qcow2", format: "qcow2" as const }],
    serialInput: "x",
  };
  const line = portableCommandLine(hardwareOf(spec, full, CREATED_AT), qemu);
  assert.equal(line[0], qemu.path);
  assert.deepEqual(line, portableCommandLine(hardwareOf(spec, full, CREATED_AT), qemu));
  const text = line.join(" ");
  assert.doesNotMatch(text, /undefined|\/run\/|\/tmp\/|\/dev\/shm/);
  for (
    const own of ["{tap}", "{run}/rr", "{run}/capture", "{run}/qmp", "{run}/disk0", "{run}/tty"]
  ) {
    assert.ok(text.includes(own), `${own} in ${text}`);
  }
  assert.ok(text.includes("base=2026-01-31T12:34:56"));
});

Deno.test("machine: any change of the machine shows in the portable command line", () => {
  const line = (change: Partial<VmSpec>, qemuChange: Partial<ClusterSpec["qemu"]> = {}) => {
    const changed = { ...spec, qemu: { ...spec.qemu, ...qemuChange } };
    return portableCommandLine(hardwareOf(changed, { ...vm, ...change }, CREATED_AT), qemu).join();
  };
  const lines = [
    line({}),
    line({ memoryMiB: 97 }),
    line({ kernel: "/images/other" }),
    line({ initrd: "/images/initrd" }),
    line({ kernelArgs: "quiet" }),
    line({ mac: "52:54:00:77:00:03" }),
    line({ disks: [{ image: "/images/a", format: "raw" }] }),
    line({}, { machine: "q35" }),
    line({}, { cpu: "max" }),
    line({}, { icountShift: 5 }),
    line({}, { nic: "rtl8139" }),
  ];
  assert.equal(new Set(lines).size, lines.length);
});

Deno.test("machine: who is not root is told why root is needed", () => {
  const uid = Deno.uid;
  try {
    Deno.uid = () => 0;
    requireRoot("Recording");
    Deno.uid = () => 1000;
    assert.throws(
      () => requireRoot("Recording"),
      (error) =>
        error instanceof ClusterrrError &&
        /^Recording needs root: .* Run it with sudo\.$/.test(error.message),
    );
  } finally {
    Deno.uid = uid;
  }
});
