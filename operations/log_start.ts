/**
 * Finds out at which instruction count the logs of recordings from a snapshot start.
 *
 * QEMU writes instructions into its log when the next event comes. What a VM executed between its last
 * event and the pause is in the state that was saved, but not in the log's count: a recording from there
 * begins with an INSTRUCTION event of that length before anything is executed (the vCPU starts with a
 * CHECKPOINT_CLOCK_WARP_ACCOUNT). No monitor command tells the count, so one short recording is made.
 */
import { decodeEvents } from "../hypervisor/rr_log/events.ts";
import type { RrLogTable } from "../hypervisor/rr_log/tables.ts";
import type { VmRun } from "../hypervisor/qemu_vm.ts";
import { RecordedQemu } from "../hypervisor/vm.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { sleep } from "../lib/sleep.ts";

const TURN_MS = 2;
/** The vCPU has started by then. */
const RUN_MS = 30;
const ATTEMPTS_MAX = 5;

/**
 * Starts a VM from its saved state and looks at the beginning of its log.
 * @param make gives the VM's files of a fresh run, and a tap that nobody has open
 * @returns how many instructions the log is behind the VM when it starts
 * @throws {ClusterrrError} where the state cannot be loaded
 */
export async function logLag(
  make: () => Promise<{ run: VmRun; tap: string; serialInput?: string }>,
  table: RrLogTable,
): Promise<number> {
  let name = "";
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const { run, tap, serialInput } = await make();
    name = run.hardware.name;
    const lag = firstRun(await recordShortly(new RecordedQemu(run, tap, serialInput)), table);
    if (lag !== undefined) return lag;
  }
  throw new ClusterrrError(`VM ${name} does not run from the state that was saved. Boot it again.`);
}

/** Records a VM for a moment; returns its log. */
async function recordShortly(vm: RecordedQemu): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let open = true;
  const reading = (async () => {
    while (open) {
      const chunk = vm.readLog();
      vm.readSent(() => {});
      if (chunk === "closed") return;
      if (chunk === "again") await sleep(TURN_MS);
      else chunks.push(chunk.slice());
    }
  })();
  reading.catch(() => {}); // its failure shows where it is awaited
  try {
    await vm.start();
    await vm.resume();
    await sleep(RUN_MS);
    await vm.quit();
    await reading;
  } finally {
    open = false;
    await reading;
    await vm.close();
  }
  return new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

/**
 * The length of the run behind CHECKPOINT_RESET, where the state is loaded; 0 where there is another
 * event; `undefined` where the VM did not get to run.
 */
export function firstRun(log: Uint8Array<ArrayBuffer>, table: RrLogTable): number | undefined {
  let loaded = false;
  for (const event of decodeEvents(log, table, "the log of a state's first moment")) {
    if (loaded) {
      if (event.name.startsWith("SHUTDOWN") || event.name === "END") return undefined;
      return event.type === "instruction" ? event.count : 0;
    }
    loaded = event.name === "CHECKPOINT_RESET";
  }
  return undefined;
}
