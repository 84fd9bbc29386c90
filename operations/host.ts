/** What a manifest says of the host that recorded. */

/** Kernel release, CPU model, cores. */
export function describeHost(): { kernel: string; cpu: string; cores: number } {
  const cpu = /^model name\s*:\s*(.*)$/m.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1];
  return {
    kernel: Deno.osRelease(),
    cpu: cpu ?? "unknown",
    cores: navigator.hardwareConcurrency,
  };
}
