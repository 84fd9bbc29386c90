import assert from "node:assert/strict";
import { inspectQemu } from "./capabilities.ts";
import { createOverlay } from "./overlay.ts";
import { QemuProcess } from "./process.ts";
import { withDirectory } from "./bare_vm.ts";
import { run } from "../../host/command.ts";
import { queryReplay } from "../qmp/commands.ts";
import { buildCommandLine, type RunMode, type VmHardware, type VmPaths } from "./command_line.ts";

const VM: VmHardware = {
  rtcBase: "2026-01-31T12:00:00",
  name: "web",
  number: 1,
  memoryMiB: 128,
  machine: "pc",
  cpu: "qemu64",
  icountShift: 3,
  nic: "virtio-net-pci",
  mac: "52:54:00:00:00:01",
  kernel: "/images/vmlinuz",
  initrd: "/images/initrd",
  kernelArgs: "console=ttyS0 panic=-1",
  disks: [{ name: "root" }],
  serialInput: true,
  restarts: false,
};
const PATHS: VmPaths = {
  qmp: "/run/web.qmp",
  console: "/rec/web.console",
  overlays: ["/run/web.root.qcow2"],
  serialInput: "/run/web.serial",
};
const QEMU = { path: "/usr/bin/qemu-system-x86_64", version: "7.2.22" };
const RECORD: RunMode = {
  kind: "record",
  tap: "clrr1",
  rrLog: "/run/web.rr",
  capture: "/run/web.cap",
};
const REPLAY: RunMode = { kind: "replay", rrLog: "/run/web.rr", capture: "/run/web.cap" };

const build = (mode: RunMode, vm = VM, paths = PATHS, qemu = QEMU) =>
  buildCommandLine(vm, mode, paths, { qemu });

/** The values of an option, in order. */
function valuesOf(argv: string[], option: string): string[] {
  return argv.flatMap((word, i) => word === option ? [argv[i + 1]!] : []);
}

