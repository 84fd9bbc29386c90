/** A message-framed, mutually authenticated connection: what everything between processes goes over. */

export interface PeerIdentity {
  readonly role: "coordinator" | "agent" | "operator";
  readonly name: string;
  readonly serial: string;
}

export interface Channel {
  readonly peer: PeerIdentity;
  /** Resolves once the message is handed to the operating system (backpressure); rejects when the channel is closed. */
  send(kind: number, body: Uint8Array): Promise<void>;
  /** The next message; undefined once the peer has closed. One reader. */
  receive(): Promise<{ kind: number; body: Uint8Array } | undefined>;
  close(): void;
  readonly closed: Promise<void>;
}
