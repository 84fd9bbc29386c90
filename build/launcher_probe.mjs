// What launcher tests pack in clusterrr's place: it tells how it was started, and ends as it is told.
const [what, ...rest] = Deno.args;
if (what === "exit") Deno.exit(Number(rest[0]));
if (what === "wait") Deno.addSignalListener("SIGTERM", () => Deno.exit(43));
console.log(JSON.stringify({
  args: Deno.args,
  directory: Deno.cwd(),
  pid: Deno.pid,
  umask: Deno.umask(),
}));
if (what === "wait" || what === "sleep") setInterval(() => {}, 1000);
