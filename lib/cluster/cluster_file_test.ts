import assert from "node:assert/strict";
import fc from "fast-check";
import { stringify } from "yaml";
import { SpecError } from "../errors.ts";
import { loadClusterFile } from "./cluster_file.ts";
import { CPU_DEFAULT, GUEST_ARGS_DEFAULT, MACHINE_DEFAULT } from "./schema.ts";
import { complaint, parse } from "./testing.ts";

const MEASURED = GUEST_ARGS_DEFAULT.join(" ");

Deno.test("cluster file: everything said", () => {
  const text = `
name: trio
network:
  uplink: {address: 10.77.0.254/24, nat: true, host: left-rack}
profile:
  qemu: /opt/qemu
  machine: pc-i440fx-7.2
  cpu: max
  icountShift: 5
  nic: e1000
  guestArgs: [console=ttyS0]
defaults:
  memory: 1G
  kernel: images/vmlinuz
  initrd: images/initrd
  args: panic=-1
vms:
  - name: alpha
    host: right-rack
    args: role=server ip=10.77.0.1/24
    disks: [a.qcow2, {image: /b, format: raw}]
    mac: 52:54:00:AB:00:01
    serialInput: "root\\n"
  - name: beta
    memory: 64M
    kernel: other
    initrd: ../initrd
    args: [role=client, "quiet  x"]
    disk: b.img
    serialInput: {file: input.txt}
    onReboot: restart
`;
  assert.deepEqual(parse(text), {
    name: "trio",
    network: { uplink: { address: "10.77.0.254/24", nat: true, host: "left-rack" } },
    qemu: {
      program: "/opt/qemu",
      machine: "pc-i440fx-7.2",
      cpu: "max",
      icountShift: 5,
      nic: "e1000",
    },
    vms: [{
      number: 1,
      name: "alpha",
      host: "right-rack",
      memoryMiB: 1024,
      kernel: "/c/images/vmlinuz",
      initrd: "/c/images/initrd",
      kernelArgs: "console=ttyS0 panic=-1 role=server ip=10.77.0.1/24",
      disks: [{ image: "/c/a.qcow2", format: "qcow2" }, { image: "/b", format: "raw" }],
      mac: "52:54:00:ab:00:01",
      serialInput: "root\n",
    }, {
      number: 2,
      name: "beta",
      memoryMiB: 64,
      kernel: "/c/other",
      initrd: "/initrd",
      kernelArgs: "console=ttyS0 panic=-1 role=client quiet  x",
      disks: [{ image: "/c/b.img", format: "raw" }],
      mac: "52:54:00:c7:e9:9c",
      serialInput: "text of /c/input.txt",
      onReboot: "restart",
    }],
  });
});

Deno.test("cluster file: the least that is enough", () => {
  assert.deepEqual(parse("name: one\nvms: [{name: a, kernel: k}]\n"), {
    name: "one",
    network: {},
    qemu: {
      program: "qemu-system-x86_64",
      machine: MACHINE_DEFAULT,
      cpu: CPU_DEFAULT,
      icountShift: 3,
      nic: "vmxnet3",
    },
    vms: [{
      number: 1,
      name: "a",
      memoryMiB: 256,
      kernel: "/c/k",
      kernelArgs: MEASURED,
      disks: [],
      mac: "52:54:00:d1:46:c9",
    }],
  });
});

Deno.test("cluster file: network variants", () => {
  const network = (yaml: string) =>
    parse(`name: n\nnetwork: ${yaml}\nvms: [{name: a, kernel: k}]`).network;
  assert.deepEqual(network("isolated"), {});
  assert.deepEqual(network("{}"), {});
  assert.deepEqual(network("{uplink: {address: 10.0.0.1/8}}"), {
    uplink: { address: "10.0.0.1/8", nat: false },
  });
});

Deno.test("cluster file: args may span lines", () => {
  const { vms } = parse("name: n\nvms:\n- name: a\n  kernel: k\n  args: |\n    x=1\n    y=2\n");
  assert.equal(vms[0]!.kernelArgs, `${MEASURED} x=1 y=2`);
});

Deno.test("cluster file: a disk's format is what it is given, else what its name or its own head says", () => {
  const disks = "[a.img, cloud.img, cloud.raw, a.qcow2, {image: cloud.img, format: raw}]";
  const { vms } = parse(`name: n\nvms: [{name: a, kernel: k, disks: ${disks}}]\n`);
  assert.deepEqual(
    vms[0]!.disks.map(({ format }) => format),
    ["raw", "qcow2", "qcow2", "qcow2", "raw"],
  );
});

Deno.test("cluster file: all problems at once, in the order of the file", () => {
  const text = "name: C\nx: 1\nvms:\n  - memory: 1\n  - {name: b, kernel: k, macs: 1}\n";
  assert.deepEqual(complaint(text).split("\n").map((line) => line.split(": ", 2).join(" ")), [
    "1:7 name",
    "2:1 x",
    "4:5 vms[0].name",
    "4:13 vms[0].memory",
    "5:26 vms[1].macs",
  ]);
});

