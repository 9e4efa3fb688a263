/**
 * Writes an inspection into a pcapng file as it goes: vhost-user messages on one interface, vsock packets on one for each
 * ring. Each packet is handed to the kernel whole before the call returns, so what came here is kept even if this process is
 * killed with the next message; what waits to be looked at is not here yet. Reads nothing back (replay.ts does) and judges
 * nothing.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import type { FrameObserver, Remark, SessionEnd, SessionFrame, SessionStart } from "../frame.js";
import { packetHeader, type RingFault, type RingPacket, type SessionTraffic } from "../rings/traffic.js";
import { CaptureError, systemReason } from "./error.js";
import { encodeLink, PLAIN_LINK, VHOST_USER_LINK_TYPE } from "./link-header.js";
import { interfaceBlock, type PacketInfo, packetBlock, sectionBlock } from "./pcapng-encode.js";
import { encodeRingRecord, faultRecord, type RingRecord, trafficRecord } from "./ring-record.js";
import { encodeVsockPacket, VSOCK_LINK_TYPE, vsockInterfaceName, vsockPacketBytes } from "./vsockmon.js";

/** Position of the first interface in the file. */
const VHOST_USER = 0;

export interface CaptureFileOptions {
  readonly path: string;
  /** The program and its version, as it stands in the file. */
  readonly application: string;
  /** Called once, if the file cannot be written any more: from then on nothing is. */
  readonly onFailure: (error: CaptureError) => void;
}

export class CaptureFile implements FrameObserver {
  readonly #path: string;
  readonly #onFailure: (error: CaptureError) => void;
  #fd: number | undefined;
  /** The interfaces behind the first, by their names. */
  readonly #interfaces = new Map<string, number>();

  /** Replaces a file that was there. Throws a CaptureError. */
  constructor({ path, application, onFailure }: CaptureFileOptions) {
    this.#path = path;
    this.#onFailure = onFailure;
    try {
      // What guests say is nobody else's to read.
      this.#fd = openSync(path, "w", 0o600);
      writeWhole(this.#fd, sectionBlock({ application }));
      writeWhole(
        this.#fd,
        interfaceBlock({
          linkType: VHOST_USER_LINK_TYPE,
          name: "vhost-user",
          description: "vhost-user messages, each behind the header that docs/captures.md describes",
        }),
      );
    } catch (error) {
      throw this.#unwritable(error);
    }
  }

  begun({ session, timeNs }: SessionStart): void {
    this.#packet(VHOST_USER, timeNs, encodeLink({ ...PLAIN_LINK, kind: "begun", session }));
  }

  /** @param comments for whoever opens the file: what was found about the message */
  frame(session: number, frame: SessionFrame, comments: readonly string[] = []): void {
    const { channel, direction, descriptorCount, descriptorKinds, bytes } = frame;
    const link = encodeLink({
      ...PLAIN_LINK,
      kind: "message",
      session,
      channel,
      direction,
      descriptorCount,
      descriptorKinds,
      body: bytes,
    });
    this.#packet(VHOST_USER, frame.timeNs, link, comments);
  }

  remark(session: number, { timeNs, text, isGap, isBroken = false }: Remark): void {
    const body = new TextEncoder().encode(text);
    const link = encodeLink({ ...PLAIN_LINK, kind: "remark", session, isGap, isBroken, body });
    this.#packet(VHOST_USER, timeNs, link);
  }

  /** Something became overdue at this moment: a replay has to look then. */
  time(timeNs: bigint): void {
    this.#packet(VHOST_USER, timeNs, encodeLink({ ...PLAIN_LINK, kind: "time", session: 0 }));
  }

  ended(session: number, { timeNs, by, reason }: SessionEnd): void {
    const body = new TextEncoder().encode(reason);
    this.#packet(VHOST_USER, timeNs, encodeLink({ ...PLAIN_LINK, kind: "ended", session, ender: by, body }));
  }

  /**
   * A vsock packet of a ring.
   *
   * @param comments as of `frame`
   */
  packet(session: number, packet: RingPacket, comments: readonly string[] = []): void {
    const { timeNs, ring, header, payload } = packet;
    const bytes = encodeVsockPacket(header, payload);
    const originalBytes = vsockPacketBytes(Math.max(packetHeader(packet).len, payload.byteLength));
    const from = this.#interfaceOf(session, ring);
    this.#write(packetBlock({ interface: from, timeNs, bytes, originalBytes, comments }));
  }

  /** Something in a ring is against its rules. */
  fault(session: number, fault: RingFault): void {
    this.#ringRecord(session, fault.timeNs, faultRecord(fault));
  }

  /** What the rings of a session carried; before its end. */
  traffic(session: number, timeNs: bigint, traffic: SessionTraffic): void {
    this.#ringRecord(session, timeNs, trafficRecord(traffic));
  }

  #ringRecord(session: number, timeNs: bigint, record: RingRecord): void {
    const body = encodeRingRecord(record);
    this.#packet(VHOST_USER, timeNs, encodeLink({ ...PLAIN_LINK, kind: "rings", session, body }));
  }

  #interfaceOf(session: number, ring: number): number {
    const name = vsockInterfaceName(session, ring);
    const known = this.#interfaces.get(name);
    if (known !== undefined) return known;
    const position = VHOST_USER + 1 + this.#interfaces.size;
    this.#interfaces.set(name, position);
    const description = `vsock packets of ring ${ring} of session ${session}, as vsockmon shows them`;
    this.#write(interfaceBlock({ linkType: VSOCK_LINK_TYPE, name, description }));
    return position;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #packet(
    onto: PacketInfo["interface"],
    timeNs: bigint,
    bytes: Uint8Array,
    comments?: readonly string[],
  ): void {
    this.#write(packetBlock({ interface: onto, timeNs, bytes, comments: comments ?? [] }));
  }

  /** A full disk ends the capture and nothing else: the session goes on. */
  #write(block: Uint8Array): void {
    if (this.#fd === undefined) return;
    try {
      writeWhole(this.#fd, block);
    } catch (error) {
      this.close();
      this.#onFailure(this.#unwritable(error));
    }
  }

  #unwritable(error: unknown): CaptureError {
    const problem = `the capture cannot be written (${systemReason(error)}); give a path that can, with room on its disk`;
    return new CaptureError("capture-unwritable", this.#path, problem);
  }
}

function writeWhole(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at);
}
