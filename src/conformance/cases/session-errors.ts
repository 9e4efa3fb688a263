/**
 * Cases about messages that are wrong: each costs an error or the session, never the back-end, and the next session
 * works. Which of the two, the document leaves open.
 */
import { FrontEndError } from "../../vhost/front-end-error.js";
import { encodeHeader, encodeRequest, FLAG, HEADER_BYTES } from "../../vhost/wire/index.js";
import { F, maskOf } from "../../virtio/index.js";
import type { ConformanceCase, Needs } from "../case.js";
import type { CaseContext } from "../context.js";
import { agreed, vhostUser } from "../rules.js";
import type { TracedSession } from "../traced-session.js";

const ERROR_RULE = vhostUser(
  "Communication",
  "a back-end that detects an error may close the connection; it does not take what it could not understand",
);
const REPLY_ACK_RULE = vhostUser(
  "VHOST_USER_PROTOCOL_F_REPLY_ACK",
  "the payload should be set to zero on success or non-zero on failure",
);
const UDS: Needs = { endpoints: ["uds"] };
const ACKNOWLEDGED: Needs = { protocolFeatures: ["REPLY_ACK"], endpoints: ["uds"] };

/** A header as bytes, whatever it says. */
function header(request: number, flags: number, size: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  encodeHeader({ request, flags, size }, bytes);
  return bytes;
}

async function negotiated(context: CaseContext): Promise<TracedSession> {
  const session = await context.connect();
  session.acknowledge(session.negotiate());
  session.needReply = session.negotiated("REPLY_ACK");
  return session;
}

/** Sends bytes that are no message, waits until the back-end has given the session up, and tries the next one. */
async function endsSession(context: CaseContext, bytes: Uint8Array): Promise<void> {
  const session = await context.connect();
  session.negotiate();
  session.mayEnd = true;
  session.sendBytes(bytes);
  const hasLeft = await context.hasLeft(session);
  context.expect.that(hasLeft, "a session that cannot go on is ended", "it stays open, without an answer");
  await context.assertNextWorks(session);
}

/** The back-end may refuse, end the session, or take it. */
function endOrRefusal(send: () => void): void {
  try {
    send();
  } catch (error) {
    if (!(error instanceof FrontEndError) || (error.code !== "refused" && error.code !== "closed"))
      throw error;
  }
}

/** A message that is refused, by acknowledgement or by ending the session; the next session works. */
function refusal(
  one: Pick<ConformanceCase, "id" | "title" | "rule">,
  send: (session: TracedSession, context: CaseContext) => void,
): ConformanceCase {
  return {
    ...one,
    needs: ACKNOWLEDGED,
    async run(context) {
      const session = await negotiated(context);
      context.expect.refused(() => send(session, context), "the message is refused");
      await context.assertNextWorks(session);
    },
  };
}

