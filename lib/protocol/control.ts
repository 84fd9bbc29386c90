/**
 * What coordinator, agents and operators say to each other: the methods of each side as zod schemas.
 * PROTOCOL.md tells in which order they are called; `rpc.ts` carries them.
 *
 * ```
 * operator ──OPERATOR_METHODS──▶ coordinator ◀──AGENT_REPORTS── agent
 *                                coordinator ──AGENT_METHODS──▶ agent
 * operator, agent ──FILE_METHODS──▶ agent (its link listener)
 * ```
 */
import { z } from "zod";
import { IDENTITY_METHODS } from "../identity/identity_methods.ts";
import { EPOCH_MAX } from "../clocks/lamport.ts";
import type { Channel } from "./channel.ts";
import { JSON_KIND } from "./framing.ts";
import { clusterSpecSchema } from "../cluster/spec_schema.ts";
import { sha256, vmSchema } from "../recording/manifest.ts";

/** Both sides of a connection have to have the same. */
export const CONTROL_VERSION = 1;

const count = z.int().nonnegative();
const text = z.string().max(16 << 10);
export const hostName = z.string().regex(
  /^[a-z][a-z0-9-]{0,30}$/,
  "expected a name of a-z, 0-9 and -, starting with a letter, at most 31 long",
);
/** Of a recording or a replay: random hex. */
export const runId = z.string().regex(/^[0-9a-f]{16}$/, "not a run's id");
const vmNumber = z.int().positive();
const milliseconds = z.number().nonnegative();
export const address = z.strictObject({
  host: z.string().max(255),
  port: z.int().min(1).max(65535),
});
const nothing = z.strictObject({});
const ofRun = z.strictObject({ run: runId });

const qemu = z.strictObject({ path: text, version: text, sha256 });
const hostDescription = z.strictObject({ kernel: text, cpu: text, cores: count, memoryMiB: count });

/** The VMs of a cluster on one host. */
export const placedVms = z.strictObject({ host: hostName, vms: z.array(vmNumber) });
const reachableVms = placedVms.extend({ address });

// ---- a recording on one host

export const recordPlan = z.strictObject({
  run: runId,
  name: text,
  createdAt: z.iso.datetime(),
  cluster: clusterSpecSchema,
  /** The cluster file. */
  text: z.string().max(512 << 10),
  images: z.array(z.strictObject({ vm: vmNumber, images: vmSchema.shape.images })),
  /** Every host's VMs. */
  placement: z.array(placedVms).min(1),
  /** What carries the VMs' frames between hosts; absent where there is one host. */
  tunnel: z.strictObject({
    port: z.int().min(1).max(65535),
    vni: z.int().min(1).max(0xffffff),
    /** 64 bits as hex. */
    cookie: z.string().regex(/^[0-9a-f]{16}$/),
    /** Where each host's end of it is. */
    addresses: z.array(z.strictObject({ host: hostName, address: z.ipv4() })),
  }).exactOptional(),
  uplinkHost: hostName.exactOptional(),
  digestEveryMs: milliseconds,
  epochMs: milliseconds,
});

export const recordStatus = z.strictObject({
  phase: z.enum(["preparing", "prepared", "armed", "running", "quiet", "sealed", "concluded"]),
  /** What is being done in it. */
  doing: text,
  /** The last epoch that has begun here. */
  epoch: z.int().min(0).max(EPOCH_MAX),
  /** Every log has ended. */
  finished: z.boolean(),
  /** Why recording cannot go on here. */
  failure: text.exactOptional(),
  /** A VM that ended otherwise than its guest wished. */
  crash: text.exactOptional(),
  vms: z.array(z.strictObject({
    number: vmNumber,
    name: text,
    icount: count,
    rrLogBytes: count,
    storedBytes: count,
    framesSent: count,
    framesInternal: count,
    framesExternal: count,
    framesUnmatched: count,
    checks: count,
    ended: z.enum(["no", "complete", "cut off"]),
  })),
});

