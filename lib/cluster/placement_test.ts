import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type HostCapacity,
  type PlaceableCluster,
  placementNote,
  placeUplink,
  placeVms,
  withoutPlacement,
} from "./placement.ts";
import { parse } from "./testing.ts";

const host = (name: string, more: Partial<HostCapacity> = {}): HostCapacity => ({
  name,
  cores: 4,
  memoryMiB: 8192,
  drained: false,
  ...more,
});
/** A cluster of VMs `v1`, `v2` …: `[memoryMiB, host]` each. */
const cluster = (...vms: (readonly [number, (string | undefined)?])[]): PlaceableCluster => ({
  network: {},
  vms: vms.map(([memoryMiB, host], i) => ({
    number: i + 1,
    name: `v${i + 1}`,
    memoryMiB,
    ...(host === undefined ? {} : { host }),
  })),
});
const placed = (of: PlaceableCluster, hosts: readonly HostCapacity[]) =>
  [...placeVms(of, hosts).values()].join(" ");

Deno.test("placement: VMs go where they say, the others fill up what is left", () => {
  const hosts = [host("b"), host("a"), host("c")];
  assert.equal(placed(cluster([256], [256], [256]), hosts), "a b c");
  assert.equal(placed(cluster([256, "c"], [256], [256], [256, "a"]), hosts), "c b a a");
  assert.equal(placed(cluster([256], [256], [1024], [256]), [host("a"), host("b")]), "b b a a");
});

Deno.test("placement: more cores take more VMs; what does not fit goes elsewhere", () => {
  const hosts = [host("a", { cores: 2 }), host("b", { cores: 8 })];
  assert.equal(placed(cluster([64], [64], [64], [64], [64]), hosts), "b b b a b");
  const small = host("a", { memoryMiB: 128, cores: 64 });
  assert.equal(placed(cluster([256], [128], [64]), [small, host("b")]), "b a b");
});

Deno.test("placement: every VM that cannot be placed is named, with the hosts there are", () => {
  const hosts = [host("rack-b", { drained: true }), host("rack-a", { memoryMiB: 512 })];
  assert.throws(() => placeVms(cluster([64, "rack-z"], [64, "rack-b"], [1024], [64]), hosts), {
    name: "ClusterrrError",
    message: "The cluster cannot be placed:\n" +
      "  - VM v1: there is no host rack-z; did you mean rack-a?\n" +
      "  - VM v2: host rack-b is drained; undrain it or choose another\n" +
      '  - VM v3: no host has 1024 MiB left; place it by "host:"\n' +
      "Hosts: rack-a (4 cores, 512 MiB), rack-b (4 cores, 8192 MiB, drained)",
  });
  assert.throws(() => placeVms(cluster([64], [64, "x"]), []), {
    message: "The cluster cannot be placed:\n  - VM v2: there is no host x\n" +
      "  - no host for VM v1: no host is connected\nHosts: none",
  });
  assert.throws(() => placeVms(cluster([64], [64]), [host("a", { drained: true })]), {
    message: "The cluster cannot be placed:\n  - no host for VMs v1, v2: every host is drained\n" +
      "Hosts: a (4 cores, 8192 MiB, drained)",
  });
});

Deno.test("placement: a VM that names a host gets it though its memory is short", () => {
  assert.equal(placed(cluster([9000, "a"], [64]), [host("a"), host("b")]), "a b");
});

Deno.test("placement: the uplink is where it says, or on the first host with VMs", () => {
  const hosts = [host("c"), host("b"), host("a"), host("d", { drained: true })];
  const places = new Map([[1, "c"], [2, "b"]]);
  const uplink = (more: object) => ({
    ...cluster([64]),
    network: { uplink: { address: "10.0.0.1/24", nat: false, ...more } },
  });
  assert.equal(placeUplink(cluster([64]), hosts, places), undefined);
  assert.equal(placeUplink(uplink({}), hosts, places), "b");
  assert.equal(placeUplink(uplink({ host: "a" }), hosts, places), "a");
  assert.throws(
    () => placeUplink(uplink({ host: "d" }), hosts, places),
    /network\.uplink: host d is drained/,
  );
  assert.throws(
    () => placeUplink(uplink({ host: "e" }), hosts, places),
    /network\.uplink: there is no host e/,
  );
});

