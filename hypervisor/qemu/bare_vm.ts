/** For tests: a real QEMU that runs SeaBIOS only, in a directory of its own. */
import { statFields } from "../../host/process_stat.ts";
import { inspectQemu } from "./capabilities.ts";
import { QemuProcess, type QemuStart } from "./process.ts";

/** What starts a bare VM; `extra` options follow the common ones. */
export async function bareVm(directory: string, extra: readonly string[]): Promise<QemuStart> {
  const { path } = await inspectQemu();
  const qmpPath = `${directory}/qmp`;
  return {
    name: "bare",
    argv: [
      path,
      ...["-machine", "pc", "-accel", "tcg", "-m", "32", "-nodefaults", "-no-user-config"],
      ...["-display", "none", "-no-reboot", "-S"],
      ...["-chardev", `socket,id=qmp,path=${qmpPath},server=on,wait=off`],
      ...["-mon", "chardev=qmp,mode=control"],
      ...extra,
    ],
    enter: [],
    qmpPath,
    logPath: `${directory}/qemu.log`,
    timeoutMs: 20_000,
  };
}

/** Gives `work` a directory and removes it. */
export async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-qemu-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Gives `work` a started, paused QEMU, and ends it whatever happens. */
export async function withBareVm(
  extra: readonly string[],
  work: (qemu: QemuProcess, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const qemu = await QemuProcess.start(await bareVm(directory, extra));
    try {
      await work(qemu, directory);
    } finally {
      await qemu.end(2_000);
    }
  });
}

/** Whether a process has gone, or is only waiting to be reaped. */
export function hasEnded(pid: number): boolean {
  try {
    return statFields(pid)[0] === "Z";
  } catch {
    return true;
  }
}

/** Waits until a process has ended; false after `timeoutMs`. */
export async function endsWithin(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    if (hasEnded(pid)) return true;
    await new Promise((resume) => setTimeout(resume, 10));
  }
  return false;
}
