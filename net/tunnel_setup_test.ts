/** Tunnels that cannot be made, and what is left when they go. */
import assert from "node:assert/strict";
import { ClusterrrError } from "../lib/errors.ts";
import { run } from "../host/command.ts";
import { closeFd, type Fd, libc } from "../host/libc.ts";
import { type Host, withHosts } from "./host_fixture.ts";
import { namesOf } from "./names.ts";
import { openTaps } from "./tap_fixture.ts";
import { createNetwork, findLeftNetworks, removeNetwork } from "./topology.ts";
import { checkTunnel, type TunnelPlan } from "./tunnel.ts";
import { planSite } from "./tunnel_fixture.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SETUP = { vms: [[1], [2]] };

/** Every device of the namespace that has the run's name, and its namespace. */
async function tracesOf(host: Host, runId: string): Promise<string[]> {
  const listings = [
    await run(["ip", "netns", "list"]),
    await run(["ip", "-n", host.netns, "-o", "link", "show"]),
  ];
  return listings.join("\n").split("\n").filter((line) => line.includes(runId));
}

/** Takes a UDP port of this thread's namespace, as another program does. */
function bindUdp(port: number): Fd {
  const fd = libc().socket(AF_INET, SOCK_DGRAM, 0);
  const address = new Uint8Array(16); // struct sockaddr_in
  address.set([AF_INET, 0, port >> 8, port & 255]);
  assert.equal(libc().bind(fd, address, address.length), 0);
  return fd;
}

Deno.test("a tunnel is a quiet port, knows where every VM is, and leaves nothing", async () => {
  await withHosts(3, 1500, async ({ hosts }) => {
    const setup = { vms: [[1], [2, 3], [4]] };
    const plan = planSite(setup, hosts, 0, 5n);
    const { tunnel } = namesOf(plan.run);
    const [host] = hosts;
    const network = await host!.act(() => createNetwork(plan));
    try {
      const show = ["ip", "-j", "-d", "link", "show", tunnel];
      const [link] = JSON.parse(await run([...network.enter, ...show]));
      const { id, port, local, learning } = link.linkinfo.info_data;
      assert.deepEqual([id, port, local, learning], [0xabcdef, 4790, "192.0.2.1", false]);
      assert.equal(link.mtu, 1544);
      assert.equal(link.master, undefined, "no frame passes without a recorder");
      const fdb: { mac: string; dst?: string }[] = JSON.parse(
        await run([...network.enter, "bridge", "-j", "fdb", "show", "dev", tunnel]),
      );
      const known = fdb.filter(({ dst }) => dst !== undefined).map(({ mac, dst }) =>
        `${mac} ${dst}`
      );
      assert.deepEqual(known.sort(), [
        "00:00:00:00:00:00 192.0.2.2",
        "00:00:00:00:00:00 192.0.2.3",
        "52:54:00:77:00:02 192.0.2.2",
        "52:54:00:77:00:03 192.0.2.2",
        "52:54:00:77:00:04 192.0.2.3",
      ]);
      const sockets = await run(["ip", "netns", "exec", host!.netns, "cat", "/proc/net/udp"]);
      assert.match(sockets, /00000000:12B6|010200C0:12B6/, "the socket is the host's");
    } finally {
      await host!.act(() => network.remove());
    }
    assert.deepEqual(await tracesOf(host!, plan.run), []);
  });
});

Deno.test("a VNI or port that is taken is named, and what was there stays", async () => {
  await withHosts(2, 1500, async ({ hosts }) => {
    const [host] = hosts;
    const first = planSite(SETUP, hosts, 0, 5n);
    const second = planSite(SETUP, hosts, 0, 6n);
    await host!.act(async () => {
      const network = await createNetwork(first);
      try {
        const taken = /UDP port 4790 or VNI 11259375 is in use on this host/;
        await assert.rejects(createNetwork(second), (error: unknown) => {
          assert.ok(error instanceof ClusterrrError);
          assert.match(error.message, taken);
          return true;
        });
        assert.deepEqual(await tracesOf(host!, second.run), []);
        const [link] = JSON.parse(
          await run([...network.enter, "ip", "-j", "link", "show", namesOf(first.run).tunnel]),
        );
        assert.ok(link.flags.includes("UP"));
        // Another VNI on the same port is another run; both go.
        const other = { ...second, tunnel: { ...second.tunnel, vni: 7 } };
        await (await createNetwork(other)).remove();
      } finally {
        await network.remove();
      }
      const socket = bindUdp(4790);
      try {
        await assert.rejects(createNetwork(second), /UDP port 4790 or VNI 11259375 is in use/);
        assert.deepEqual(await tracesOf(host!, second.run), []);
      } finally {
        closeFd(socket);
      }
    });
  });
});

