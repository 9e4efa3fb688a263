/**
 * What is read from files that somebody else kept: captures of sessions, and the saved state of a device. Either it is read,
 * or it is refused with a reason; what was read comes out the same when it is written again.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeState, encodeState } from "../../../src/device/saved-state.js";
import { CaptureError } from "../../../src/inspect/capture/error.js";
import {
  decodeLink,
  encodeLink,
  PLAIN_LINK,
  VHOST_USER_LINK_TYPE,
} from "../../../src/inspect/capture/link-header.js";
import { interfaceBlock, packetBlock, sectionBlock } from "../../../src/inspect/capture/pcapng-encode.js";
import { readPackets } from "../../../src/inspect/capture/pcapng-reader.js";
import { encodeFrame } from "../../../src/vhost/wire/index.js";
import { SocketType } from "../../../src/vsock/header.js";
import { Input, type Target } from "../target.js";

let folder: string | undefined;

function scratchFile(): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), "bit33-fuzz-files-"));
    process.on("exit", () => rmSync(made, { recursive: true, force: true }));
    folder = made;
  }
  return join(folder, "file");
}

function capture(bytes: Uint8Array): void {
  const path = scratchFile();
  writeFileSync(path, bytes);
  try {
    for (const packet of readPackets(path)) {
      assert.ok(packet.bytes.length <= bytes.length && packet.timeNs >= 0n);
      const link = decodeLink(packet.bytes);
      if (typeof link === "string") continue;
      const written = encodeLink(link);
      const again = decodeLink(written);
      assert.ok(typeof again !== "string", String(again));
      assert.deepEqual(encodeLink(again), written);
    }
  } catch (error) {
    if (!(error instanceof CaptureError)) throw error;
    assert.ok(error.message.length > 0);
  }
}

function state(bytes: Uint8Array): void {
  const read = decodeState(bytes);
  if (typeof read !== "string") assert.deepEqual(decodeState(encodeState(read)), read);
}

function run(bytes: Uint8Array): void {
  const input = new Input(bytes);
  const read = (input.u8() & 1) === 0 ? capture : state;
  read(input.take(bytes.length));
}

function seeds(): Uint8Array[] {
  const body = encodeFrame(2, 0, { kind: "u64", value: 1n });
  const kinds = ["socket", "eventfd"] as const;
  const links = [
    encodeLink({ ...PLAIN_LINK, kind: "begun", session: 1 }),
    encodeLink({ ...PLAIN_LINK, kind: "message", session: 1, body }),
    encodeLink({
      ...{ ...PLAIN_LINK, kind: "message", session: 1, body },
      ...{ descriptorCount: kinds.length, descriptorKinds: [...kinds] },
    }),
  ];
  const blocks = [
    sectionBlock({ application: "bit33", comment: "a comment" }),
    interfaceBlock({ linkType: VHOST_USER_LINK_TYPE, name: "vhost-user", description: "messages" }),
    ...links.map((bytes) => packetBlock({ interface: 0, timeNs: 1_700_000_000_000_000_000n, bytes })),
  ];
  const connections = [{ farCid: 2, hostPort: 1, guestPort: 2, type: SocketType.STREAM }];
  return [
    new Uint8Array(Buffer.concat([Uint8Array.of(0), ...blocks])),
    new Uint8Array(
      Buffer.concat([Uint8Array.of(1), encodeState({ guestCid: 3, nextPort: 2 ** 30, connections })]),
    ),
  ];
}

export const files: Target = {
  name: "files",
  about: "captures of sessions, and the saved state of a device",
  mostBytes: 600,
  seeds: seeds(),
  run,
};
