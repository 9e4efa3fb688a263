import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { socketPair } from "../linux/unix-socket.js";
import { HostEnd, RecordingOpener } from "../vsock/switch-rig.js";
import { GUEST_CID, IOVA_BASE, PAGE, PLAIN_WORD, WORD_WITH_33, withKernel } from "./peer-rig.js";

describe("the data plane of a modelled device", () => {
  it("lets a host program call the guest", () => {
    withKernel({}, (rig) => {
      rig.setUp(PLAIN_WORD);
      rig.setRunning(true);
      const [ours, theirs] = socketPair();
      const host = new HostEnd(theirs);
      const opener = new RecordingOpener();
      rig.device.connectGuest(1024, ours, opener);
      rig.settle();
      assert.equal(rig.guest.story, "REQUEST");
      const [{ header }] = rig.guest.received;
      assert.equal(header.dstCid, GUEST_CID);
      rig.guest.send({ op: 2, dstPort: header.srcPort });
      rig.settle();
      assert.equal(opener.hostPort, header.srcPort);
      host.close();
    });
  });

  it("takes no packet of a guest without a context id, and is another's once it has a new one", () => {
    withKernel({}, (rig) => {
      rig.setUp(PLAIN_WORD);
      rig.setRunning(true);
      assert.equal(rig.talk().host, "hello");
      rig.call({ name: "VHOST_VSOCK_SET_GUEST_CID", cid: 77n });
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].condition, "end");
      rig.guest.send({ op: 1, srcPort: 9 });
      rig.settle();
      assert.equal(rig.endpoints.accepted.length, 1);
      rig.guest.send({ op: 1, srcPort: 9, srcCid: 77 });
      rig.settle();
      assert.equal(rig.endpoints.accepted.length, 2);
    });
  });

  it("asks again for the oldest mapping when a newer one has taken its place", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      rig.setUp(WORD_WITH_33);
      // The buffer's page first of all, then as many others as there is room for, but for one.
      rig.map(IOVA_BASE + 0xc0000n);
      rig.mapAllBut(0xc0000n);
      for (let page = 0n; page < 2048n - 512n; page++) rig.write({ iova: page * PAGE, userAddress: PAGE });
      rig.setRunning(true);
      rig.settle();
      assert.deepEqual(rig.misses(), []);
      rig.write({ iova: 0x8000_0000n, userAddress: PAGE });
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.deepEqual(rig.misses(), ["c0000 r"]);
    });
  });
});