const FILE = "name: c\nnetwork: {uplink: {address: 10.0.0.1/24, host: b}}\n" +
  "vms: [{name: x, kernel: k, host: c}, {name: y, kernel: k, host: b}]";

Deno.test("placement: on one host it is ignored, with a note, and no part of what the VMs are", () => {
  const spec = parse(FILE);
  assert.equal(
    placementNote(spec),
    "The cluster file names the hosts b, c; without a coordinator all of it runs on this one.",
  );
  assert.deepEqual(withoutPlacement(spec), parse(FILE.replaceAll(/, host: [bc]/g, "")));
  assert.equal(placementNote(withoutPlacement(spec)), undefined);
});

const NAMES = ["a", "b", "c", "d", "e"];
const hostsArb = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom(...NAMES),
    cores: fc.integer({ min: 1, max: 8 }),
    memoryMiB: fc.integer({ min: 512, max: 4096 }),
    drained: fc.boolean(),
  }),
  { selector: ({ name }) => name, minLength: 1 },
);
const clusterArb = fc.array(
  fc.tuple(
    fc.integer({ min: 32, max: 600 }),
    fc.option(fc.constantFrom(...NAMES), { nil: undefined, freq: 3 }),
  ),
  { minLength: 1, maxLength: 12 },
).map((vms) => cluster(...vms));

Deno.test("placement: all VMs or an error; as they say; never on a drained host; memory kept", () => {
  let placements = 0;
  fc.assert(
    fc.property(clusterArb, hostsArb, fc.nat(), (of, hosts, turn) => {
      const turned = hosts.map((_, i) => hosts[(i + turn) % hosts.length]!);
      let places: Map<number, string>;
      try {
        places = placeVms(of, hosts);
      } catch (error) {
        const { message } = error as Error;
        assert.throws(() => placeVms(of, turned), { name: "ClusterrrError", message });
        return;
      }
      placements++;
      assert.deepEqual(places, placeVms(of, turned), "depends on the order of the hosts");
      assert.deepEqual([...places.keys()], of.vms.map(({ number }) => number));
      for (const { name, drained, memoryMiB } of hosts) {
        const here = of.vms.filter(({ number }) => places.get(number) === name);
        assert(!drained || here.length === 0, `VMs on ${name}, which is drained`);
        const mib = here.reduce((sum, vm) => sum + vm.memoryMiB, 0);
        assert(mib <= memoryMiB || here.every((vm) => vm.host === name), `${name} is over-full`);
      }
      for (const vm of of.vms) assert(vm.host === undefined || places.get(vm.number) === vm.host);
    }),
    { numRuns: 2000 },
  );
  assert(placements > 200, `only ${placements} of the clusters could be placed`);
});

Deno.test("placement: equal hosts with room get numbers that differ by one at most", () => {
  const sizes = fc.array(fc.integer({ min: 32, max: 600 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 5 }), (memories, count) => {
      const hosts = NAMES.slice(0, count).map((name) => host(name, { memoryMiB: 1 << 20 }));
      const places = placeVms(cluster(...memories.map((mib) => [mib] as const)), hosts);
      const numbers = hosts.map(({ name }) => [...places.values()].filter((at) => at === name));
      const counts = numbers.map((at) => at.length);
      assert(Math.max(...counts) - Math.min(...counts) <= 1, `${counts}`);
      const mib = hosts.map(({ name }) =>
        memories.reduce((sum, size, i) => sum + (places.get(i + 1) === name ? size : 0), 0)
      );
      // Largest first within equal numbers: no more apart than the largest VM.
      assert(Math.max(...mib) - Math.min(...mib) <= Math.max(...memories), `${mib}`);
    }),
    { numRuns: 500 },
  );
});
