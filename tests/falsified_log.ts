/** For tests that have to find a difference: the log of a VM, written again with something else in it. */
import { decodeEvents } from "../hypervisor/rr_log/events.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import type { CheckPoint } from "../lib/recording/hybrid_log.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../lib/recording/hybrid_log_writer.ts";
import { readManifest, vmDirectory, writeManifest } from "../lib/recording/manifest.ts";

/** What to put in place of items; by default, what was there. */
export interface Falsification {
  readonly check?: (check: CheckPoint) => CheckPoint;
  /** The hash of a sent frame, 8 bytes. */
  readonly sendHash?: (sendNumber: number, hash: Uint8Array) => Uint8Array;
}

/** Writes the log of VM `name` anew in a sealed recording, which is sealed again: nothing of it is damaged. */
export function falsifyLog(directory: string, name: string, falsification: Falsification): void {
  const { check = (check) => check, sendHash = (_, hash) => hash } = falsification;
  const manifest = readManifest(directory);
  const vm = manifest.vms.find((vm) => vm.name === name)!;
  const { number, firstIcount = 0, qemu: { rrLogVersion } } = vm;
  const table = tableForVersion(rrLogVersion);
  const folder = vmDirectory(directory, name);
  Deno.renameSync(folder, `${folder}-true`);
  const reader = HybridLogReader.open(`${folder}-true`, { vm: number, rrLogVersion, closed: true });
  const log = new HybridLogWriter(folder, { vm: number, rrLogVersion, firstIcount });
  let icount = firstIcount;
  let complete = false;
  const visitor = {
    events(bytes: Uint8Array) {
      const before = icount;
      for (const event of decodeEvents(bytes, table, name)) icount = before + event.icount;
      log.events(bytes, 0, bytes.length, icount);
    },
    reference: log.reference.bind(log),
    frame: log.frame.bind(log),
    send: (n: number, length: number, hash: Uint8Array, lamport: bigint, head: Uint8Array) =>
      log.send(length, sendHash(n, hash), lamport, head),
    check: (each: CheckPoint) => log.check(check(each)),
    epoch: log.epoch.bind(log),
    end: (isComplete: boolean) => void (complete = isComplete),
  };
  while (reader.nextBlock(visitor));
  reader.close();
  const { segments, complete: _complete, closed: _closed, icount: _icount, ...totals } = log.close(
    complete,
  );
  Deno.renameSync(`${folder}-true/console.log`, `${folder}/console.log`);
  Deno.removeSync(`${folder}-true`, { recursive: true });
  writeManifest(directory, {
    ...manifest,
    vms: manifest.vms.map((each) => each === vm ? { ...vm, totals } : each),
    segments: [
      ...manifest.segments.filter(({ vm }) => vm !== number),
      ...segments.map((segment) => ({ vm: number, ...segment })),
    ],
  });
}
