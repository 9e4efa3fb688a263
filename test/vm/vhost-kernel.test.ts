/**
 * The profiles of kernel devices against real kernels: each script is run on /dev/vhost-vsock *inside* a guest, one
 * boot a kernel, and on the model, and every result has to be the same; so are the requests of every cell of the matrix
 * up to the start of its rings. The host's own device is never opened.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinDevice } from "../../src/profiles/builtin.js";
import { cellScripts } from "./kernel-cells.js";
import { KernelGuest } from "./kernel-guest.js";
import { replay } from "./kernel-replay.js";
import { kernelScripts } from "./kernel-scripts.js";
import { type KernelSeries, whatIsMissing } from "./paths.js";

const missing = whatIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm prepares the guests`);

/**
 * Debian packages no 5.15. Its profile is derived from the source, and has to agree with 6.1, which has the same
 * drivers/vhost/vsock.c where negotiation is concerned: with the IOTLB, without the hardening that came later.
 */
const pairs: readonly { readonly series: KernelSeries; readonly device: string }[] = [
  { series: "5.10", device: "linux-5.10" },
  { series: "6.1", device: "linux-5.15" },
  { series: "6.12", device: "linux-6.12" },
];

for (const { series, device } of pairs) {
  test(`vhost-vsock of Linux ${series} and the profile ${device}`, async (t) => {
    const profile = builtinDevice(device);
    const cells = await cellScripts(profile);
    const guest = await KernelGuest.start(series);
    try {
      for (const script of [...kernelScripts, ...cells]) {
        await t.test(script.name, async () => {
          assert.deepEqual(replay(profile, script), await guest.run(script), "the model, then the kernel");
        });
      }
    } finally {
      await guest.stop();
    }
  });
}
