import assert from "node:assert/strict";
import { ClusterrrError, HostError } from "../lib/errors.ts";
import { run } from "../host/command.ts";
import { namesOf } from "./names.ts";
import { requireNetworkPrivileges } from "./privileges.ts";
import { freshRun, freshUplinkAddress, macOf, openTaps, testFrame } from "./tap_fixture.ts";
import {
  createNetwork,
  findLeftNetworks,
  type Network,
  type NetworkPlan,
  removeNetwork,
} from "./topology.ts";

function planOf(vms: number, extra: Partial<NetworkPlan> = {}): NetworkPlan {
  const numbered = Array.from({ length: vms }, (_, i) => ({ number: i + 1, name: `vm${i + 1}` }));
  return { run: freshRun(), vms: numbered, ...extra };
}

/** Everything on the host that carries the run's id. */
async function tracesOf(runId: string): Promise<string[]> {
  const listings = await Promise.all([
    run(["ip", "netns", "list"]),
    run(["ip", "-o", "link", "show"]),
    run(["nft", "list", "tables"]),
    run(["ls", "/sys/fs/bpf"]),
  ]);
  return listings.join("\n").split("\n").filter((line) => line.includes(runId));
}

async function forwarding(): Promise<string> {
  return (await Deno.readTextFile("/proc/sys/net/ipv4/ip_forward")).trim();
}

interface Link {
  readonly ifname: string;
  readonly mtu: number;
  readonly txqlen: number;
  readonly flags: string[];
  readonly qdisc: string;
  readonly linkinfo?: { readonly info_data?: Record<string, unknown> };
}

async function linksIn(network: Network): Promise<Map<string, Link>> {
  const links: Link[] = JSON.parse(await run([...network.enter, "ip", "-j", "-d", "link", "show"]));
  return new Map(links.map((link) => [link.ifname, link]));
}

Deno.test("a network has a quiet bridge and a persistent tap per VM, and leaves nothing", async () => {
  const plan = planOf(3);
  const network = await createNetwork(plan);
  try {
    assert.equal(network.netns, `/run/netns/clrr-${plan.run}`);
    assert.deepEqual(await findLeftNetworks().then((runs) => runs.filter((r) => r === plan.run)), [
      plan.run,
    ]);
    const links = await linksIn(network);
    const bridge = links.get(namesOf(plan.run).bridge)!.linkinfo!.info_data!;
    assert.equal(bridge["stp_state"], 0);
    assert.equal(bridge["forward_delay"], 0);
    assert.equal(bridge["mcast_snooping"], 0);
    for (const vm of [1, 2, 3]) {
      const tap = links.get(network.tapOf(vm))!;
      assert.equal(tap.txqlen, 10_000);
      assert.equal(tap.qdisc, "pfifo_fast");
      assert.ok(tap.flags.includes("UP"));
      const data = tap.linkinfo!.info_data!;
      assert.deepEqual([data["type"], data["persist"], data["vnet_hdr"], data["multi_queue"]], [
        "tap",
        true,
        false,
        false,
      ]);
    }
    const sysctls = await run([
      ...network.enter,
      "sh",
      "-c",
      "cat /proc/sys/net/ipv6/conf/*/disable_ipv6 /proc/sys/net/bridge/bridge-nf-call-*tables",
    ]);
    assert.match(sysctls, /^(1\n){7}(0\n){3}$/); // all, default, lo, bridge, three taps
    assert.throws(() => network.tapOf(4), /not in the plan/);
  } finally {
    await network.remove();
  }
  assert.deepEqual(await tracesOf(plan.run), []);
  assert.deepEqual(await removeNetwork(plan.run), []);
});

Deno.test("nothing but what a VM sends is on the bridge", async () => {
  const plan = planOf(2, { uplink: { address: freshUplinkAddress(), nat: false } });
  const network = await createNetwork(plan);
  try {
    const [one, two] = await openTaps(network, [1, 2]);
    using _one = one!;
    using port = two!;
    await new Promise((resolve) => setTimeout(resolve, 1200)); // longer than IPv6 and IGMP wait
    assert.equal(port.poll(), undefined);
    const frame = testFrame(macOf(1), "alone");
    one!.send(frame);
    assert.deepEqual(await port.receive(), frame);
    await network.cut();
    one!.send(frame);
    await assert.rejects(port.receive(300), /no frame/);
  } finally {
    await network.remove();
  }
});

