/**
 * The named limits of one vsock device. Those that a specification or the Linux guest fixes say so; the others are
 * our choice, with the reason.
 */

/** What a device is configured with; see `bit33 serve --help`. */
export interface SwitchLimits {
  /** Connections of one guest at a time, those still being set up or torn down included. */
  readonly maxConnections: number;
  /** `buf_alloc` that a new connection advertises: the bytes held for it when its host socket is full. */
  readonly firstBufferBytes: number;
  /** What it grows to while the guest sends so much at once that credit is what holds it up. */
  readonly bufferBytes: number;
  /** Whether a host socket that was full is made to hold as much as `buf_alloc`, so that a window fits into it. */
  readonly widensSockets: boolean;
  /** Sum of the `buf_alloc` of all connections, near which none grows and new ones get less. A promise: nothing is set aside for it. */
  readonly totalBufferBytes: number;
  /** How long a connection may take to be set up, in either direction. */
  readonly connectTimeoutMs: number;
  /** How long the guest may take to answer a clean close before it is reset. */
  readonly shutdownTimeoutMs: number;
}

/** Linux waits 2 s for a RESPONSE (VSOCK_DEFAULT_CONNECT_TIMEOUT) and 8 s for a RST (VSOCK_CLOSE_TIMEOUT). */
export const DEFAULT_LIMITS: SwitchLimits = {
  maxConnections: 4096,
  firstBufferBytes: 64 * 1024,
  bufferBytes: 1024 * 1024,
  widensSockets: true,
  totalBufferBytes: 1024 * 1024 * 1024,
  connectTimeoutMs: 2000,
  shutdownTimeoutMs: 8000,
};

/** The least `buf_alloc` a connection is given when the total is used up: one page. */
export const LEAST_BUFFER_BYTES = 4096;

/**
 * The longest message of a host program that is passed to a guest whose buffer would hold it. More than any program can
 * send without privileges on most systems (twice net.core.wmem_max); one at a time and VM is held in memory, while the
 * guest's receive queue has no room for all of it.
 */
export const LONGEST_MESSAGE_BYTES = 16 * 1024 * 1024;

/**
 * Empty messages that may wait for one seqpacket host socket beside those with bytes, which credit bounds: they cost the
 * guest none. A socket holds some 270 of them; a guest that goes on for so long does not mean them.
 */
export const MOST_EMPTY_MESSAGES = 4096;

/** How often a host listener whose backlog is full is tried again. A Unix socket tells nobody when there is room. */
export const CONNECT_RETRY_MS = 10;

/**
 * Bytes moved in one direction before the other side hears of them, and other connections and the other direction have
 * their turn: half of the window that Linux gives (256 KiB) and less than what ours grows to, so that a side works on
 * them, and gives new credit, while more is being moved. With the whole window at a time each would sleep while the other works. Less costs more
 * than it gains: to wake a thread on an idle processor takes about as long as to move 64 KiB.
 */
export const BURST_BYTES = 128 * 1024;

/** What the first read of a connection asks for; it grows while reads come back full. */
export const FIRST_READ_BYTES = 4096;

/**
 * When data waits for credit: how long to wait for an update before asking for one, and the most between two such
 * requests (each interval is four times the one before). One wake-up of the thread, and one packet a second.
 */
export const FIRST_CREDIT_REQUEST_MS = 1;
export const LONGEST_CREDIT_REQUEST_MS = 1024;

/**
 * Resets that may wait for room in the receive queue before guest packets are left in the transmit queue
 * (virtio 1.4, 5.10.6.1.2: transmit goes on while the receive queue is full as long as resources last).
 */
export const MOST_WAITING_RESETS = 256;
