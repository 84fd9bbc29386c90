/** `clusterrr doctor`: says whether this host can record and replay, and what to do if not. */
import { object } from "@optique/core/constructs";
import type { HostCheck } from "./ports.ts";
import { defineSubcommand, jsonFlag } from "./subcommand.ts";
import { plural, renderTable } from "./table.ts";
import { type Paint, paint, printJson } from "./terminal.ts";

export const doctor = defineSubcommand({
  name: "doctor",
  brief: "Check that this host can do all this.",
  description: [
    "Looks for everything that recording and replaying need: rights, QEMU, kernel features, " +
    "programs, memory and disk space; says how to mend what is missing. Exit status 1 if " +
    "something needed is.",
  ],
  examples: ["doctor", "doctor --json"],
  parser: object({ json: jsonFlag("Print the checks as a JSON object.") }),
  async run({ json }, { operations, terminal }) {
    const checks = await operations.checkHost();
    const ok = checks.every((check) => check.ok || !check.needed);
    if (json) printJson(terminal, { ok, checks });
    else terminal.out(describe(checks, paint(terminal.outColor)));
    return ok ? 0 : 1;
  },
});

function statusOf(check: HostCheck): "ok" | "MISSING" | "advice" {
  return check.ok ? "ok" : check.needed ? "MISSING" : "advice";
}

function describe(checks: readonly HostCheck[], style: Paint): string {
  const color = { ok: style.good, MISSING: style.bad, advice: style.warn };
  const table = renderTable(
    [{ title: "CHECK" }, { title: "STATUS" }, { title: "DETAIL" }],
    checks.map((check) => [check.name, statusOf(check), check.detail]),
    style,
    (text, row, column) => column === 1 ? color[statusOf(checks[row]!)](text) : text,
  );
  const mends = checks
    .filter((check) => !check.ok && check.mend !== "")
    .map((check) => `  ${check.name}: ${check.mend}\n`);
  const missing = checks.filter((check) => !check.ok && check.needed).length;
  const verdict = missing === 0
    ? style.good("This host is ready.")
    : style.bad(`This host is not ready: ${plural(missing, "check")} failed.`);
  return table + (mends.length === 0 ? "" : `\nTo mend:\n${mends.join("")}`) + `\n${verdict}\n`;
}
