/**
 * A channel: messages both ways between two of our processes, the other one's identity proven.
 *
 * `host/tls` makes channels of TLS connections, `memory_channel.ts` makes pairs inside one process; calls
 * (`rpc.ts`), links at replay and files use them and know neither.
 */

/** The roles that certificates are issued for. */
export const ROLES = ["coordinator", "agent", "operator"] as const;
export type Role = (typeof ROLES)[number];

/** Who is at the other end: what its verified certificate says. */
export interface PeerIdentity {
  readonly role: Role;
  /** The name of the host or of the operator; `coordinator` for the coordinator. */
  readonly name: string;
  /** The certificate's serial number: lower-case hexadecimal, no leading zeros. */
  readonly serial: string;
}

/** One message. Kind 0 is JSON, every other kind is binary; see PROTOCOL.md. */
export interface Message {
  readonly kind: number;
  readonly body: Uint8Array;
}

export interface Channel {
  readonly peer: PeerIdentity;
  /**
   * Resolves once the message is handed to the operating system: waiting for it is the backpressure. The
   * caller must not change `body` before.
   * @throws {ProtocolError} on a message above the bound of its kind; nothing is sent
   * @throws {ClusterrrError} when the channel is closed, before or meanwhile
   */
  send(kind: number, body: Uint8Array): Promise<void>;
  /**
   * The next message; `undefined` once the channel is closed, by whichever side or by a broken connection.
   * What had arrived whole before is delivered first. One reader.
   * @throws {ProtocolError} once, when the peer sent what the protocol does not allow; the channel is closed
   */
  receive(): Promise<Message | undefined>;
  /** Sends what `send` was given before, then closes. Nothing more is received. */
  close(): void;
  /** Resolves, never rejects, when nothing more can be sent or received. */
  readonly closed: Promise<void>;
  /** Why the channel was closed, where that is known and was not asked for on this side. */
  readonly closeReason?: string | undefined;
}

/** The name that a certificate of this role carries as its DNS name, and that its clients ask for. */
export function serverNameOf({ role, name }: Pick<PeerIdentity, "role" | "name">): string {
  return role === "coordinator" ? "coordinator.clusterrr" : `${name}.${role}.clusterrr`;
}

/** For texts: `agent left`, `coordinator`. */
export function describePeer({ role, name }: Pick<PeerIdentity, "role" | "name">): string {
  return role === "coordinator" ? "the coordinator" : `${role} ${name}`;
}
