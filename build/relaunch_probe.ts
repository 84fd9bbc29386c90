/** What the launch tests bundle in `main.ts`'s place: it tells what it is, and has another one like it tell the same. */
import { ownCommand, packing, restoreEnvironment } from "../host/launch.ts";

restoreEnvironment();
console.log(packing(), Deno.args.join(" "));
if (Deno.args[0] !== "again") {
  const [program, ...args] = ownCommand();
  const { code } = await new Deno.Command(program!, {
    args: [...args, "again", "a b"],
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  Deno.exit(code === 7 ? 0 : 1);
}
Deno.exit(7);