Deno.test("cluster file: on disk", async () => {
  const folder = await Deno.makeTempDir({ prefix: "clusterrr-spec-" });
  try {
    const file = `${folder}/cluster.yaml`;
    await Deno.mkdir(`${folder}/images`);
    await Deno.writeTextFile(`${folder}/images/k`, "kernel");
    await Deno.writeTextFile(`${folder}/keys`, "a\nb");
    const text = "name: c\nvms: [{name: a, kernel: images/k, serialInput: {file: keys}}]\n";
    await Deno.writeTextFile(file, text);
    const loaded = await loadClusterFile(file);
    assert.equal(loaded.text, text);
    assert.equal(loaded.spec.vms[0]!.kernel, `${folder}/images/k`);
    assert.equal(loaded.spec.vms[0]!.serialInput, "a\nb");

    const heads = {
      "cloud.img": [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3],
      "a.img": [0x51],
      "b.img": [],
    };
    for (const [name, head] of Object.entries(heads)) {
      await Deno.writeFile(`${folder}/${name}`, Uint8Array.from(head));
    }
    const disks = `disks: [${Object.keys(heads)}]`;
    await Deno.writeTextFile(file, `name: c\nvms: [{name: a, kernel: images/k, ${disks}}]\n`);
    assert.deepEqual(
      (await loadClusterFile(file)).spec.vms[0]!.disks.map(({ format }) => format),
      ["qcow2", "raw", "raw"],
    );

    await Deno.writeTextFile(file, "name: c\nvms: [{name: a, kernel: images/k/k, initrd: images}]");
    await assert.rejects(loadClusterFile(file), {
      name: "SpecError",
      message: `${file}:2:25: vms[0].kernel: no such file: ${folder}/images/k/k\n` +
        `${file}:2:45: vms[0].initrd: ${folder}/images is a directory; expected a file`,
    });
    await assert.rejects(loadClusterFile(`${folder}/none.yaml`), {
      name: "SpecError",
      message: `${folder}/none.yaml:0:0: no such cluster file`,
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

const nameArb = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);
const wordArb = fc.stringMatching(/^[a-z0-9_.=]{1,12}$/);
const fileArb = fc.stringMatching(/^[a-z]{1,8}$/).filter((name) => name !== "dir");
const vmArb = fc.record({
  host: nameArb,
  memory: fc.integer({ min: 32, max: 65_536 }).map((mib) => `${mib}M`),
  kernel: fileArb,
  initrd: fileArb,
  args: fc.oneof(wordArb.map((word) => `a=${word}`), fc.array(wordArb, { maxLength: 4 })),
  disks: fc.array(fc.record({ image: fileArb, format: fc.constantFrom("qcow2", "raw") }), {
    maxLength: 3,
  }),
  serialInput: fc.string({ minLength: 1 }),
  onReboot: fc.constantFrom("end", "restart"),
}, { requiredKeys: ["kernel"] });
const clusterArb = fc.record({
  name: nameArb,
  vms: fc.uniqueArray(fc.tuple(nameArb, vmArb), {
    minLength: 1,
    maxLength: 8,
    selector: ([name]) => name,
  }),
});

Deno.test("cluster file: what was written comes out", () => {
  fc.assert(
    fc.property(clusterArb, ({ name, vms }) => {
      const spec = parse(stringify({ name, vms: vms.map(([name, vm]) => ({ name, ...vm })) }));
      assert.equal(spec.name, name);
      assert.equal(new Set(spec.vms.map((vm) => vm.mac)).size, vms.length);
      const args = (vm: (typeof vms)[number][1]) =>
        [MEASURED, ...(typeof vm.args === "string" ? [vm.args] : vm.args ?? [])].join(" ");
      assert.deepEqual(
        spec.vms.map(({ mac: _, ...rest }) => rest),
        vms.map(([name, vm], i) => ({
          number: i + 1,
          name,
          ...(vm.host === undefined ? {} : { host: vm.host }),
          memoryMiB: Number.parseInt(vm.memory ?? "256M"),
          kernel: `/c/${vm.kernel}`,
          ...(vm.initrd === undefined ? {} : { initrd: `/c/${vm.initrd}` }),
          kernelArgs: args(vm),
          disks: (vm.disks ?? []).map((d) => ({ image: `/c/${d.image}`, format: d.format })),
          ...(vm.serialInput === undefined ? {} : { serialInput: vm.serialInput }),
          ...(vm.onReboot === "restart" ? { onReboot: "restart" } : {}),
        })),
      );
    }),
    { numRuns: 200 },
  );
});

Deno.test("cluster file: any other text gives a SpecError", () => {
  const good = "name: c\nvms:\n  - name: a\n    kernel: k\n" +
    "    disks: [a.img, {image: b, format: raw}]\n    args: [a, b]\n    memory: 1G\n";
  const piece = fc.constantFrom(
    "",
    "\n",
    "  ",
    ":",
    "- ",
    "[",
    "}",
    "&a ",
    "*a",
    "!!str ",
    "|",
    "0",
  );
  fc.assert(
    fc.property(
      fc.nat(good.length),
      fc.nat(12),
      fc.oneof(piece, fc.string({ maxLength: 4 })),
      (at, cut, put) => {
        try {
          parse(good.slice(0, at) + put + good.slice(at + cut));
        } catch (error) {
          assert(error instanceof SpecError, `${error}`);
          for (const p of error.problems) {
            assert(p.message.length > 0 && !/zod|undefined/.test(p.message));
          }
        }
      },
    ),
    { numRuns: 1000 },
  );
});
