/**
 * What the bench asks of its two programs, and what they answer. Each runs one command at a time, to its end, and
 * looks at nothing else meanwhile.
 */

/** The guest: a driver on a device, or for the floor a program on bare sockets. */
export type GuestCommand =
  /** Attaches a driver to the device that listens at `socketPath`, beside those that are attached to others. */
  | {
      readonly do: "attach";
      readonly socketPath: string;
      readonly queueSize: number;
      readonly lazyCredit: boolean;
      /** What the guest's connections advertise; undefined: as Linux. */
      readonly bufferBytes?: number | undefined;
      /** Whom all of its packets are for; undefined: the host. */
      readonly peerCid?: number;
      /** Undefined: guest-physical addresses, and the layout of the comparison with others. */
      readonly addressing?: Addressing;
    }
  /** Asks what there was of translation since the last time. */
  | { readonly do: "tally" }
  /** Of the floor: where `receive` takes its connection. */
  | { readonly do: "listen"; readonly path: string }
  /** Sends messages on so many connections to a host port for a while, in turn. */
  | ({ readonly do: "send"; readonly to: Target; readonly connections: number } & Sending)
  /** Takes what comes on the connection that is opened to it, until all is there. */
  | { readonly do: "receive" }
  /** Sends a message and waits for the answer, again and again. */
  | ({ readonly do: "ping"; readonly to: Target } & Sending)
  /** Opens and closes connections, so many at a time. */
  | { readonly do: "open"; readonly port: number; readonly atATime: number; readonly durationMs: number }
  /** Takes connections and closes them when the host does, until it is over. */
  | { readonly do: "accept" }
  /** Drops all connections. */
  | { readonly do: "hang-up" };

/** How the device is told of the guest's buffers, which lie the same way in all of these. */
export type Addressing =
  /** Translation off. */
  | { readonly kind: "guest-physical" }
  /** Behind a vIOMMU: all mapped beforehand, with so many entries, or one for each page. */
  | { readonly kind: "mapped"; readonly entries?: number }
  /** Behind a vIOMMU in strict mode: each buffer is unmapped after use. */
  | { readonly kind: "strict"; readonly isPipelining: boolean };

/** What a front-end did for the device's IOTLB. */
export interface Tally {
  readonly misses: number;
  readonly updates: number;
  readonly invalidations: number;
  /** How long the guest waited for unmapping, which includes MISSes that were answered meanwhile. */
  readonly unmappingNs: number;
  /** How long the front-end took for answering the other MISSes. */
  readonly answeringNs: number;
}

/** Where the other end is: a port behind the device, or a path for the floor. */
export type Target = { readonly port: number } | { readonly path: string };

export interface Sending {
  readonly messageBytes: number;
  readonly durationMs: number;
}

/** The host's program. */
export type HostCommand =
  | { readonly do: "listen"; readonly path: string }
  /** Takes so many connections and reads them until all is there. */
  | { readonly do: "receive"; readonly connections: number; readonly snapshotMs: number }
  /** Connects, over the hybrid handshake if a port is given, and writes for a while. */
  | ({ readonly do: "send"; readonly path: string; readonly port?: number } & Sending)
  /** Takes one connection and sends back what comes until it ends. */
  | { readonly do: "echo" }
  /** Takes connections and closes them when the guest does, until it is over. */
  | { readonly do: "accept" }
  /** Opens and closes connections, so many at a time. */
  | {
      readonly do: "open";
      readonly path: string;
      readonly port: number;
      readonly atATime: number;
      readonly durationMs: number;
    }
  | { readonly do: "hang-up" };

/** Times are of the machine's monotonic clock. */
export interface Outcome {
  /** When the first byte was sent, or the first connection begun. */
  readonly beganNs: number;
  /** When the last byte came, or the last connection was closed. */
  readonly endedNs: number;
  /** Bytes, or connections. */
  readonly count: number;
  /** Of pings: how long each took, in microseconds. */
  readonly latenciesUs?: readonly number[];
  /** Of several connections: the bytes that each had got after `snapshotMs`. */
  readonly perConnection?: readonly number[];
  /** Of `tally`, behind a vIOMMU. */
  readonly tally?: Tally;
}

export type Answer = { readonly ok: Outcome } | { readonly failed: string };

export const NOTHING: Outcome = { beganNs: 0, endedNs: 0, count: 0 };
