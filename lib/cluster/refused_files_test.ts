/** Every way a cluster file can be wrong, with the exact words and place that the user is shown. */
import assert from "node:assert/strict";
import { GUEST_ARGS_DEFAULT } from "./schema.ts";
import { complaint } from "./testing.ts";

const MEASURED = GUEST_ARGS_DEFAULT.join(" ");
const NAME = "expected a name of a-z, 0-9 and -, starting with a letter, at most 31 long";
const SIZE = 'expected a size such as "512M" or "2G"';
const MAC = "expected a unicast MAC address such as 52:54:00:12:34:56";
const UPLINK = "expected an IPv4 address with its prefix length, such as 10.77.0.254/24";
const VM_KEYS = "name, host, memory, kernel, initrd, args, disk, disks, mac, serialInput, onReboot";
const vm = (more: string) => `name: c\nvms:\n  - name: a\n    kernel: k\n    ${more}\n`;
const top = (more: string) => `name: c\n${more}\nvms: [{name: a, kernel: k}]\n`;

const WRONG: readonly [what: string, yaml: string, complaint: string][] = [
  ["empty file", "", "1:1: expected a cluster: {name: …, vms: […]}, found nothing"],
  ["a list", "- a", "1:1: expected a cluster: {name: …, vms: […]}, found a list"],
  [
    "bad YAML",
    "name: [a",
    "1:9: not valid YAML: Flow sequence in block collection must be " +
    "sufficiently indented and end with a ]",
  ],
  ["key twice", "name: a\nname: b", "2:1: not valid YAML: Map keys must be unique"],
  [
    "alias to nothing",
    "name: *x",
    "0:0: not valid YAML: Unresolved alias (the anchor must be " +
    "set before the alias): x",
  ],
  ["unknown tag", "name: !yo x", "1:7: not valid YAML: Unresolved tag: !yo"],
  [
    "nothing there",
    "{}",
    `1:1: name: missing; ${NAME}\n1:1: vms: missing; expected a list of 1 ` +
    "to 200 VMs",
  ],
  ["no VM", "name: c\nvms: []", "2:6: vms: expected a list of 1 to 200 VMs, found an empty list"],
  [
    "too many VMs",
    `name: c\nvms: [${"{name: a, kernel: k},".repeat(201)}]`,
    "2:6: vms: expected a list of 1 to 200 VMs, found a list",
  ],
  ["VM is a text", "name: c\nvms: [a]", '2:7: vms[0]: expected a VM: {name: …, …}, found "a"'],
  [
    "cluster name",
    "name: My cluster\nvms: [{name: a, kernel: k}]",
    `1:7: name: ${NAME}, found "My cluster"`,
  ],
  [
    "long name",
    `name: ${"a".repeat(99)}\nvms: [{name: a, kernel: k}]`,
    `1:7: name: ${NAME}, found "${"a".repeat(59)}…`,
  ],
  ["VM name", "name: c\nvms: [{name: 7, kernel: k}]", `2:14: vms[0].name: ${NAME}, found 7`],
  ["VM name missing", "name: c\nvms:\n  - kernel: k\n", `3:5: vms[0].name: missing; ${NAME}`],
  [
    "VM name twice",
    "name: c\nvms: [{name: a, kernel: k}, {name: a, kernel: k}]",
    "2:36: vms[1].name: a is taken by vms[0]; give each VM its own",
  ],
  ["slip in a key", vm("memroy: 1G"), '5:5: vms[0].memroy: unknown key; did you mean "memory"?'],
  ["unknown key", vm("colour: red"), `5:5: vms[0].colour: unknown key; known here: ${VM_KEYS}`],
  ["slip at the top", top("netwrk: isolated"), '2:1: netwrk: unknown key; did you mean "network"?'],
  [
    "slip in a union",
    top("network: {uplnk: {}}"),
    '2:11: network.uplnk: unknown key; did you mean "uplink"?',
  ],
  [
    "slip in defaults",
    top("defaults: {Kernel: k}"),
    '2:12: defaults.Kernel: unknown key; did you mean "kernel"?',
  ],
  [
    "number as key",
    top("5: x"),
    "2:1: 5: unknown key; known here: name, network, profile, defaults, vms",
  ],
  ["memory without unit", vm("memory: 128"), `5:13: vms[0].memory: ${SIZE}, found 128`],
  ["memory in T", vm("memory: 1T"), `5:13: vms[0].memory: ${SIZE}, found "1T"`],
  [
    "little memory",
    vm("memory: 31M"),
    '5:13: vms[0].memory: expected a size from 32M to 64G, found "31M"',
  ],
  [
    "much memory",
    vm("memory: 65G"),
    '5:13: vms[0].memory: expected a size from 32M to 64G, found "65G"',
  ],
  [
    "little default memory",
    "name: c\ndefaults: {memory: 1M, kernel: k}\nvms: [{name: a}, {name: b}]",
    '2:20: defaults.memory: expected a size from 32M to 64G, found "1M"',
  ],
  [
    "no kernel",
    "name: c\nvms:\n  - name: a",
    "3:5: vms[0]: no kernel; give it a kernel, or give defaults one for every VM",
  ],
  [
    "kernel missing",
    "name: c\nvms: [{name: a, kernel: missing}]",
    "2:25: vms[0].kernel: no such file: /c/missing",
  ],
  [
    "kernel is a folder",
    "name: c\nvms: [{name: a, kernel: dir}]",
    "2:25: vms[0].kernel: /c/dir is a directory; expected a file",
  ],
  [
    "kernel is nothing",
    "name: c\nvms: [{name: a, kernel: }]",
    "2:25: vms[0].kernel: expected a path, relative to this file, found nothing",
  ],
  [
    "default kernel missing",
    "name: c\ndefaults: {kernel: missing}\nvms: [{name: a}, {name: b}]",
    "2:20: defaults.kernel: no such file: /c/missing",
  ],
  ["initrd missing", vm("initrd: missing"), "5:13: vms[0].initrd: no such file: /c/missing"],
  ["disk missing", vm("disk: missing.img"), "5:11: vms[0].disk: no such file: /c/missing.img"],
  [
    "disk image missing",
    vm("disks: [{image: missing, format: raw}]"),
    "5:21: vms[0].disks[0].image: no such file: /c/missing",
  ],
  [
    "disk of unknown format",
    vm("disk: a.vmdk"),
    '5:11: vms[0].disk: unknown format of "a.vmdk"; say {image: …, format: qcow2 or raw}',
  ],
  [
    "disk format",
    vm("disk: {image: a, format: vmdk}"),
    '5:30: vms[0].disk.format: expected "qcow2" or "raw", found "vmdk"',
  ],
  [
    "disk is a number",
    vm("disk: 5"),
    '5:11: vms[0].disk: expected a path, or {image: PATH, format: "qcow2" or "raw"}, found 5',
  ],
  [
    "disks is a text",
    vm("disks: a.img"),
    '5:12: vms[0].disks: expected a list of at most 32 disks, found "a.img"',
  ],
  [
    "disk and disks",
    vm("disk: a.img\n    disks: [b.img]"),
    '5:11: vms[0].disk: both "disk" and "disks"; put all of them under "disks"',
  ],
  ["MAC", vm("mac: 52-54-00-00-00-01"), `5:10: vms[0].mac: ${MAC}, found "52-54-00-00-00-01"`],
  [
    "MAC of a group",
    vm("mac: 53:54:00:00:00:01"),
    "5:10: vms[0].mac: 53:54:00:00:00:01 is no " +
    "unicast address; expected one such as 52:54:00:12:34:56",
  ],
  [
    "MAC of zeros",
    vm("mac: 00:00:00:00:00:00"),
    "5:10: vms[0].mac: 00:00:00:00:00:00 is no " +
    "unicast address; expected one such as 52:54:00:12:34:56",
  ],
  [
    "MAC twice",
    "name: c\nvms:\n- {name: a, kernel: k, mac: 02:00:00:00:00:0a}\n" +
    "- {name: b, kernel: k, mac: 02:00:00:00:00:0A}",
    "4:29: vms[1].mac: 02:00:00:00:00:0a is taken by vms[0]; give each VM its own",
  ],
  [
    "args",
    vm("args: {a: b}"),
    "5:11: vms[0].args: expected kernel arguments: a text, or a list of texts, found a mapping",
  ],
  ["an argument", vm("args: [a, 1]"), "5:15: vms[0].args[1]: expected a kernel argument, found 1"],
  [
    "too many arguments",
    vm(`args: ${"x".repeat(2000)}`),
    "5:11: vms[0].args: " +
    `${MEASURED.length + 2001} bytes of kernel arguments in all; Linux takes 2047`,
  ],
  [
    "serial input",
    vm("serialInput: [a]"),
    "5:18: vms[0].serialInput: expected a text, or {file: PATH}, found a list",
  ],
  [
    "serial input missing",
    vm("serialInput: {file: missing}"),
    "5:25: vms[0].serialInput.file: no such file: /c/missing",
  ],
  [
    "much serial input",
    vm(`serialInput: ${"x".repeat(262145)}`),
    "5:18: vms[0].serialInput: 262145 characters; expected at most 262144",
  ],
  [
    "many disks",
    vm(`disks: [${"a.img, ".repeat(33)}]`),
    "5:12: vms[0].disks: expected a list of at most 32 disks, found a list",
  ],
  [
    "onReboot",
    vm("onReboot: again"),
    '5:15: vms[0].onReboot: expected "end" or "restart", found "again"',
  ],
  [
    "network",
    top("network: open"),
    '2:10: network: expected "isolated", or {uplink: {address: …, nat: …}}, found "open"',
  ],
  [
    "uplink",
    top("network: {uplink: eth0}"),
    "2:19: network.uplink: expected an uplink: " +
    '{address: 10.77.0.254/24, nat: true or false, host: …}, found "eth0"',
  ],
  [
    "no address",
    top("network: {uplink: {nat: true}}"),
    `2:19: network.uplink.address: missing; ${UPLINK}`,
  ],
  [
    "address without prefix",
    top("network: {uplink: {address: 10.0.0.1}}"),
    `2:29: network.uplink.address: ${UPLINK}, found "10.0.0.1"`,
  ],
  [
    "address above 255",
    top("network: {uplink: {address: 10.0.0.256/24}}"),
    '2:29: network.uplink.address: expected numbers up to 255, found "10.0.0.256/24"',
  ],
  [
    "prefix",
    top("network: {uplink: {address: 10.0.0.1/31}}"),
    "2:29: network.uplink.address: expected a prefix length from 8 to 30, found /31",
  ],
  [
    "network address",
    top("network: {uplink: {address: 10.77.0.0/24}}"),
    "2:29: " +
    "network.uplink.address: 10.77.0.0 is the network's own address of this /24; expected a host's",
  ],
  [
    "broadcast address",
    top("network: {uplink: {address: 10.0.0.7/29}}"),
    "2:29: " +
    "network.uplink.address: 10.0.0.7 is the broadcast address of this /29; expected a host's",
  ],
  [
    "nat",
    top("network: {uplink: {address: 10.0.0.1/24, nat: yes}}"),
    '2:47: network.uplink.nat: expected true or false, found "yes"',
  ],
  ["host of a VM", vm("host: 10.0.0.1"), `5:11: vms[0].host: ${NAME}, found "10.0.0.1"`],
  [
    "host of the uplink",
    top("network: {uplink: {address: 10.0.0.1/24, host: Left}}"),
    `2:48: network.uplink.host: ${NAME}, found "Left"`,
  ],
  [
    "qemu missing",
    top("profile: {qemu: ./missing}"),
    "2:17: profile.qemu: no such file: /c/missing",
  ],
  [
    "machine",
    top("profile: {machine: virt}"),
    '2:20: profile.machine: expected "pc" or "q35", or one of their versions, with properties such as ' +
    '"q35,sata=off", found "virt"',
  ],
  [
    "machine property",
    top("profile: {machine: 'q35,sata'}"),
    '2:20: profile.machine: expected "pc" or "q35", or one of their versions, with properties such as ' +
    '"q35,sata=off", found "q35,sata"',
  ],
  ["cpu", top("profile: {cpu: -1}"), "2:16: profile.cpu: expected a CPU model of QEMU, found -1"],
  [
    "shift",
    top("profile: {icountShift: 11}"),
    "2:24: profile.icountShift: expected a whole number from 0 to 10, found 11",
  ],
  [
    "shift of a half",
    top("profile: {icountShift: 2.5}"),
    "2:24: profile.icountShift: expected a whole number from 0 to 10, found 2.5",
  ],
  [
    "nic",
    top("profile: {nic: 'virtio-net-pci,x=1'}"),
    "2:16: profile.nic: expected a network " +
    'card of QEMU such as vmxnet3, found "virtio-net-pci,x=1"',
  ],
  [
    "guest arguments",
    top("profile: {guestArgs: quiet}"),
    '2:22: profile.guestArgs: expected a list of kernel arguments, found "quiet"',
  ],
];

for (const [what, yaml, expected] of WRONG) {
  Deno.test(`cluster file refused: ${what}`, () => assert.equal(complaint(yaml), expected));
}
