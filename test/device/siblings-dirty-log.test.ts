/**
 * The dirty log of a guest that a sibling sends to, against the guest's memory: what another session's burst has written
 * into its buffers is logged in its own log.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import { createMemfd, mapShared, view } from "../../src/linux/mapping.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { mask, PROTOCOL_F } from "../../src/virtio/index.js";
import { assertSame, FIRST_CID, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 700;
const PAGE = 4096;
const SLOT = { gpa: 0, bytes: 32 * 2 ** 20 };
const LOG_BYTES = SLOT.bytes / PAGE / 8;
/** Nothing else in the guest's memory looks like it. */
const PATTERN = Buffer.from("what the sibling has sent, again and again; ");
const BYTES = 500_000;

const qemu = builtinVmm("qemu-7.2");
const logging = { ...qemu, protocolFeatures: qemu.protocolFeatures | mask(PROTOCOL_F.LOG_SHMFD) };

function pagesThat(holds: (page: number) => boolean): number[] {
  return Array.from({ length: SLOT.bytes / PAGE }, (_, page) => page).filter(holds);
}

describe("the dirty log of a guest whose sibling sends", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const kind of ["direct", "viommu"] as const) {
    it(`has every page that holds what was sent, and none that is as it was before: ${kind}`, async () => {
      const rig = await Rig.start({ groups: ["x"] }, { groups: ["x"] });
      const logFd = createMemfd("log", LOG_BYTES);
      const bits = new Uint8Array(view(mapShared(logFd, 0, LOG_BYTES), LOG_BYTES));
      try {
        const sender = rig.boot();
        const receiver = rig.boot({ vm: 1, kind, profile: logging, platform: { slots: [SLOT] } });
        const listener = receiver.driver.listen(PORT);
        const [client, server] = await Promise.all([
          sender.driver.connect(PORT, FIRST_CID + 1),
          listener.accept(),
        ]);
        const memory = receiver.platform.ram.view(SLOT.gpa, SLOT.bytes);
        const before = Buffer.from(memory);
        receiver.frontEnd.setDirtyLog({ fd: logFd, size: BigInt(LOG_BYTES) });
        const data = Buffer.alloc(BYTES, PATTERN);
        const [received] = await Promise.all([
          server.readToEnd(),
          client.write(data).then(() => client.shutdown(2)),
        ]);
        assertSame(received, data, "what was received");
        receiver.frontEnd.stop();

        const ofPage = (page: number) => Buffer.from(memory.subarray(page * PAGE, (page + 1) * PAGE));
        const isLogged = (page: number) => ((bits[page >> 3] >> (page & 7)) & 1) === 1;
        const holding = pagesThat((page) => ofPage(page).includes(PATTERN));
        assert.ok(holding.length > 20, `${holding.length} pages hold what was sent`);
        assert.deepEqual(
          holding.filter((page) => !isLogged(page)),
          [],
          "pages that are not logged",
        );
        const unchanged = (page: number) =>
          ofPage(page).equals(before.subarray(page * PAGE, (page + 1) * PAGE));
        assert.deepEqual(
          pagesThat((page) => isLogged(page) && unchanged(page)),
          [],
          "logged without reason",
        );
      } finally {
        await rig.close();
        closeSync(logFd);
      }
    });
  }
});
