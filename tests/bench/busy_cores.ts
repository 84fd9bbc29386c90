/** Load for a measurement: every core of this machine kept busy by somebody else. */

/** Keeps every core busy while `work` goes on; the loops end with it, and with this process. */
export async function withBusyCores<T>(work: () => Promise<T>): Promise<T> {
  const loops = Array.from(
    { length: navigator.hardwareConcurrency },
    () =>
      new Deno.Command("setpriv", {
        args: ["--pdeathsig", "KILL", "--", "sh", "-c", "while :; do :; done"],
        stdin: "null",
      }).spawn(),
  );
  try {
    return await work();
  } finally {
    for (const loop of loops) loop.kill("SIGKILL");
    await Promise.all(loops.map((loop) => loop.status));
  }
}