export const recordingEnd = z.strictObject({
  by: z.enum(["poweroff", "duration", "interrupt", "failure"]),
  message: text.exactOptional(),
});

/** What a host's part of a recording came to. */
export const recordedPart = z.strictObject({
  vms: z.array(vmSchema),
  recorder: z.strictObject({
    framesSent: count,
    framesDelivered: count,
    lostEvents: count,
    droppedFrames: count,
  }).exactOptional(),
  complete: z.boolean(),
});

// ---- a replay on one host

export const replayPlan = z.strictObject({
  run: runId,
  recording: runId,
  /** Who replays which VMs, and where its link listener is. */
  placement: z.array(reachableVms).min(1),
  /** Who has which VMs' logs. */
  sources: z.array(reachableVms).min(1),
  /** Compares the states of the recorded checks too. */
  checks: z.boolean(),
  windowEpochs: z.number().positive().exactOptional(),
});

export const linkCounters = z.strictObject({
  peer: hostName,
  frames: count,
  bytes: count,
  retransmissions: count,
  reconnects: count,
  unacknowledgedBytes: count,
  /** Median, ms; absent while none has been measured. */
  roundTripMs: z.number().exactOptional(),
});

export const replayResult = z.strictObject({
  vms: z.array(z.strictObject({
    number: vmNumber,
    name: text,
    framesRecorded: count,
    framesMatched: count,
    instructions: count,
    consoleEqual: z.boolean(),
    replayS: z.number(),
    endedBy: text,
    checks: z.array(z.strictObject({
      at: count,
      icount: z.boolean(),
      registers: z.boolean(),
      ram: z.boolean(),
    })),
  })),
  replayS: z.number(),
  recordS: z.number(),
  queueBytesMax: count,
  incomplete: text.exactOptional(),
  divergence: z.strictObject({
    vm: text,
    instructionCount: z.string().regex(/^\d+$/),
    sendNumber: count.nullable(),
    what: text,
    expected: text,
    actual: text,
    likelyCause: text,
  }).exactOptional(),
  links: z.array(linkCounters),
});

export const replayStatus = z.strictObject({
  phase: z.enum(["preparing", "prepared", "running", "ended"]),
  doing: text,
  vms: z.array(z.strictObject({ name: text, percent: z.number(), framesMatched: count })),
  links: z.array(linkCounters),
  /** Why the replay cannot go on here. */
  failure: text.exactOptional(),
  /** That is only since it failed on another host. */
  failedElsewhere: z.boolean(),
  result: replayResult.exactOptional(),
});

// ---- agent, called by the coordinator

export const AGENT_METHODS = {
  "record.prepare": { params: recordPlan, result: nothing },
  "record.arm": { params: ofRun, result: nothing },
  "record.run": { params: ofRun, result: nothing },
  "record.tick": {
    params: ofRun.extend({ epoch: z.int().min(1).max(EPOCH_MAX) }),
    result: recordStatus,
  },
  "record.status": { params: ofRun, result: recordStatus },
  "record.quiesce": { params: ofRun, result: nothing },
  "record.seal": { params: ofRun, result: nothing },
  "record.abort": { params: ofRun, result: nothing },
  "record.conclude": {
    params: ofRun.extend({ end: recordingEnd, recordS: z.number().nonnegative() }),
    result: recordedPart,
  },
  "replay.prepare": { params: replayPlan, result: nothing },
  "replay.start": { params: ofRun, result: nothing },
  "replay.status": { params: ofRun, result: replayStatus },
  "replay.stop": { params: ofRun, result: nothing },
  "recordings.remove": { params: z.strictObject({ recording: runId }), result: nothing },
  /** Certificates that are worth nothing any more. */
  "revoked": { params: z.strictObject({ serials: z.array(z.string().max(64)) }), result: nothing },
} as const;

// ---- coordinator, called by agents

