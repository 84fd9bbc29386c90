/** The few kinds of rr log events that simulated VMs have. */
import { encodeEvent, type RrEventBody } from "../../hypervisor/rr_log/events.ts";
import { REPLAY_VERSION, tableForVersion } from "../../hypervisor/rr_log/tables.ts";

export const TABLE = tableForVersion(REPLAY_VERSION);

function kindOf(name: string): number {
  const kind = TABLE.kinds.findIndex((each) => each.name === name);
  if (kind < 0) throw new Error(`no event ${name}`);
  return kind;
}

export const INSTRUCTION = kindOf("INSTRUCTION");
export const NET = TABLE.kinds.findIndex(({ type }) => type === "frame");
export const CLOCK = TABLE.kinds.findIndex(({ type }) => type === "clock");
export const POWER_OFF = kindOf("SHUTDOWN_GUEST_SHUTDOWN");
export const QUIT = kindOf("SHUTDOWN_HOST_QMP_QUIT");
export const END = kindOf("END");

/** Kind, network number, flags, length. */
export const NET_HEADER_BYTES = 10;

export function encode(kind: number, body: RrEventBody): Uint8Array {
  return encodeEvent({ kind, ...body }, TABLE);
}

/** The length of the event at `bytes[0]`; `undefined` while its header is not whole. */
export function eventLength(bytes: Uint8Array): number | undefined {
  switch (bytes[0]) {
    case undefined:
      return undefined;
    case INSTRUCTION:
      return 5;
    case CLOCK:
      return 9;
    case NET:
      return bytes.length < NET_HEADER_BYTES
        ? undefined
        : NET_HEADER_BYTES + new DataView(bytes.buffer, bytes.byteOffset + 6, 4).getUint32(0);
    case POWER_OFF:
    case QUIT:
    case END:
      return 1;
    default:
      throw new Error(`a simulated VM was fed an event of kind ${bytes[0]}`);
  }
}
