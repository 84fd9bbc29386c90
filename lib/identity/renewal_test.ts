/** The certificate of a process that runs for long. */
import assert from "node:assert/strict";
import { sleep } from "../sleep.ts";
import type { Log } from "../telemetry/log.ts";
import type { Identity } from "./files.ts";
import { IdentityKeeper } from "./renewal.ts";

const DAY_MS = 86_400_000;
const ca = { notAfter: new Date(Date.now() + 3650 * DAY_MS) };
const validFor = (days: number) => ({ notAfter: new Date(Date.now() + days * DAY_MS) }) as Identity;

/** With what it says and whom it tells. */
function kept(identity: Identity, renew: () => Promise<Identity | undefined>) {
  const said: string[] = [];
  const told: Identity[] = [];
  const log = {
    info: (text: string) => void said.push(text),
    warning: (text: string, { reason }: { reason: string }) =>
      void said.push(text.replace("{reason}", reason)),
  } as unknown as Log;
  const onRenewed = (renewed: Identity) => void told.push(renewed);
  return { said, told, it: new IdentityKeeper(identity, ca, { renew, onRenewed, log }) };
}

Deno.test("a certificate is renewed in its last third, and not before", async () => {
  const fresh = validFor(365);
  for (const [days, calls] of [[122, 0], [121, 1], [-1, 1]]) {
    let asked = 0;
    const old = validFor(days!);
    const { it, told, said } = kept(old, () => Promise.resolve((asked++, fresh)));
    await it.check();
    await it.check();
    it.close();
    assert.equal(asked, calls, `${days} days`);
    assert.deepEqual(told, calls === 0 ? [] : [fresh]);
    assert.equal(it.current, calls === 0 ? old : fresh);
    assert.deepEqual(said, calls === 0 ? [] : ["renewed the certificate, until {until}"]);
  }
});

Deno.test("a renewal that fails, or is not possible now, is tried again at the next look", async () => {
  const answers = [
    Promise.reject(new Error("the coordinator is away")),
    Promise.resolve(undefined),
  ];
  answers[0]!.catch(() => {});
  const fresh = validFor(365);
  const { it, told, said } = kept(validFor(5), () => answers.shift() ?? Promise.resolve(fresh));
  await it.check();
  assert.deepEqual(said, ["cannot renew the certificate: the coordinator is away"]);
  await it.check();
  assert.equal(said.length, 1);
  assert.deepEqual(told, []);
  await it.check();
  it.close();
  assert.deepEqual(told, [fresh]);
});

Deno.test("it looks by itself, one look at a time, until it is closed", async () => {
  let asked = 0;
  const answer = Promise.withResolvers<Identity | undefined>();
  const { it } = kept(validFor(5), () => (asked++, answer.promise));
  it.start(5);
  await sleep(100);
  assert.equal(asked, 1, "the first one is still under way");
  answer.resolve(undefined);
  for (let i = 0; asked < 3; i++) {
    assert.ok(i < 200, "it does not look again");
    await sleep(10);
  }
  it.close();
  const before = asked;
  await sleep(50);
  assert.equal(asked, before);
});