Deno.test("removing frees the port at once, even where a VM holds the namespace open", async () => {
  await withHosts(2, 1500, async ({ hosts }) => {
    const plan = planSite(SETUP, hosts, 0, 5n);
    const next = planSite(SETUP, hosts, 0, 5n);
    await hosts[0]!.act(async () => {
      const network = await createNetwork(plan);
      const [tap] = await openTaps(network, [1]);
      using _held = tap!;
      const { tunnel, netns } = namesOf(plan.run);
      assert.deepEqual(await removeNetwork(plan.run), [`link ${tunnel}`, `netns ${netns}`]);
      assert.deepEqual(await removeNetwork(plan.run), []);
      await (await createNetwork(next)).remove();
    });
  });
});

Deno.test("a tunnel that is left in the host's namespace is found and removed", async () => {
  await withHosts(1, 1500, async ({ hosts }) => {
    const { run: runId } = planSite({ vms: [[1]] }, hosts, 0, 5n);
    const { tunnel } = namesOf(runId);
    await hosts[0]!.act(async () => {
      await run(["ip", "link", "add", tunnel, ..."type vxlan id 3 dstport 4791".split(" ")]);
      assert.ok((await findLeftNetworks()).includes(runId));
      assert.deepEqual(await removeNetwork(runId), [`link ${tunnel}`]);
      assert.equal((await findLeftNetworks()).includes(runId), false);
    });
  });
});

Deno.test("a namespace that never came up is removed by its name", async () => {
  const { run: runId } = planSite({ vms: [[1]] }, [{ address: "192.0.2.1" } as Host], 0, 5n);
  const { netns, netnsPath } = namesOf(runId);
  await Deno.writeTextFile(netnsPath, "");
  assert.deepEqual(await removeNetwork(runId), [`netns ${netns}`]);
  assert.throws(() => Deno.statSync(netnsPath), Deno.errors.NotFound);
});

Deno.test("a tunnel that cannot work is refused before anything is made", () => {
  const remote = {
    address: "192.0.2.2",
    vms: [{ number: 2, mac: "52:54:00:77:00:02" }],
    uplinkMac: "52:54:00:77:03:e7",
  };
  const good: TunnelPlan = {
    local: "192.0.2.1",
    port: 4790,
    vni: 1,
    cookie: 2n ** 64n - 1n,
    remotes: [remote],
  };
  checkTunnel(good, [1]);
  const withRemote = (change: Partial<typeof remote>) => ({ remotes: [{ ...remote, ...change }] });
  const cases: [Partial<TunnelPlan>, RegExp][] = [
    [{ local: "2001:db8::1" }, /2001:db8::1 is an IPv6 address; give every host an IPv4 address/],
    [{ local: "host1" }, /"host1" is not an IPv4 address/],
    [{ local: "192.0.2.01" }, /not an IPv4 address/],
    [{ local: "0.0.0.0" }, /not the address of one host/],
    [withRemote({ address: "239.1.1.1" }), /239.1.1.1 is not the address of one host/],
    [withRemote({ address: "192.0.2.1" }), /two hosts have the address 192.0.2.1/],
    [withRemote({ address: "192.0.2.2 dev lo" }), /not an IPv4 address/],
    [{ port: 0 }, /UDP port 0 is not a number from 1 to 65535/],
    [{ port: 65_536 }, /UDP port/],
    [{ vni: 2 ** 24 }, /VNI 16777216 is not a number from 1 to 16777215/],
    [{ vni: 1.5 }, /VNI/],
    [{ cookie: 0n }, /cookie/],
    [{ cookie: 2n ** 64n }, /cookie/],
    [withRemote({ vms: [{ number: 1, mac: remote.vms[0]!.mac }] }), /VM 1 is on two hosts/],
    [withRemote({ uplinkMac: remote.vms[0]!.mac.toUpperCase() }), /two VMs have the MAC address/],
    [withRemote({ uplinkMac: "52:54:00:77:00\n" }), /is not the MAC address of one VM/],
    [withRemote({ uplinkMac: "53:54:00:77:00:02" }), /is not the MAC address of one VM/],
    [withRemote({ uplinkMac: "00:00:00:00:00:00" }), /is not the MAC address of one VM/],
  ];
  for (const [change, message] of cases) {
    assert.throws(() => checkTunnel({ ...good, ...change }, [1]), (error: unknown) => {
      assert.ok(error instanceof ClusterrrError);
      assert.match(error.message, message);
      return true;
    });
  }
});
