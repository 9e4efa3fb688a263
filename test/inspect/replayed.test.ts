/** What `bit33 inspect` says of a live session, over real sockets, and of its own capture of it: the same, line by line. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { run, SERVE_TIMEOUT_MS } from "../serve-rig.js";
import { CID, type Entry, InspectRig } from "./rig.js";

describe("a capture of a live session", { timeout: SERVE_TIMEOUT_MS }, () => {
  let rig: InspectRig;

  beforeEach(() => {
    rig = new InspectRig();
  });
  afterEach(() => rig.close());

  async function replayed(...options: readonly string[]): Promise<string[]> {
    const { status, output, complaint } = await run("inspect", rig.path("live.pcapng"), ...options);
    assert.equal(status, 0, complaint);
    return output.trimEnd().split("\n");
  }

  const views: readonly (readonly string[])[] = [["--json"], [], ["--json", "--quiet"]];
  for (const options of views) {
    it(`is shown as the session was: ${options.join(" ") || "text"}`, async () => {
      await rig.serve.start([CID]);
      await rig.inspect("--once", "--device", "vsock", "--capture", rig.path("live.pcapng"), ...options);
      const machine = rig.boot("viommu");
      await rig.serve.exchange(machine, CID, 100_000);
      rig.off(machine);
      assert.equal(await rig.end(), 0);
      assert.ok(rig.lines.length > (options.includes("--quiet") ? 1 : 40), `${rig.lines.length} lines`);
      assert.deepEqual(await replayed("--device", "vsock", ...options), rig.lines);
    });
  }

  it("has what became overdue at the time that it was due, and the session that the inspector's end cut short", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--capture", rig.path("live.pcapng"));
    rig.boot("protected", builtinVmm("crosvm-vhost-user"));
    await rig.record("finding", ({ lint }) => lint === "bit33-without-iotlb");
    await rig.stop();
    assert.ok(rig.records("summary").length > 0);
    assert.deepEqual(await replayed("--json"), rig.lines);
  });

  it("has the packets of the rings and their figures, too", async () => {
    await rig.serve.start([CID]);
    const capture = ["--rings", "--device", "vsock", "--capture", rig.path("live.pcapng")];
    await rig.inspect("--json", "--once", ...capture);
    const machine = rig.boot("direct");
    await rig.serve.exchange(machine, CID, 100_000);
    rig.off(machine);
    assert.equal(await rig.end(), 0);
    const again = (await replayed("--json", "--device", "vsock")).map((line) => JSON.parse(line) as Entry);
    assert.ok(rig.records("packet").length > 0);
    for (const kind of ["session", "message", "packet", "finding", "summary"])
      assert.deepEqual(
        again.filter((entry) => entry.kind === kind),
        rig.records(kind),
      );
  });
});
