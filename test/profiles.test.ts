/** Profiles as the package ships and documents them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { BUILTIN_NAMES } from "../src/profiles/builtin.js";
import { PROFILE_KINDS } from "../src/profiles/profile.js";
import { readProfile, writeProfile } from "../src/profiles/schema/index.js";
import { EXAMPLE_PROFILE } from "./pages.js";
import { root } from "./vm/paths.js";

it("the package holds every built-in profile, and the example", () => {
  const output = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [{ files }] = JSON.parse(output) as [{ files: { path: string }[] }];
  const packed = new Set(files.map(({ path }) => path));
  const wanted = PROFILE_KINDS.flatMap((kind) =>
    BUILTIN_NAMES[kind].map((name) => `profiles/${kind}/${name}.yaml`),
  );
  assert.deepEqual(
    [...wanted, EXAMPLE_PROFILE].filter((path) => !packed.has(path)),
    [],
  );
});

it("the example of docs/profiles.md is a profile, and what the page says of it holds", () => {
  const page = readFileSync(join(root, "docs/profiles.md"), "utf8");
  const [, example] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
  assert.equal(example, readFileSync(join(root, EXAMPLE_PROFILE), "utf8"));
  const profile = readProfile(example, EXAMPLE_PROFILE);
  assert.ok(profile.kind === "vmm");
  assert.equal(profile.offer.bit33, "if-protected");
  assert.equal(profile.acknowledge.bit33, "always");
  assert.ok(!profile.iotlb.serves);
  assert.deepStrictEqual(readProfile(writeProfile(profile), "written.yaml"), profile);
});