export const SESSION_ERROR_CASES: readonly ConformanceCase[] = [
  {
    id: "session.unknown-request",
    title: "a request that nobody has defined is refused or ends the session, and the next session works",
    rule: REPLY_ACK_RULE,
    needs: ACKNOWLEDGED,
    async run(context) {
      const session = await negotiated(context);
      session.mayEnd = true;
      session.sendBytes(header(200, FLAG.version | FLAG.needReply, 0));
      const answer = await session.rawAnswer(context.patienceMs);
      context.expect.that(answer !== "nothing", "the request is answered or ends the session", "neither");
      context.expect.that(answer !== "success", "it does not succeed", "an acknowledgement with 0");
      await context.assertNextWorks(session);
    },
  },
  {
    id: "session.version",
    title: "a message of another version ends the session, and the next session works",
    rule: vhostUser("Message Specification, Header", "the lower 2 bits are the version (currently 0x01)"),
    needs: UDS,
    run: (context) => endsSession(context, header(1, 2, 0)),
  },
  {
    id: "session.oversize",
    title: "a header that announces gigabytes ends the session at once, and the next session works",
    rule: ERROR_RULE,
    needs: UDS,
    run: (context) => endsSession(context, header(5, 1, 0xffff_fff0)),
  },
  {
    id: "session.garbage",
    title: "bytes that are no message end the session, and the next session works",
    rule: ERROR_RULE,
    needs: UDS,
    run: (context) => endsSession(context, new Uint8Array(4096).fill(0xee)),
  },
  {
    id: "session.cut-message",
    title: "a front-end that leaves in the middle of a message costs its session only",
    rule: agreed(
      "a peer that goes away ends its session, wherever it is",
      "Linux drivers/vhost/vhost.c vhost_dev_cleanup",
      "QEMU subprojects/libvhost-user vu_message_read_default",
    ),
    needs: UDS,
    async run(context) {
      const session = await context.connect();
      session.negotiate();
      const bytes = encodeRequest("frontend", "SET_VRING_NUM", { kind: "vringState", index: 0, num: 64 });
      session.sendBytes(bytes.subarray(0, HEADER_BYTES + 3));
      await context.assertNextWorks(session);
    },
  },
  refusal(
    {
      id: "session.short-payload",
      title: "a payload that is too short for its message is refused",
      rule: REPLY_ACK_RULE,
    },
    (session) => session.requestBytes(header(8, FLAG.version | FLAG.needReply, 4), new Uint8Array(4)),
  ),
  refusal(
    {
      id: "session.table-without-descriptor",
      title: "a memory table with fewer descriptors than regions is refused",
      rule: vhostUser(
        "Front-end message types, VHOST_USER_SET_MEM_TABLE",
        "the size and ordering of the fds matches the number and ordering of memory regions",
      ),
    },
    (session) => {
      const region = { guestAddress: 0n, size: 4096n, userAddress: 0x7000_0000_0000n, mmapOffset: 0n };
      session.tell("SET_MEM_TABLE", { kind: "memTable", regions: [region] });
    },
  ),
  refusal(
    {
      id: "session.ring-out-of-range",
      title: "a message about a ring that does not exist is refused",
      rule: REPLY_ACK_RULE,
    },
    (session) => session.setVringNum(200, 64),
  ),
  refusal(
    {
      id: "session.ring-size",
      title: "a size that no split ring can have is refused",
      rule: agreed(
        "a size that is no power of 2 is refused",
        "Linux drivers/vhost/vhost.c vhost_vring_set_num",
        "DPDK lib/vhost/vhost_user.c vhost_user_set_vring_num",
      ),
    },
    (session) => session.setVringNum(0, 63),
  ),
  {
    id: "session.ring-outside-memory",
    title: "a ring at addresses that are no memory is never run, and the next session works",
    rule: vhostUser(
      "Memory access",
      "user addresses map to the vhost memory region containing that user address",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ isStopped: true });
      const { session } = guest;
      session.mayEnd = true;
      guest.shareMemory();
      const addresses = { desc: 0x1000n, avail: 0x2000n, used: 0x3000n };
      const { index, size, kickFd, callFd, errorFd } = guest.tx;
      endOrRefusal(() => {
        session.setUpRing({ index, size, addresses, kickFd, callFd, errorFd });
        guest.enableRing(guest.tx, true);
      });
      guest.tx.kick();
      await context.pass(100);
      await context.assertNextWorks(session);
    },
  },
  refusal(
    {
      id: "session.features-not-offered",
      title: "a feature that nobody knows and the back-end did not offer is refused",
      rule: agreed(
        "SET_FEATURES with bits that were not offered fails",
        "Linux drivers/vhost/vsock.c vhost_vsock_set_features",
        "rust-vmm vhost-user-backend handler.rs set_features",
      ),
    },
    (session) => {
      const unassigned = 49;
      session.setFeatures(session.getFeatures() & maskOf(F.VERSION_1, F.PROTOCOL_FEATURES));
      session.setFeatures(session.features | maskOf(unassigned));
    },
  ),
];
