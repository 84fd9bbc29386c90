/**
 * An agent's connection to its coordinator: made again whenever it ends, for as long as the agent lives.
 *
 * ```
 * connect ──▶ hello ──▶ heartbeats, calls of the coordinator ──ends──▶ wait a little ──▶ connect …
 * ```
 */
import { messageOf } from "../../lib/errors.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import { AGENT_METHODS, AGENT_REPORTS } from "../../lib/protocol/control.ts";
import { type Handlers, type Rpc, startRpc } from "../../lib/protocol/rpc.ts";
import { sleepUnless } from "../../lib/sleep.ts";
import type { z } from "zod";

type Reports = typeof AGENT_REPORTS;
export type HelloParams = z.input<Reports["hello"]["params"]>;
export type HelloAnswer = z.output<Reports["hello"]["result"]>;

const BACKOFF_MS_MIN = 200;
const BACKOFF_MS_MAX = 2_000;

export interface CoordinatorLinkOptions {
  connect(signal: AbortSignal): Promise<Channel>;
  readonly handlers: Handlers<typeof AGENT_METHODS>;
  /** What is said at each connection. */
  hello(): HelloParams;
  onHello(answer: HelloAnswer, rpc: Rpc<Reports>): void;
  /** Called once the coordinator has been away for `lostAfterMs`. */
  readonly lostAfterMs: number;
  onLost(): void;
  onState(state: { connected: boolean; reason?: string }): void;
}

/** Keeps the connection until `signal` is aborted. */
export async function keepCoordinatorLink(
  options: CoordinatorLinkOptions,
  signal: AbortSignal,
): Promise<void> {
  let backoffMs = BACKOFF_MS_MIN;
  let away: ReturnType<typeof setTimeout> | undefined;
  const beAway = () => away ??= setTimeout(() => options.onLost(), options.lostAfterMs);
  try {
    while (!signal.aborted) {
      try {
        const channel = await options.connect(signal);
        const { handlers } = options;
        const rpc = startRpc(channel, { serves: AGENT_METHODS, handlers, calls: AGENT_REPORTS });
        const close = () => rpc.close();
        signal.addEventListener("abort", close, { once: true });
        try {
          const answer = await rpc.call("hello", options.hello());
          clearTimeout(away);
          away = undefined;
          options.onHello(answer, rpc);
          options.onState({ connected: true });
          backoffMs = BACKOFF_MS_MIN;
          await beat(rpc, answer);
        } finally {
          signal.removeEventListener("abort", close);
          rpc.close();
        }
        options.onState({ connected: false, reason: await rpc.closed ?? "it was closed" });
      } catch (error) {
        if (signal.aborted) return;
        options.onState({ connected: false, reason: messageOf(error) });
      }
      beAway();
      if (!await sleepUnless(backoffMs * (0.5 + Math.random()), signal)) return;
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
    }
  } finally {
    clearTimeout(away);
  }
}

/** Gives signs of life until the connection ends, or the coordinator does not answer in time. */
async function beat(
  rpc: Rpc<Reports>,
  { heartbeatMs, lostAfterMs }: HelloAnswer,
): Promise<void> {
  const ended = new AbortController();
  void rpc.closed.then(() => ended.abort());
  while (await sleepUnless(heartbeatMs, ended.signal)) {
    try {
      await rpc.call("heartbeat", {}, { timeoutMs: lostAfterMs });
    } catch {
      return;
    }
  }
}