export const AGENT_REPORTS = {
  "hello": {
    params: z.strictObject({
      protocol: z.int(),
      toolVersion: text,
      /** Another one each time the agent starts. */
      instance: runId,
      link: address,
      host: hostDescription,
      qemu: qemu.nullable(),
      /** Runs that it has something of. */
      runs: z.array(
        z.strictObject({ run: runId, kind: z.enum(["record", "replay"]), phase: text }),
      ),
    }),
    result: z.strictObject({
      heartbeatMs: milliseconds,
      /** Without a word for so long, the other side is lost. */
      lostAfterMs: milliseconds,
      revoked: z.array(z.string().max(64)),
    }),
  },
  "heartbeat": { params: nothing, result: nothing },
  ...IDENTITY_METHODS,
} as const;

// ---- coordinator, called by operators

export const hostState = z.strictObject({
  name: hostName,
  connected: z.boolean(),
  drained: z.boolean(),
  revoked: z.boolean(),
  addedAt: z.iso.datetime(),
  lastSeen: z.iso.datetime().nullable(),
  link: address.nullable(),
  toolVersion: text.nullable(),
  host: hostDescription.nullable(),
  qemu: qemu.nullable(),
  /** VMs that run there now. */
  vms: count,
});

const known = count.nullable();
const vmTotals = z.strictObject({
  name: text,
  instructions: known,
  bytes: z.strictObject({ rrLog: known, hybrid: known, stored: known }),
  frames: z.strictObject({ internal: known, external: known, stored: known, sent: known }),
  checks: known,
});

/** A recording on the hosts. */
export const recordingEntry = z.strictObject({
  id: runId,
  name: text,
  cluster: text,
  createdAt: z.iso.datetime(),
  endedBy: recordingEnd.shape.by,
  message: text.exactOptional(),
  complete: z.boolean(),
  recordS: z.number(),
  placement: z.array(placedVms),
  vms: z.array(vmTotals),
});

export const runStatus = z.strictObject({
  run: runId,
  kind: z.enum(["record", "replay"]),
  name: text,
  phase: text,
  startedAt: z.iso.datetime(),
  placement: z.array(placedVms),
  ended: z.boolean(),
  failure: text.exactOptional(),
  hosts: z.array(z.strictObject({
    host: hostName,
    connected: z.boolean(),
    record: recordStatus.exactOptional(),
    replay: replayStatus.exactOptional(),
  })),
  /** Of a recording that has ended. */
  recording: recordingEntry.exactOptional(),
  /** Of a replay that has ended: each host's. */
  results: z.array(replayResult).exactOptional(),
});

export const OPERATOR_METHODS = {
  ...IDENTITY_METHODS,
  "hosts.list": { params: nothing, result: z.strictObject({ hosts: z.array(hostState) }) },
  "hosts.invite": {
    params: z.strictObject({
      role: z.enum(["agent", "operator"]),
      name: hostName,
      validMs: z.number().positive(),
    }),
    result: z.strictObject({ token: text }),
  },
  "hosts.drain": {
    params: z.strictObject({ name: hostName, drained: z.boolean() }),
    result: nothing,
  },
  "hosts.remove": { params: z.strictObject({ name: hostName }), result: nothing },
  "hosts.revoke": {
    params: z.strictObject({ role: z.enum(["agent", "operator"]), name: hostName }),
    result: nothing,
  },
  "status": {
    params: nothing,
    result: z.strictObject({
      version: text,
      upS: z.number(),
      hosts: z.array(hostState),
      runs: z.array(runStatus),
    }),
  },
  /** Where the VMs of a cluster would go now. */
  "runs.place": {
    params: z.strictObject({ cluster: clusterSpecSchema }),
    result: z.strictObject({
      placement: z.array(reachableVms),
      uplinkHost: hostName.exactOptional(),
    }),
  },
  "runs.record": {
    /** `run` is chosen by the operator: who asks again, since the answer was lost, begins no second one. */
    params: recordPlan.omit({ tunnel: true }).extend({ forMs: milliseconds.exactOptional() }),
    result: ofRun,
  },
  "runs.replay": {
    params: z.strictObject({
      run: runId,
      /** Its name, or the beginning of its id. */
      recording: text,
      checks: z.boolean(),
      windowEpochs: z.number().positive().exactOptional(),
      /** Where VMs are to be replayed; the others where they were recorded, if that host is there. */
      placement: z.array(placedVms),
    }),
    result: ofRun,
  },
  "runs.status": { params: ofRun, result: runStatus },
  "runs.stop": { params: ofRun, result: nothing },
  /** The newest recordings, or those that come behind another: as many as one message holds. */
  "recordings.page": {
    params: z.strictObject({
      behind: recordingEntry.pick({ id: true, createdAt: true }).nullable(),
    }),
    result: z.strictObject({ recordings: z.array(recordingEntry), more: z.boolean() }),
  },
  /** Where the parts of a recording are, as far as these hosts can be reached now. */
  "recordings.locate": {
    params: z.strictObject({ recording: text }),
    result: z.strictObject({
      recording: recordingEntry,
      sources: z.array(placedVms.extend({ address: address.nullable() })),
    }),
  },
  "recordings.remove": { params: z.strictObject({ recording: text }), result: nothing },
  /** Its parts stay on their hosts. */
  "recordings.forget": { params: z.strictObject({ recording: text }), result: nothing },
} as const;

