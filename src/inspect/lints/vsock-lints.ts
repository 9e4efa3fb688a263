/** Lints on vsock devices, where the device type is known: over vhost-user nothing says it but the user (--device vsock). */
import { guestCidProblem, has, PROTOCOL_F, VSOCK_F, VSOCK_QUEUE } from "../../virtio/index.js";
import { type LintTable, replyOf, requestOf, SILENCE_NS } from "./lint.js";

export const VSOCK_LINTS = {
  "vsock-dgram-bit": {
    severity: "warning",
    title: "Vsock feature bit 3 is in use, which only libkrun takes for datagrams",
    rule: "VIRTIO 1.4, Socket Device, Feature bits: 0 STREAM, 1 SEQPACKET, 2 NO_IMPLIED_STREAM; libkrun: 3 is DGRAM",
    why: "The specification has no datagram sockets. Drafts had them at 2, which has another meaning today.",
    todo: "In the back-end: offer it to guests of libkrun only.",
    onMessage: (look) => {
      if (look.model.deviceType !== "vsock") return undefined;
      const payload = replyOf(look, "GET_FEATURES") ?? requestOf(look, "SET_FEATURES");
      if (payload?.kind !== "u64" || !has(payload.value, VSOCK_F.VSOCK_DGRAM)) return undefined;
      return { subject: look.message.name, text: `${look.message.name} has bit ${VSOCK_F.VSOCK_DGRAM}` };
    },
  },
  "vsock-without-config": {
    severity: "warning",
    title: "A vsock back-end does not offer CONFIG",
    rule: "QEMU hw/virtio/vhost-user.c vhost_user_backend_init: a device with a configuration space needs the feature",
    why: 'QEMU refuses it: "vhost-user device expecting VHOST_USER_PROTOCOL_F_CONFIG but the vhost-user backend does not support it".',
    todo: "In the back-end: offer CONFIG and answer GET_CONFIG with the guest's context id.",
    onMessage: (look) => {
      const payload = replyOf(look, "GET_PROTOCOL_FEATURES");
      if (look.model.deviceType !== "vsock" || payload?.kind !== "u64") return undefined;
      if (has(payload.value, PROTOCOL_F.CONFIG)) return undefined;
      return { text: "GET_PROTOCOL_FEATURES offers no CONFIG (9)" };
    },
  },
  "vsock-event-queue-kept": {
    severity: "info",
    title: "The front-end keeps the event queue to itself",
    rule: "VIRTIO, Socket Device, Virtqueues: 2 is the event queue; QEMU hw/virtio/vhost-vsock-common.c hands on two",
    why:
      "The back-end cannot tell the guest of a TRANSPORT_RESET. QEMU does this; crosvm and cloud-hypervisor hand all " +
      "three queues on.",
    todo: "In the back-end: wait for no event queue, and answer packets of connections that are gone with RST.",
    onTime: ({ model, nowNs }) => {
      const { deviceType, runningSinceNs } = model;
      if (deviceType !== "vsock" || runningSinceNs === undefined || model.hasGap) return undefined;
      // The kernel's device has two rings: its VMM always keeps the third.
      if (model.transport !== "vhost-user") return undefined;
      const atNs = runningSinceNs + SILENCE_NS;
      if (nowNs <= atNs || model.rings.get(VSOCK_QUEUE.event)?.isStarted === true) return undefined;
      return { text: "the rings run, and ring 2 is not among them", atNs };
    },
  },
  "kernel-guest-cid": {
    severity: "error",
    title: "The kernel's device gets a context id that no guest can have",
    rule: "Linux drivers/vhost/vsock.c vhost_vsock_set_cid: EINVAL for 0, 1, 2, 0xffffffff and beyond",
    why: "VHOST_VSOCK_SET_GUEST_CID fails.",
    todo: "In the VMM's configuration: choose a context id from 3 on.",
    onMessage: ({ message }) => {
      const { payload } = message;
      if (message.isReply || message.name !== "VHOST_VSOCK_SET_GUEST_CID" || payload?.kind !== "u64")
        return undefined;
      const problem = guestCidProblem(Number(payload.value));
      return problem === undefined ? undefined : { text: problem };
    },
  },
} as const satisfies LintTable;
