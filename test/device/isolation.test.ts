/**
 * What one connection, or one VM, may do to another: nothing.
 */

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertSame, assertWorks, exchange, noise, Rig, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

const STUCK_PORT = 1024;
const GUEST_PORT = 2048;

const PLENTY_BYTES = 2_000_000;
/** More than all buffers on the way together: the device's 1 MiB, and a host socket made to hold as much. */
const STUCK_BYTES = 6_000_000;
/** So often in a row a connection is looked at before it counts as stuck: the socket is widened on the way. */
const LOOKS = 10;

describe("a connection that is stuck", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  before(async () => {
    rig = await Rig.start({}, {});
    machine = rig.boot();
  });
  after(() => rig.close());

  /** A connection whose host program does not read, filled until nothing more goes in. */
  async function stuckConnection(): Promise<{
    guest: GuestConnection;
    host: Socket;
    data: Buffer;
    sent: Promise<void>;
  }> {
    const listener = await rig.listen(STUCK_PORT);
    const guest = await machine.driver.connect(STUCK_PORT);
    const host = await listener.accept();
    listener.close();
    const data = noise(STUCK_BYTES);
    const sent = guest.write(data).then(() => guest.shutdown(2));
    let [looks, bytes] = [0, 0];
    const isStuck = (): boolean => {
      looks = guest.credit.sendable === 0 && guest.sentBytes === bytes ? looks + 1 : 0;
      bytes = guest.sentBytes;
      return looks === LOOKS;
    };
    await rig.until(isStuck, "a full connection");
    return { guest, host, data, sent };
  }

  it("does not hold up another of the same guest, in either direction", async () => {
    const stuck = await stuckConnection();
    const before = stuck.guest.sentBytes;
    await assertWorks(rig, machine, 0, PLENTY_BYTES);
    const listener = machine.driver.listen(GUEST_PORT);
    const [host, guest] = await Promise.all([rig.connect(GUEST_PORT), listener.accept()]);
    await exchange(guest, host, noise(PLENTY_BYTES), noise(PLENTY_BYTES));
    listener.close();
    // Not one byte of it moved meanwhile; now its reader wakes up, and nothing is lost.
    assert.equal(stuck.guest.sentBytes, before);
    assertSame(await readToEnd(stuck.host), stuck.data, "what the sleeper finds");
    await stuck.sent;
    stuck.host.end();
    await stuck.guest.close();
  });

  it("is not held up by ten others", async () => {
    const stuck = await Promise.all(Array.from({ length: 1 }, stuckConnection));
    for (let i = 0; i < 9; i++) stuck.push(await stuckConnection());
    await assertWorks(rig, machine, 0, PLENTY_BYTES);
    for (const { guest, host, sent } of stuck) {
      sent.catch(() => {});
      host.destroy();
      await guest.close();
    }
  });

  it("does not hold up the host's data for others when its guest does not read", async () => {
    const listener = machine.driver.listen(GUEST_PORT);
    const [host, unread] = await Promise.all([rig.connect(GUEST_PORT), listener.accept()]);
    const data = noise(PLENTY_BYTES);
    host.end(data);
    await rig.until(() => unread.receivedBytes > 150_000, "a full buffer");
    await assertWorks(rig, machine, 0, PLENTY_BYTES);
    assertSame(await unread.readToEnd(), data, "what was read late");
    await unread.close();
    listener.close();
  });

  it("has no say in another VM of the same program", async () => {
    const stuck = await stuckConnection();
    const other = rig.boot({ vm: 1, kind: "viommu" });
    await assertWorks(rig, other, 1, 200_000);
    rig.off(other);
    stuck.sent.catch(() => {});
    stuck.host.destroy();
    await stuck.guest.close();
  });
});
