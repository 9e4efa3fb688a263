/** `bit33 serve --user`: what is given up, and who may ask for it. */
import assert from "node:assert/strict";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { readUser } from "../src/cli/serve/user.js";
import { ConfigError } from "../src/config/errors.js";
import { run, runAs, SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

const NOBODY = 65534;

/** Of each thread: real, effective, saved and file-system user; the same of the group; other groups; no_new_privs. */
function identities(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
    return ["Uid", "Gid", "Groups"]
      .map((key) => new RegExp(`^${key}:\\s*(.*?)\\s*$`, "m").exec(status)?.[1].replaceAll("\t", " "))
      .join(" | ");
  });
}

function refuses(read: () => unknown, code: string, line: RegExp): void {
  assert.throws(read, (error) => {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.code, code);
    assert.match(error.line, line);
    return true;
  });
}

describe("the option --user", () => {
  it("takes names and numbers, and the user's own group unless another is given", (t) => {
    const rig = new ServeRig();
    t.after(() => rig.close());
    const [passwd, group] = [rig.path("passwd"), rig.path("group")];
    writeFileSync(passwd, "root:x:0:0::/:/\nvsock:x:107:110:a user:/:/\n");
    writeFileSync(group, "kvm:x:36:\n");
    const read = (text: string) => {
      const { uid, gid } = readUser({ text, place: "--user" }, passwd, group);
      return [uid, gid];
    };
    assert.deepEqual(read("vsock"), [107, 110]);
    assert.deepEqual(read("107"), [107, 110]);
    assert.deepEqual(read("vsock:kvm"), [107, 36]);
    assert.deepEqual(read("5000:5001"), [5000, 5001]);
    refuses(() => read("vsokc"), "user-unknown", /^--user: there is no user "vsokc" in /);
    refuses(() => read("5000"), "value-malformed", /give 5000:GROUP$/);
    refuses(() => read("root"), "value-malformed", /^--user: root is not a user to give privileges up for/);
    refuses(() => read("vsock:nope"), "group-unknown", /^--user: there is no group "nope"/);
  });
});

describe("bit33 serve --user", { timeout: SERVE_TIMEOUT_MS }, () => {
  const isRoot = process.getuid?.() === 0;

  it("says that it takes root, and leaves nothing behind", async (t) => {
    const rig = new ServeRig();
    t.after(() => rig.close());
    chmodSync(rig.directory, 0o777);
    const argv = ["serve", "--vm", rig.vmOption(3), "--user", `${NOBODY - 1}:${NOBODY}`];
    const { status, complaint } = await (isRoot ? runAs(NOBODY, ...argv) : run(...argv));
    assert.equal(status, 2);
    assert.match(
      complaint,
      /^bit33: --user: cannot become 65533:65534 \(.*\); start as root, or leave it out\n$/,
    );
    assert.deepEqual(readdirSync(rig.directory), []);
    // Who runs the tests as somebody else shall know that the rest is not tried.
    if (!isRoot) t.diagnostic("becoming another user takes root: run this file as root, too");
  });
  if (!isRoot) return;

  const cases = [
    { isolate: "thread", name: "becomes that user with every thread" },
    { isolate: "process", name: "becomes that user with every process" },
  ];
  for (const { isolate, name } of cases) {
    it(name, async (t) => {
      const rig = new ServeRig();
      t.after(() => rig.close());
      // So that the sockets' directory can be searched by whoever the devices are.
      chmodSync(rig.directory, 0o755);
      const user = ["--user", `${NOBODY}:${NOBODY}`, "--control", rig.path("control"), "--isolate", isolate];
      await rig.start([3], ...user, "--metrics", "127.0.0.1:0");
      const { url } = await rig.logged("metrics-served");
      await rig.logged("control-served");
      const id = `${NOBODY} ${NOBODY} ${NOBODY} ${NOBODY}`;
      const pids = [rig.pid];
      const { reports } = JSON.parse((await rig.ctl("stats", "--json")).output);
      if (isolate === "process") pids.push(reports[0].process.pid);
      for (const pid of pids) {
        for (const identity of identities(pid)) assert.equal(identity, `${id} | ${id} | ${NOBODY}`);
        assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^NoNewPrivs:\s*1$/m);
        assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^CapEff:\s*0+$/m);
      }
      assert.equal((await fetch(String(url))).status, 200);
      assert.deepEqual(await rig.stop(), [0, null]);
    });
  }
});