Deno.test("NAT comes with a table and ip_forward, and goes with the last run that needs it", async () => {
  const before = await forwarding();
  const plans = [0, 1].map(() =>
    planOf(1, { uplink: { address: freshUplinkAddress(), nat: true } })
  );
  const made: Network[] = [];
  try {
    for (const plan of plans) made.push(await createNetwork(plan));
    assert.equal(await forwarding(), "1");
    const names = namesOf(plans[0]!.run);
    const table = await run(["nft", "list", "table", "ip", names.natTable]);
    const subnet = plans[0]!.uplink!.address.replace(".254/", ".0/");
    assert.ok(table.includes(`ip saddr ${subnet} oifname != "${names.uplink}" masquerade`), table);
    assert.deepEqual(await removeNetwork(plans[0]!.run), [
      `nft table ${names.natTable}`,
      `link ${names.uplink}`,
      `netns ${names.netns}`,
    ]);
    assert.equal(await forwarding(), "1");
  } finally {
    for (const plan of plans) await removeNetwork(plan.run);
  }
  const others = (await run(["nft", "list", "tables"])).includes("clusterrr_");
  assert.equal(await forwarding(), others ? "1" : before);
  for (const plan of plans) assert.deepEqual(await tracesOf(plan.run), []);
  assert.equal(made.length, 2);
});

Deno.test("many networks come up at the same time", async () => {
  const plans = [planOf(2), planOf(2, { uplink: { address: freshUplinkAddress(), nat: true } })];
  try {
    const networks = await Promise.all(plans.map(createNetwork));
    for (const network of networks) assert.ok((await linksIn(network)).has(network.tapOf(2)));
  } finally {
    await Promise.all(plans.map((plan) => removeNetwork(plan.run)));
  }
  for (const plan of plans) assert.deepEqual(await tracesOf(plan.run), []);
});

Deno.test("of two networks with one run id the second fails and leaves the first alone", async () => {
  const plan = planOf(2);
  try {
    const results = await Promise.allSettled([createNetwork(plan), createNetwork(plan)]);
    const made = results.filter((result) => result.status === "fulfilled");
    const failed = results.filter((result) => result.status === "rejected");
    assert.equal(made.length, 1);
    assert.ok(failed[0]!.reason instanceof HostError);
    assert.match(failed[0]!.reason.message, /File exists/);
    assert.equal((await linksIn(made[0]!.value)).has(made[0]!.value.tapOf(2)), true);
  } finally {
    await removeNetwork(plan.run);
  }
});

Deno.test("a failure half way removes what was made and nothing else", async () => {
  const address = freshUplinkAddress();
  const plan = planOf(2, { uplink: { address, nat: true } });
  const names = namesOf(plan.run);
  await run(["ip", "link", "add", names.uplink, "type", "bridge"]); // takes the uplink's name
  try {
    await assert.rejects(createNetwork(plan), HostError);
    const traces = await tracesOf(plan.run);
    assert.equal(traces.length, 1);
    assert.match(traces[0]!, new RegExp(`: ${names.uplink}:`));
  } finally {
    await run(["ip", "link", "delete", names.uplink]);
  }
  await run(["nft", "add", "table", "ip", names.natTable]); // the last step fails
  const before = await forwarding();
  try {
    await assert.rejects(createNetwork(plan), HostError);
    assert.deepEqual(await tracesOf(plan.run), [`table ip ${names.natTable}`]);
    assert.equal(await forwarding(), before);
  } finally {
    await run(["nft", "delete", "table", "ip", names.natTable]);
  }
  assert.deepEqual(await tracesOf(plan.run), []);
});

