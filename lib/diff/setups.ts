/** What two runs were made with that is not the same: often the reason why they differ. */
import type { Run } from "./runs.ts";

/** One line for each; none where nothing is known of one side. */
export function compareSetups(a: Run, b: Run): string[] {
  const lines: string[] = [];
  if (a.manifest === undefined || b.manifest === undefined) {
    if (a.identity.id !== b.identity.id) lines.push("they are of two different recordings");
    return lines;
  }
  if (a.manifest.snapshot?.sha256 !== b.manifest.snapshot?.sha256) {
    lines.push("they start from different snapshots, or one of them at power-on");
  }
  for (const vm of a.manifest.vms) {
    const other = b.manifest.vms.find(({ name }) => name === vm.name);
    if (other === undefined) continue;
    if (vm.qemu.sha256 !== other.qemu.sha256) {
      const versions = [vm, other].map(({ qemu }) => qemu.version);
      lines.push(`${vm.name}: another build of QEMU (${versions.join(", ")})`);
    }
    const images = (each: typeof vm) => each.images.map(({ role, sha256 }) => `${role} ${sha256}`);
    const there = new Set(images(other));
    const changed = new Set(
      images(vm).filter((image) => !there.has(image)).map((image) => image.split(" ")[0]),
    );
    if (changed.size === 0 && images(vm).length !== images(other).length) {
      changed.add("set of disks");
    }
    if (changed.size > 0) lines.push(`${vm.name}: another ${[...changed].join(", ")}`);
  }
  return lines;
}
