/** Files that appear whole or not at all. */

/** Writes `parts`, one after the other, to `path`, by way of a file beside it. */
export async function writeWhole(
  path: string,
  mode: number,
  ...parts: readonly Uint8Array[]
): Promise<void> {
  const unfinished = `${path}.${Deno.pid}.new`;
  try {
    using file = await Deno.open(unfinished, { write: true, create: true, truncate: true, mode });
    for (const part of parts) {
      for (let written = 0; written < part.length;) {
        written += await file.write(part.subarray(written));
      }
    }
    await Deno.chmod(unfinished, mode); // whatever the umask is
    await Deno.rename(unfinished, path);
  } catch (error) {
    await Deno.remove(unfinished).catch(() => {});
    throw error;
  }
}