Deno.test("a recording's command line, word for word", () => {
  assert.deepEqual(build(RECORD), [
    "/usr/bin/qemu-system-x86_64",
    ...["-name", "web", "-machine", "pc", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1"],
    ...["-m", "128", "-icount", "shift=3,rr=record,rrfile=/run/web.rr"],
    ...["-rtc", "base=2026-01-31T12:00:00,clock=vm"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-kernel", "/images/vmlinuz", "-initrd", "/images/initrd"],
    ...["-append", "console=ttyS0 panic=-1"],
    ...["-drive", "file=/run/web.root.qcow2,format=qcow2,if=none,id=disk0,node-name=overlay0"],
    ...["-drive", "driver=blkreplay,image=disk0,if=none,id=disk0rr"],
    ...["-device", "virtio-blk-pci,drive=disk0rr"],
    ...["-netdev", "tap,id=n0,ifname=clrr1,script=no,downscript=no,vnet_hdr=off"],
    "-device",
    "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01,romfile=,tx=timer,x-txtimer=1000",
    ...["-object", "filter-replay,id=rr,netdev=n0"],
    ...["-chardev", "socket,id=cap0,path=/run/web.cap,server=on,wait=off"],
    ...["-object", "filter-mirror,id=cap,netdev=n0,queue=rx,outdev=cap0"],
    ...["-serial", "pipe:/run/web.serial"],
    ...["-chardev", "socket,id=qmp,path=/run/web.qmp,server=on,wait=off"],
    ...["-mon", "chardev=qmp,mode=control"],
    "-S",
  ]);
});

Deno.test("a VM that starts again after a reboot: no -no-reboot, and no device that cannot be reset", () => {
  const restarts = { ...VM, restarts: true };
  const words = ["-global", "apic-common.vapic=off"];
  for (const mode of [RECORD, REPLAY]) {
    const argv = build(mode, restarts);
    assert.deepEqual(argv.filter((word) => !build(mode).includes(word)), words);
    assert.deepEqual(build(mode).filter((word) => !argv.includes(word)), ["-no-reboot"]);
  }
});

Deno.test("recording and replay differ in rr, netdev and character devices only", () => {
  for (const vm of [VM, { ...VM, serialInput: false, disks: [] }]) {
    const paths = { ...PATHS, overlays: vm.disks.map(() => "/run/web.root.qcow2") };
    const record = build(RECORD, vm, paths);
    const replay = build(REPLAY, vm, paths);
    assert.equal(record.length, replay.length);
    const differing = record.flatMap((word, i) => word === replay[i] ? [] : [[word, replay[i]]]);
    assert.deepEqual(differing, [
      ["shift=3,rr=record,rrfile=/run/web.rr", "shift=3,rr=replay,rrfile=/run/web.rr"],
      ["tap,id=n0,ifname=clrr1,script=no,downscript=no,vnet_hdr=off", "hubport,id=n0,hubid=0"],
      ...(vm.serialInput ? [["pipe:/run/web.serial", "file:/rec/web.console"]] : []),
    ]);
  }
});

Deno.test("a replay that is woken has a human monitor more, and nothing else", () => {
  const bare = build(REPLAY);
  const woken = build({ ...REPLAY, waker: "/run/a,b/wake" });
  assert.deepEqual(woken.slice(bare.length - 1), [
    ...["-chardev", "socket,id=wake,path=/run/a,,b/wake,server=on,wait=off"],
    ...["-mon", "chardev=wake,mode=readline", "-S"],
  ]);
});

Deno.test("a replay that begins in a snapshot names it, and has a drive without a device for it", () => {
  const bare = build(REPLAY);
  const resumed = build({ ...REPLAY, snapshot: "/run/a,b/1.vmstate" });
  assert.equal(
    valuesOf(resumed, "-icount")[0],
    `${valuesOf(bare, "-icount")[0]},rrsnapshot=clusterrr`,
  );
  const drive = "file=/run/a,,b/1.vmstate,format=qcow2,if=none,id=vmstate";
  // Before the disks: QEMU looks for the machine state in the first drive that holds snapshots.
  assert.deepEqual(valuesOf(resumed, "-drive"), [drive, ...valuesOf(bare, "-drive")]);
  assert.deepEqual(valuesOf(resumed, "-device"), valuesOf(bare, "-device"));
});

Deno.test("a replay that can be debugged has a gdbstub more, and nothing else", () => {
  const bare = build(REPLAY);
  const debugged = build({ ...REPLAY, gdb: "/run/a,b/gdb" });
  assert.deepEqual(debugged.slice(0, bare.length - 1), bare.slice(0, -1));
  assert.deepEqual(debugged.slice(bare.length - 1), [
    ...["-chardev", "socket,id=gdb0,path=/run/a,,b/gdb,server=on,wait=off"],
    ...["-gdb", "chardev:gdb0", "-S"],
  ]);
});

Deno.test("the capture stands behind filter-replay, or it is not there", () => {
  for (const mode of [RECORD, REPLAY]) {
    const filters = valuesOf(build(mode), "-object").map((object) => object.split(",")[0]);
    assert.deepEqual(filters, ["filter-replay", "filter-mirror"]);
  }
  const bare = build({ kind: "replay", rrLog: "/run/web.rr" });
  assert.deepEqual(valuesOf(bare, "-object"), ["filter-replay,id=rr,netdev=n0"]);
});

Deno.test("stock and plain runs: the same machine without our capture, and not paused", () => {
  const rrLog = "/run/web.rr";
  const record = build({ kind: "stock-record", tap: "clrr1", rrLog });
  const replay = build({ kind: "stock-replay", rrLog });
  const plain = build({ kind: "plain", tap: "clrr1" });
  for (const argv of [record, replay, plain]) {
    assert(!argv.includes("-S"));
    assert(!argv.join(" ").includes("filter-mirror"));
    assert.equal(valuesOf(argv, "-device").at(-1), valuesOf(build(RECORD), "-device").at(-1));
  }
  assert.deepEqual(valuesOf(plain, "-icount"), ["shift=3"]);
  assert(!/filter-replay|blkreplay|rr=/.test(plain.join(" ")));
  assert.deepEqual(valuesOf(record, "-object"), ["filter-replay,id=rr,netdev=n0"]);
  assert.deepEqual(valuesOf(replay, "-netdev"), ["hubport,id=n0,hubid=0"]);
  const paused = buildCommandLine(VM, { kind: "plain", tap: "t" }, PATHS, {
    qemu: QEMU,
    paused: true,
  });
  assert(paused.includes("-S"));
});

Deno.test("virtio-net's transmit timer only where QEMU needs it", () => {
  const nicOf = (version: string, nic = VM.nic) =>
    valuesOf(build(RECORD, { ...VM, nic }, PATHS, { ...QEMU, version }), "-device").at(-1)!;
  assert.match(nicOf("9.0.4"), /tx=timer/);
  assert.doesNotMatch(nicOf("9.1.0"), /tx=timer/);
  assert.doesNotMatch(nicOf("10.0.0"), /tx=timer/);
  assert.doesNotMatch(nicOf("7.2.22", "e1000"), /tx=timer/);
});

Deno.test("commas in paths do not become options", () => {
  const paths = { ...PATHS, qmp: "/run/a,b/qmp", overlays: ["/run/a,b/disk"] };
  const argv = build({ ...REPLAY, rrLog: "/run/a,b/rr", capture: "/run/a,b/cap" }, VM, paths);
  assert.equal(valuesOf(argv, "-icount")[0], "shift=3,rr=replay,rrfile=/run/a,,b/rr");
  assert.match(valuesOf(argv, "-drive")[0]!, /^file=\/run\/a,,b\/disk,/);
  assert.match(valuesOf(argv, "-chardev")[0]!, /path=\/run\/a,,b\/cap,/);
  assert.match(valuesOf(argv, "-chardev")[1]!, /path=\/run\/a,,b\/qmp,/);
});

Deno.test("a disk without overlay and serial input without FIFO are bugs", () => {
  assert.throws(() => build(RECORD, VM, { ...PATHS, overlays: [] }), /1 disks, 0 overlays/);
  const { serialInput: _, ...withoutFifo } = PATHS;
  assert.throws(() => build(RECORD, VM, withoutFifo), /no FIFO/);
  assert.deepEqual(valuesOf(build(REPLAY, VM, withoutFifo), "-serial"), ["file:/rec/web.console"]);
});

/** The least that QEMU loads as a Linux kernel: a boot sector with the header's magic number. */
function emptyKernel(): Uint8Array {
  const image = new Uint8Array(16 << 10);
  image.set([0x55, 0xaa], 0x1fe);
  image.set(new TextEncoder().encode("HdrS"), 0x202);
  image[0x206] = 0x0c; // boot protocol 2.12
  image[0x207] = 0x02;
  return image;
}

Deno.test("the real QEMU accepts every mode's command line", async () => {
  const qemu = await inspectQemu();
  const ownNetwork = 'ip tuntap add dev clrr1 mode tap && ip link set clrr1 up && exec "$@"';
  await withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/vmlinuz`, emptyKernel());
    await run(["qemu-img", "create", "-q", "-f", "raw", `${directory}/base.img`, "1M"]);
    await run(["mkfifo", `${directory}/serial.in`, `${directory}/serial.out`]);
    const { initrd: _, ...hardware } = { ...VM, kernel: `${directory}/vmlinuz` };
    const paths = {
      qmp: `${directory}/qmp`,
      console: `${directory}/console`,
      overlays: [`${directory}/disk.qcow2`],
      serialInput: `${directory}/serial`,
    };
    const rrLog = `${directory}/rr`;
    const capture = `${directory}/capture`;
    const modes: [RunMode, string][] = [
      [{ kind: "plain", tap: "clrr1" }, "none"],
      [{ kind: "record", tap: "clrr1", rrLog, capture }, "record"],
      [{ kind: "replay", rrLog, capture }, "play"],
      [{ kind: "stock-record", tap: "clrr1", rrLog }, "record"],
      [{ kind: "stock-replay", rrLog }, "play"],
    ];
    for (const [mode, replayMode] of modes) {
      await createOverlay(`${directory}/base.img`, "raw", paths.overlays[0]!);
      const process = await QemuProcess.start({
        name: mode.kind,
        argv: buildCommandLine(hardware, mode, paths, { qemu, paused: true }),
        enter: ["unshare", "--net", "sh", "-c", ownNetwork, "sh"],
        qmpPath: paths.qmp,
        logPath: `${directory}/log`,
      });
      try {
        assert.equal((await queryReplay(process.qmp)).mode, replayMode, mode.kind);
        if (mode.kind === "record" || mode.kind === "replay") {
          (await Deno.connect({ transport: "unix", path: capture })).close();
        }
      } finally {
        await process.end(5_000);
      }
      const complaints = process.lastOutput.replace(/^.*hub 0 is not connected.*\n/m, "");
      assert.equal(complaints, "", mode.kind);
    }
  });
});

Deno.test("from a snapshot: recording and replay load the same state, through overlays of whole files", () => {
  const paths = { ...PATHS, state: "/run/a,b/state" };
  const record = build(RECORD, VM, paths);
  const replay = build(REPLAY, VM, paths);
  const nested = (file: string) =>
    `driver=qcow2,file.driver=qcow2,file.file.driver=file,file.file.filename=${file}`;
  for (const argv of [record, replay]) {
    assert.deepEqual(valuesOf(argv, "-drive"), [
      `if=none,id=vmstate,${nested("/run/a,,b/state")}`,
      `${nested("/run/web.root.qcow2")},if=none,id=disk0,node-name=overlay0`,
      "driver=blkreplay,image=disk0,if=none,id=disk0rr",
    ]);
    assert.deepEqual(valuesOf(argv, "-loadvm"), ["boot"]);
  }
  assert.equal(record.filter((word, i) => word !== replay[i]).length, 3, "rr, netdev, serial");
  assert.deepEqual(valuesOf(record, "-device"), valuesOf(build(RECORD), "-device"));
});

Deno.test("a boot: the machine of the recording, counted, with nothing recorded", () => {
  const mode: RunMode = { kind: "boot", tapFd: 17, received: "/run/web.rcv" };
  const argv = build(mode, VM, { ...PATHS, state: "/run/state" });
  assert.deepEqual(valuesOf(argv, "-icount"), ["shift=3,rr=record,rrfile=/dev/null"]);
  assert.deepEqual(valuesOf(argv, "-netdev"), ["tap,id=n0,fd=17"]);
  assert.deepEqual(valuesOf(argv, "-object"), [
    "filter-mirror,id=rcv,netdev=n0,queue=tx,outdev=rcv0",
  ]);
  assert.equal(valuesOf(argv, "-drive")[0], "if=none,id=vmstate,format=qcow2,file=/run/state");
  assert(!/blkreplay|filter-replay|-loadvm/.test(argv.join(" ")));
  assert(argv.includes("-S"));
  // What the guest sees, but for the drive behind its disk.
  const seen = (line: string[]) =>
    valuesOf(line, "-device").map((d) => d.replace("disk0rr", "disk0"));
  assert.deepEqual(seen(argv), seen(build(RECORD)));
});
