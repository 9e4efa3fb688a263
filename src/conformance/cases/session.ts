/** Cases about the vhost-user session itself: messages, replies, errors, one session after another. */
import { F, has } from "../../virtio/index.js";
import type { ConformanceCase } from "../case.js";
import { assertWorks } from "../exchange.js";
import { vhostUser, virtio } from "../rules.js";

export const SESSION_CASES: readonly ConformanceCase[] = [
  {
    id: "session.features",
    title: "GET_FEATURES offers VERSION_1 and the same word each time",
    rule: virtio("6 Reserved Feature Bits", "VIRTIO_F_VERSION_1: a device MUST offer it"),
    needs: {},
    async run(context) {
      const session = await context.connect();
      const offered = session.getFeatures();
      context.expect.that(
        has(offered, F.VERSION_1),
        "VERSION_1 is offered",
        `features 0x${offered.toString(16)}`,
      );
      context.expect.equal(session.getFeatures(), offered, "a second GET_FEATURES says the same");
    },
  },
  {
    id: "session.config-cid",
    title: "GET_CONFIG gives the guest's context id",
    rule: virtio(
      "5.10.4 Device configuration layout",
      "le64 guest_cid: its upper 32 bits are reserved and zeroed",
    ),
    needs: { protocolFeatures: ["CONFIG"] },
    async run(context) {
      const session = await context.connect();
      session.negotiate();
      const bytes = context.expect.present(session.getConfig(0, 8), "GET_CONFIG is answered with data");
      context.expect.equal(bytes.length, 8, "eight bytes of configuration come back");
      const cid = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
      context.expect.that(cid > 2n && cid < 0xffff_ffffn, "guest_cid is a guest's", `${cid}`);
      const { guestCid } = context.target;
      if (guestCid !== undefined) context.expect.equal(cid, BigInt(guestCid), "it is the one of --guest-cid");
    },
  },
  {
    id: "session.works",
    title: "a session in QEMU's order ends in a device that moves data both ways",
    rule: vhostUser(
      "Communication",
      "the front-end sets up the device and rings; the back-end processes them",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      await assertWorks(context, await context.guest());
    },
  },
  {
    id: "session.two-in-a-row",
    title: "a front-end that leaves makes room for the next one, whose guest works",
    rule: vhostUser(
      "Backend program conventions / Communication",
      "the back-end can be connected to again after the front-end has closed the connection",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const first = await context.guest();
      await assertWorks(context, first);
      context.disconnect(first.session);
      await assertWorks(context, await context.guest());
    },
  },
];
