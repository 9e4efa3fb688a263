/** Why a case fails, as far as it can be told from outside and from the source of what fails. One for each failure. */
export const readings: Readonly<Record<string, string>> = {
  "session.config-read-only":
    "harmless so far: the write is acknowledged with success and changes nothing (the default of rust-vmm's `set_config`). A " +
    "front-end that goes by the answer is misled.",
  "session.reset-owner":
    "the rule is a recommendation. RESET_OWNER drops the negotiated features, so that SET_VRING_ENABLE is refused " +
    "afterwards; no front-end that is in use sends the message.",
  "session.ring-size":
    "rust-vmm's queue writes an error to its log and keeps the size that it had, and the message is acknowledged with success: " +
    "the two sides disagree about the ring without a word.",
  "memory.buffer-over-two-regions":
    "a buffer is looked up as one piece of one region. The packet is dropped and its buffer never returned; the stream has " +
    "a hole, and both ends go on without knowing. It takes a guest whose memory is in several adjacent regions, as hot-plugged memory is.",
  "memory.receive-over-two-regions":
    "likewise on receive: the buffer goes back with used length 0, which drivers discard.",
  "rings.header-runs-over":
    "a header has to have a descriptor of its own, or one with the whole packet; other packets are dropped, and their buffers " +
    "never returned. Linux's driver keeps to that for ordinary sends.",
  "rings.payload-in-pages":
    "a payload of more than one descriptor is dropped, and its buffers are never returned: data is lost silently. A Linux " +
    "guest sends such packets with MSG_ZEROCOPY.",
  "rings.torn-transmit":
    "as rings.payload-in-pages, with a header in pieces, which no driver is known to send.",
  "rings.torn-receive":
    "a receive chain whose first descriptor is smaller than a header goes back with used length 0. No driver is known to post such chains.",
  "rings.no-interrupt-flag":
    "the rule is a SHOULD: the flag is not looked at, which costs interrupts and breaks nothing.",
  "rings.no-kick": "a ring without a kick eventfd is never looked at: polling is not implemented.",
  "rings.stop-in-mid-stream": "the same as rings.stopped-is-left-alone, which has the reason.",
  "rings.stopped-is-left-alone":
    "data comes from the host while the rings are stopped. Its event makes the worker look at a queue that is not ready, " +
    "which it takes for fatal: it ends, and nothing is processed any more after the restart. `stop` and `cont` of a QEMU whose guest is being " +
    "written to are enough.",
  "vsock.nobody-listens":
    "a REQUEST that nobody takes is left unanswered: a Linux guest waits for its two seconds and gets ETIMEDOUT instead of ECONNRESET.",
  "vsock.unknown-connection":
    "packets of unknown connections are dropped without an answer, so a guest that missed a connection's end never learns of it.",
  "vsock.unknown-type":
    "packets of unknown types are dropped without an answer, where the specification asks for RST.",
  "vsock.guest-half-close":
    "a SHUTDOWN of one direction is kept until the other follows: the host never sees the end of the guest's data.",
  "vsock.host-half-close":
    "an end of the host's data is told as the end of both directions, so that the guest cannot answer any more.",
  "handshake.byte-by-byte":
    "the line has to arrive in one piece: what one read returns is taken for all of it.",
  "handshake.early-data": "what comes in the same read as the line is thrown away, or makes it no line.",
  "handshake.leaves-before-the-answer":
    "afterwards no connection of the host's reaches the guest any more. In the source OK is written with `unwrap()`, which a program that has left turns into a panic.",
};
