/** Runs the corpus: each case by its title, its outcome as it was settled, and the run against the reading. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DISAGREEMENTS } from "./index.js";

/** What the runs have found. A change here is news: say in the case's lesson what has changed. */
const SETTLED: Readonly<Record<string, string>> = {
  "crosvm-passes-33": "fails-to-start",
  "crosvm-vhost-user-passes-33": "crashes",
  "crosvm-vhost-user-hides-33": "faults",
  "crosvm-without-viommu-guard": "no-such-cell",
  "qemu-tells-33-unoffered": "fails-to-start",
  "qemu-wants-a-channel-with-33": "refused",
  "qemu-takes-xen-mmap": "acknowledged",
  "shmem-or-gpa-addresses": "rings-found-all-the-same",
  "in-order-unknown-to-the-guest": "only-newer-guests-take-it",
  "libkrun-dgram": "only-its-own-guests-take-it",
  "guest-takes-no-stream-bit": "streams-work-unasked",
  "crosvm-hides-seqpacket": "hidden-by-crosvm",
  "crosvm-strips-packed": "stripped",
  "confidential-guest-requires-33": "refused",
  "cloud-hypervisor-drops-indirect": "kept-for-vhost-user",
  "toggling-33-after-addresses": "only-the-older-kernel-starts",
  "event-queue-owner": "works-with-two-and-three",
  "dirty-log-never-cleared": "no-other-log-to-write",
  "suspend-42-or-43": "never-negotiated",
  "config-flags": "refused-whatever-the-flag",
  "features-asked-too-late": "guest-holds-what-the-device-lacks",
};

describe("the corpus of disagreements", () => {
  for (const disagreement of DISAGREEMENTS) {
    it(disagreement.title, async () => {
      const { outcome, facts } = await disagreement.run();
      assert.equal(outcome, SETTLED[disagreement.id]);
      assert.notEqual(facts.length, 0);
    });
  }

  it("has every case once, with an id, a question, sources and a lesson", () => {
    assert.deepEqual(
      DISAGREEMENTS.map(({ id }) => id),
      Object.keys(SETTLED),
    );
    for (const { id, title, question, sources, reading, lesson, expected, moot } of DISAGREEMENTS) {
      assert.ok(moot === undefined || moot !== expected);
      assert.match(id, /^[a-z0-9]+(?:-[a-z0-9]+)*$/);
      assert.match(expected, /^[a-z]+(?:-[a-z]+)*$/);
      assert.doesNotMatch(title, /\.$/);
      assert.match(question, /\?$/);
      for (const sentence of [reading, lesson]) assert.match(sentence, /\.$/);
      assert.notEqual(sources.length, 0);
    }
  });

  it("says the same each time that it is run", async () => {
    for (const disagreement of DISAGREEMENTS.slice(0, 8))
      assert.deepEqual(await disagreement.run(), await disagreement.run());
  });
});
