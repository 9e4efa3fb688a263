/**
 * The memory table of one of two siblings is set anew in the middle of a transfer, as a VMM does that plugs memory in: the
 * device maps it elsewhere, and the mapping that it had turns into zeros.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UserAddresses } from "../../src/vmm/user-addresses.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertSame, FIRST_CID, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 700;
const BYTES = 1_500_000;

function setTableAnew({ frontEnd: { session }, platform: { ram } }: VirtualMachine): void {
  session.needReply = true;
  session.setMemTable(new UserAddresses(ram.slots).regions(ram.fd));
  session.needReply = false;
}

describe("the memory table of a sibling that is set anew within a transfer", {
  timeout: SUITE_TIMEOUT_MS,
}, () => {
  for (const side of ["sender", "receiver"] as const) {
    it(`leaves every byte as it was: the ${side}'s`, async () => {
      const rig = await Rig.start({ groups: ["x"] }, { groups: ["x"] });
      try {
        const ends = { sender: rig.boot(), receiver: rig.boot({ vm: 1 }) };
        const listener = ends.receiver.driver.listen(PORT);
        const [client, server] = await Promise.all([
          ends.sender.driver.connect(PORT, FIRST_CID + 1),
          listener.accept(),
        ]);
        const data = noise(BYTES);
        const sent = client.write(data).then(() => client.shutdown(2));
        const chunks: Uint8Array[] = [];
        let tables = 0;
        for (let chunk = await server.read(); chunk !== undefined; chunk = await server.read()) {
          chunks.push(chunk);
          if (chunks.length % 16 !== 0) continue;
          setTableAnew(ends[side]);
          tables++;
        }
        assertSame(Buffer.concat(chunks), data, "what arrived");
        assert.ok(tables > 5, `the table was set ${tables} times`);
        await sent;
        await Promise.all([client.close(), server.close()]);
      } finally {
        await rig.close();
      }
    });
  }
});