/** Runs `work` with an `nft` that can only say `stderr`. */
async function withFailingNft(stderr: string, work: () => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-nft-" });
  const path = Deno.env.get("PATH")!;
  try {
    const script = `#!/bin/sh\necho "${stderr}" >&2\nexit 1\n`;
    await Deno.writeTextFile(`${directory}/nft`, script, { mode: 0o755 });
    Deno.env.set("PATH", `${directory}:${path}`);
    await work();
  } finally {
    Deno.env.set("PATH", path);
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("on a kernel without nf_tables a network comes, is found and goes", async () => {
  for (
    const stderr of [ // nft 1.0.6, with socket or sendto failing
      "mnl.c:60: Unable to initialize Netlink socket: Protocol not supported",
      "netlink: Error: cache initialization failed: Operation not supported",
      "netlink: Error: cache initialization failed: Invalid argument",
    ]
  ) {
    const plan = planOf(1);
    await withFailingNft(stderr, async () => {
      const network = await createNetwork(plan);
      assert.ok((await findLeftNetworks()).includes(plan.run));
      await network.remove();
    });
    assert.deepEqual(await tracesOf(plan.run), []);
  }
});

Deno.test("what cannot be removed is told, and keeps nothing else", async () => {
  const plan = planOf(1, { uplink: { address: freshUplinkAddress(), nat: false } });
  await withFailingNft("Operation not permitted (you must be root)", async () => {
    const network = await createNetwork(plan);
    await assert.rejects(network.remove(), /^HostError: nft .*Operation not permitted/);
    await assert.rejects(findLeftNetworks(), HostError, "there may be tables of ours");
  });
  assert.deepEqual(await tracesOf(plan.run), []);
});

Deno.test("a plan that cannot work is refused before anything is made", async () => {
  const address = freshUplinkAddress();
  const used = planOf(1, { uplink: { address, nat: false } });
  const network = await createNetwork(used);
  try {
    const clash = planOf(1, { uplink: { address, nat: false } });
    await assert.rejects(
      createNetwork(clash),
      (error: unknown) =>
        error instanceof ClusterrrError && error.message.includes(namesOf(used.run).uplink),
    );
    assert.deepEqual(await tracesOf(clash.run), []);
  } finally {
    await network.remove();
  }
  await assert.rejects(createNetwork(planOf(1023)), /a bridge has room for 1022/);
  await assert.rejects(
    createNetwork(planOf(1, { uplink: { address: "10.77.0.999/24", nat: false } })),
    /not an IPv4 address/,
  );
  const twice = [{ number: 1, name: "a" }, { number: 1, name: "b" }];
  await assert.rejects(createNetwork({ run: freshRun(), vms: twice }), /same number/);
});

Deno.test("without privileges the error says what to do", async () => {
  const plan = JSON.stringify(planOf(1));
  const module = new URL("./topology.ts", import.meta.url).href;
  const script = `import { createNetwork } from "${module}";
    await createNetwork(${plan}).catch((e) => console.log(e.name, e.code, e.message));`;
  const cache = await Deno.makeTempDir();
  try {
    await Deno.chmod(cache, 0o777);
    const file = `${cache}/create.ts`;
    await Deno.writeTextFile(file, script);
    const { stdout, stderr } = await new Deno.Command("setpriv", {
      args: ["--reuid=65534", "--regid=65534", "--clear-groups", Deno.execPath()]
        .concat(["run", "-A", "--no-check", "--no-lock", file]),
      env: { DENO_DIR: `${cache}/deno`, HOME: cache },
      cwd: "/",
      signal: AbortSignal.timeout(30_000),
    }).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assert.match(text, /^HostError 1 setting up the cluster's network failed \(1\)/);
    assert.match(text, /lacks CAP_NET_ADMIN and CAP_SYS_ADMIN\nRun clusterrr as root/);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

/** What `script` prints, run as a process of its own by the command `by`. */
async function printedBy(by: readonly string[], script: string): Promise<string> {
  const deno = [Deno.execPath(), "run", "-A", "--no-check", "--no-lock", "-"];
  const topology = new URL("./topology.ts", import.meta.url).href;
  const stdin = `import { createNetwork } from "${topology}";\n${script}`;
  return await run([...by, ...deno], { stdin });
}

Deno.test("where /proc/sys is read-only, as in a container, the error says what to do", async () => {
  const plan = planOf(1);
  const mounts = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
  const text = await printedBy(
    ["unshare", "--mount", "sh", "-ec", `${mounts} && exec "$@"`, "sh"],
    `await createNetwork(${JSON.stringify(plan)}).catch((e) => console.log(e.name, e.message));`,
  );
  assert.match(
    text,
    /^HostError writing \/proc\/sys\/net\/\S+ failed \(30\): Read-only file system.*\n.*--privileged/,
  );
  assert.deepEqual(await tracesOf(plan.run), []);
});

Deno.test("NAT beside a firewall that drops what is forwarded comes with a note", async () => {
  const uplink = { address: freshUplinkAddress(), nat: true };
  const [plan, without] = [planOf(1, { uplink }), planOf(1, { uplink: { ...uplink, nat: false } })];
  const firewall = "add table inet strict; add chain inet strict through " +
    "{ type filter hook forward priority 0; policy drop; }";
  const text = await printedBy(
    ["unshare", "--net", "sh", "-ec", `nft '${firewall}'; exec "$@"`, "sh"],
    `for (const plan of ${JSON.stringify([plan, without])}) {
       const network = await createNetwork(plan);
       await network.remove();
       console.log(JSON.stringify(network.notes));
     }`,
  );
  assert.match(
    text,
    /^\["NAT may not work: [^\n]*inet strict through drops[^\n]*nft 'insert.*\n\[\]\n$/,
  );
  for (const { run } of [plan, without]) assert.deepEqual(await tracesOf(run), []);
});

Deno.test("each missing privilege is named", () => {
  requireNetworkPrivileges("CapEff:\t000001ffffffffff\n");
  assert.throws(
    () => requireNetworkPrivileges("CapEff:\t0000000000200000\n"),
    /lacks CAP_NET_ADMIN\n/,
  );
  assert.throws(
    () => requireNetworkPrivileges("CapEff:\t0000000000001000\n"),
    /lacks CAP_SYS_ADMIN\n/,
  );
});
