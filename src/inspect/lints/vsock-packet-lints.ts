/**
 * Lints on the packets of a vsock device's rings, where somebody follows the rings. Packets may have gone by unseen, so
 * each is judged by what it says itself, and by what the messages say of the device.
 */
import { hex } from "../../virtio/index.js";
import { describePacket, Op, SocketType } from "../../vsock/header.js";
import type { LintTable, PacketLook, Sighting } from "./lint.js";

/** One finding for each sender: its other packets are counted. */
function sighting({ packet, header }: PacketLook, what: string): Sighting {
  const sender = packet.direction === "to-device" ? "the guest sends" : "the device sends";
  return { subject: packet.direction, text: `${sender} ${describePacket(header)}: ${what}` };
}

export const VSOCK_PACKET_LINTS = {
  "vsock-packet-type": {
    severity: "warning",
    title: "A vsock packet is of a type that there is not",
    rule: "VIRTIO 1.4, Socket Device, Device Operation: type is 1 (STREAM) or 2 (SEQPACKET); RST in reply to any other",
    why: "It is answered with RST, or by devices that forget to, with nothing. libkrun has datagrams, as type 3.",
    todo: "In whoever sends it: use the types that were negotiated.",
    onPacket: (look) => {
      const { type } = look.header;
      if (type === SocketType.STREAM || type === SocketType.SEQPACKET) return undefined;
      return sighting(look, `type ${type} is neither STREAM nor SEQPACKET`);
    },
  },
  "vsock-packet-op": {
    severity: "warning",
    title: "A vsock packet has an operation that there is not",
    rule: "VIRTIO 1.4, Socket Device, Device Operation: op is 1 (REQUEST) to 7 (CREDIT_REQUEST); 0 is invalid",
    why: "Peers drop it, or reset the connection.",
    todo: "In whoever sends it: fill in the operation before the buffer is made available, or returned.",
    onPacket: (look) => {
      const { op } = look.header;
      if (op >= Op.REQUEST && op <= Op.CREDIT_REQUEST) return undefined;
      return sighting(look, `operation ${op} is none`);
    },
  },
  "vsock-cid-upper-bits": {
    severity: "warning",
    title: "A vsock packet has bits set in the upper half of a context id",
    rule: "VIRTIO 1.4, Socket Device, Device configuration layout: the upper 32 bits of a CID are reserved and zeroed",
    why: "Peers that compare 64 bits take it for somebody else's; those that compare 32 do not.",
    todo: "In whoever sends it: zero the upper halves of src_cid and dst_cid.",
    onPacket: (look) => {
      const { srcCidHigh, dstCidHigh } = look.header;
      if ((srcCidHigh | dstCidHigh) === 0) return undefined;
      return sighting(look, `the upper halves are ${hex(srcCidHigh)} and ${hex(dstCidHigh)}`);
    },
  },
  "vsock-foreign-cid": {
    severity: "error",
    title: "A vsock packet bears another context id than the guest has",
    rule:
      "VIRTIO 1.4, Socket Device, Device configuration layout (guest_cid), Device Operation: src_cid of what the guest " +
      "sends, dst_cid of what it gets",
    why:
      "Devices drop such a packet of a guest, and guests one of a device: nothing arrives, or after a restore with " +
      "another CID, nothing any more.",
    todo: "In the device: send TRANSPORT_RESET when the CID changes. In the guest's driver: read guest_cid anew then.",
    onPacket: (look) => {
      const { model, packet, header } = look;
      const { guestCid } = model;
      if (guestCid === undefined || (header.srcCidHigh | header.dstCidHigh) !== 0) return undefined;
      const isSent = packet.direction === "to-device";
      const cid = isSent ? header.srcCid : header.dstCid;
      if (BigInt(cid) === guestCid) return undefined;
      return sighting(look, `${isSent ? "src_cid" : "dst_cid"} is ${cid}, and GET_CONFIG says ${guestCid}`);
    },
  },
} as const satisfies LintTable;
