/** Cases about the vhost-user session: offers, replies, configuration, one session after another. */
import { FLAG } from "../../vhost/wire/index.js";
import { F, has } from "../../virtio/index.js";
import type { ConformanceCase } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, join } from "../exchange.js";
import { agreed, vhostUser, virtio } from "../rules.js";
import { USUAL_PROTOCOL_FEATURES } from "../traced-session.js";

const GET_CONFIG = "Front-end message types, VHOST_USER_GET_CONFIG";
const REPLY_ACK = "VHOST_USER_PROTOCOL_F_REPLY_ACK";

/** The configuration space's first eight bytes. */
function cidOf(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

async function negotiated(context: CaseContext) {
  const session = await context.connect();
  const offered = session.negotiate();
  session.acknowledge(offered);
  return session;
}

export const SESSION_CASES: readonly ConformanceCase[] = [
  {
    id: "session.features",
    title: "GET_FEATURES offers VERSION_1, and the same word each time",
    rule: virtio("6.2 Device Requirements: Reserved Feature Bits", "a device MUST offer VIRTIO_F_VERSION_1"),
    needs: {},
    async run(context) {
      const session = await context.connect();
      const offered = session.getFeatures();
      context.expect.that(has(offered, F.VERSION_1), "VERSION_1 is offered", `0x${offered.toString(16)}`);
      context.expect.equal(session.getFeatures(), offered, "a second GET_FEATURES says the same");
    },
  },
  {
    id: "session.protocol-features-early",
    title: "GET_PROTOCOL_FEATURES is answered before SET_FEATURES",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_GET_PROTOCOL_FEATURES",
      "back-ends that report VHOST_USER_F_PROTOCOL_FEATURES must support this message even before SET_FEATURES was called",
    ),
    needs: { features: ["PROTOCOL_FEATURES"] },
    async run(context) {
      const session = await context.connect();
      session.getFeatures();
      const offered = session.getProtocolFeatures();
      session.setProtocolFeatures(offered & session.wordOf(USUAL_PROTOCOL_FEATURES));
      context.expect.equal(session.getProtocolFeatures(), offered, "asked again, it offers the same");
    },
  },
  {
    id: "session.reply-header",
    title: "a reply carries the number of its request, version 1 and the reply flag",
    rule: vhostUser(
      "Message Specification, Header",
      "bit 2 is the reply flag, needs to be sent on each reply",
    ),
    needs: {},
    async run(context) {
      const session = await context.connect();
      session.sendRequest("GET_FEATURES");
      const { header } = session.receive();
      context.expect.equal(header.request, 1, "GET_FEATURES is answered by its number");
      context.expect.equal(header.flags & FLAG.versionMask, FLAG.version, "the reply is of version 1");
      context.expect.that(
        (header.flags & FLAG.reply) !== 0,
        "the reply flag is set",
        `flags ${header.flags}`,
      );
      context.expect.equal(header.size, 8, "the reply holds a u64");
    },
  },
  {
    id: "session.pipelined",
    title: "requests that arrive together are answered one by one, in order",
    rule: vhostUser(
      "Message Specification",
      "a message is three header fields and a payload, on a stream socket",
    ),
    needs: { features: ["PROTOCOL_FEATURES"] },
    async run(context) {
      const session = await context.connect();
      session.sendRequests("GET_FEATURES", "GET_PROTOCOL_FEATURES", "GET_FEATURES");
      const names = [session.receive(), session.receive(), session.receive()].map(
        ({ record }) => record.name,
      );
      context.expect.equal(
        names.join(" "),
        "GET_FEATURES GET_PROTOCOL_FEATURES GET_FEATURES",
        "the answers come in the order of the requests",
      );
    },
  },
  {
    id: "session.payload-later",
    title: "a payload that arrives after its header belongs to it",
    rule: vhostUser(
      "Message Specification",
      "a message is three header fields and a payload, on a stream socket",
    ),
    needs: { features: ["PROTOCOL_FEATURES"] },
    async run(context) {
      const session = await context.connect();
      session.getFeatures();
      const wanted = session.getProtocolFeatures() & session.wordOf(["MQ", "CONFIG"]);
      await session.sendInPieces("SET_PROTOCOL_FEATURES", { kind: "u64", value: wanted }, [12]);
      session.getFeatures();
    },
  },
  {
    id: "session.reply-ack",
    title: "with REPLY_ACK every message that asks for it is acknowledged, with 0 for success",
    rule: vhostUser(REPLY_ACK, "need_reply indicates that the back-end MUST respond; zero on success"),
    needs: { protocolFeatures: ["REPLY_ACK"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ isStopped: true });
      guest.session.needReply = true;
      guest.start();
      await assertWorks(context, guest);
    },
  },
  {
    id: "session.reply-once",
    title: "a request with a reply of its own is answered once, need_reply or not",
    rule: vhostUser(
      REPLY_ACK,
      "for messages that already solicit a reply need_reply brings no behavioural change",
    ),
    needs: { protocolFeatures: ["REPLY_ACK"] },
    async run(context) {
      const session = await negotiated(context);
      const plain = session.getFeatures();
      session.sendRequest("GET_FEATURES", { kind: "none" }, true);
      const { payload } = session.receive();
      context.expect.that(payload.kind === "u64" && payload.value === plain, "the reply is the feature word");
      session.sendRequest("GET_PROTOCOL_FEATURES");
      const { record } = session.receive();
      context.expect.equal(
        record.name,
        "GET_PROTOCOL_FEATURES",
        "the next answer belongs to the next request",
      );
    },
  },
  {
    id: "session.queue-num",
    title: "GET_QUEUE_NUM counts at least the receive and the transmit queue",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_GET_QUEUE_NUM",
      "query how many queues the back-end supports",
    ),
    needs: { protocolFeatures: ["MQ"] },
    async run(context) {
      const session = await negotiated(context);
      const queues = session.getQueueNum();
      context.expect.that(queues >= 2 && queues <= 3, "a socket device has two or three queues", `${queues}`);
    },
  },
  {
    id: "session.config-cid",
    title: "GET_CONFIG gives the guest's context id",
    rule: virtio(
      "5.10.4 Device configuration layout",
      "guest_cid; its upper 32 bits are reserved and zeroed",
    ),
    needs: { protocolFeatures: ["CONFIG"] },
    async run(context) {
      const session = await negotiated(context);
      const bytes = context.expect.present(session.getConfig(0, 8), "GET_CONFIG is answered with data");
      context.expect.equal(bytes.length, 8, "eight bytes of configuration come back");
      const cid = cidOf(bytes);
      context.expect.that(cid > 2n && cid < 0xffff_ffffn, "guest_cid is a guest's", `${cid}`);
      const { guestCid } = context.target;
      if (guestCid !== undefined) context.expect.equal(cid, BigInt(guestCid), "it is the one of --guest-cid");
    },
  },
  {
    id: "session.config-part",
    title: "GET_CONFIG of a part gives that part",
    rule: vhostUser(GET_CONFIG, "the back-end's payload size MUST match the front-end's request"),
    needs: { protocolFeatures: ["CONFIG"] },
    async run(context) {
      const session = await negotiated(context);
      const whole = context.expect.present(session.getConfig(0, 8), "the whole of it can be read");
      for (const [offset, size] of [
        [0, 4],
        [4, 4],
        [2, 1],
      ]) {
        const part = context.expect.present(
          session.getConfig(offset, size),
          `${size} bytes at ${offset} can be read`,
        );
        context.expect.sameBytes(
          part,
          whole.subarray(offset, offset + size),
          `${size} bytes at ${offset} are those`,
        );
      }
    },
  },
  {
    id: "session.config-read-only",
    title: "SET_CONFIG of the guest's context id, which is read-only, is refused and changes nothing",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_SET_CONFIG",
      "back-ends MUST NOT accept SET_CONFIG for read-only fields unless the live migration bit is set",
    ),
    needs: { protocolFeatures: ["CONFIG"] },
    async run(context) {
      const session = await negotiated(context);
      const before = cidOf(context.expect.present(session.getConfig(0, 8), "guest_cid can be read"));
      session.needReply = session.negotiated("REPLY_ACK");
      const write = (): void => session.setConfig(0, new Uint8Array([99, 0, 0, 0, 0, 0, 0, 0]));
      if (session.needReply) context.expect.refused(write, "the write is refused");
      else write();
      if (await context.hasLeft(session, 100)) return;
      const after = cidOf(context.expect.present(session.getConfig(0, 8), "guest_cid can be read again"));
      context.expect.equal(after, before, "guest_cid is what it was");
    },
  },
  {
    id: "session.vring-base",
    title: "GET_VRING_BASE of a ring that never ran says what SET_VRING_BASE said",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_GET_VRING_BASE",
      "get the available vring base offset",
    ),
    needs: {},
    async run(context) {
      const session = await negotiated(context);
      session.setVringNum(1, 64);
      session.setVringBase(1, 7);
      session.sendRequest("GET_VRING_BASE", { kind: "vringState", index: 1, num: 0 });
      const { payload } = session.receive();
      context.expect.that(payload.kind === "vringState", "the reply is a vring state", payload.kind);
      if (payload.kind !== "vringState") return;
      context.expect.equal(payload.index, 1, "it names the ring");
      context.expect.equal(payload.num, 7, "it says where the ring stands");
    },
  },
  {
    id: "session.reset-owner",
    title: "RESET_OWNER is ignored, or disables the rings and no more",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_RESET_OWNER",
      "it is recommended that back-ends either ignore this message, or use it to disable all rings",
    ),
    needs: { features: ["PROTOCOL_FEATURES"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest();
      await assertWorks(context, guest);
      guest.session.resetOwner();
      for (const queue of guest.queues) guest.enableRing(queue, true);
      await assertWorks(context, guest);
    },
  },
  {
    id: "session.works",
    title: "a session in QEMU's order ends in a device that moves data both ways",
    rule: vhostUser("Ring states", "a ring that is started and enabled is processed"),
    needs: { endpoints: ["uds"] },
    async run(context) {
      await assertWorks(context, await context.guest());
    },
  },
  {
    id: "session.without-protocol-features",
    title: "without bit 30 acknowledged rings run as soon as they are started",
    rule: vhostUser(
      "Ring states",
      "if VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      await assertWorks(context, await context.guest({ omits: ["PROTOCOL_FEATURES"] }));
    },
  },
  {
    id: "session.two-in-a-row",
    title: "a front-end that leaves while rings run makes room for the next one, whose guest works",
    rule: agreed(
      "a new owner of the device starts from nothing, whatever its predecessor left behind",
      "Linux drivers/vhost/vsock.c vhost_vsock_dev_release",
      "DPDK lib/vhost/socket.c vhost_user_read_cb, which destroys the device and listens on",
      "rust-vmm vhost-user-backend VhostUserDaemon::serve",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      for (let round = 0; round < 4; round++) {
        const guest = await context.guest();
        await assertWorks(context, guest);
        await context.pass(50);
        context.disconnect(guest.session);
      }
    },
  },
  {
    id: "session.leaves-no-connections",
    title: "connections of a front-end that has gone are over for the host's programs",
    rule: agreed(
      "connections end with the device: the host's side sees a reset or an end of stream",
      "Linux drivers/vhost/vsock.c vhost_vsock_reset_orphans",
      "vhost-device-vsock src/vhu_vsock_thread.rs, whose connections end with its worker",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      context.disconnect(guest.session);
      await context.until(
        () => joined.host.hasEnded || joined.host.isClosed,
        "the host's end of a connection ends with the guest's front-end",
      );
    },
  },
];