// ---- agent, called by operators and other agents on its link listener

/** Bytes of a file that go in one message, at most. */
export const PORTION_BYTES_MAX = 512 << 10;
const portion = z.base64().max(PORTION_BYTES_MAX / 3 * 4 + 8);

export const FILE_METHODS = {
  /** The manifest of a host's part of a recording, and the files of its VMs with relative paths. */
  "files.list": {
    params: z.strictObject({ recording: runId }),
    result: z.strictObject({
      manifest: z.unknown(),
      files: z.array(z.strictObject({ path: text, bytes: count })),
    }),
  },
  "files.read": {
    params: z.strictObject({ recording: runId, path: text, offset: count }),
    result: z.strictObject({ data: portion }),
  },
  /** Which of these images are neither at their path nor in the host's store. */
  "images.missing": {
    params: z.strictObject({ images: z.array(z.strictObject({ sha256, path: text })) }),
    result: z.strictObject({ sha256s: z.array(sha256) }),
  },
  "images.read": {
    params: z.strictObject({ sha256, offset: count }),
    result: z.strictObject({ data: portion }),
  },
  /** Portions come in order; the last one makes the image whole, and its digest is checked. */
  "images.write": {
    params: z.strictObject({ sha256, offset: count, data: portion, last: z.boolean() }),
    result: nothing,
  },
} as const;

/** The first message on a channel to an agent's link listener. */
export const linkOpening = z.discriminatedUnion("open", [
  z.strictObject({ open: z.literal("files"), protocol: z.literal(CONTROL_VERSION) }),
  z.strictObject({ open: z.literal("replay"), protocol: z.literal(CONTROL_VERSION), run: runId }),
]);

/** Says what a channel to an agent's link listener is for. */
export async function openLink(
  channel: Channel,
  opening: { readonly open: "files" } | { readonly open: "replay"; readonly run: string },
): Promise<void> {
  const message = JSON.stringify({ ...opening, protocol: CONTROL_VERSION });
  await channel.send(JSON_KIND, new TextEncoder().encode(message));
}

export type RecordPlan = z.infer<typeof recordPlan>;
export type RecordStatus = z.infer<typeof recordStatus>;
export type RecordedPart = z.infer<typeof recordedPart>;
export type ReplayPlan = z.infer<typeof replayPlan>;
export type ReplayStatus = z.infer<typeof replayStatus>;
export type ReplayResult = z.infer<typeof replayResult>;
export type RecordingEntry = z.infer<typeof recordingEntry>;
export type RunStatus = z.infer<typeof runStatus>;
export type PlacedVms = z.infer<typeof placedVms>;
export type HostState = z.infer<typeof hostState>;
export type Address = z.infer<typeof address>;
