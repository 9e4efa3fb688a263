/**
 * Boots each kind of guest once and runs the whole list of checks in it. BIT33_VM_ONLY=<name, or part of one> picks kinds,
 * BIT33_VM_CHECK=<part of a name> picks checks; docs/testing.md says how to look at a failure.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checks } from "./checks.js";
import { eventsOf, negotiation } from "./events.js";
import { inspection, isInspected } from "./interposer.js";
import { type GuestKind, guestKinds } from "./kinds.js";
import { Lab } from "./lab.js";
import { messageChecks } from "./messages.js";
import { whatIsMissing } from "./paths.js";

const missing = whatIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm prepares the guests`);

function chosen<T extends { name: string }>(all: T[], variable: string): T[] {
  const part = process.env[variable];
  if (part === undefined) return all;
  const exact = all.filter((each) => each.name === part);
  const some = exact.length > 0 ? exact : all.filter((each) => each.name.includes(part));
  if (some.length === 0)
    throw new Error(`${variable}=${part} is in no name: ${all.map((each) => each.name).join("; ")}`);
  return some;
}

function checksOf(kind: GuestKind) {
  return [
    { name: "negotiates what it should", run: negotiation },
    ...eventsOf(kind),
    ...messageChecks(kind),
    ...checks,
    ...(isInspected(kind) ? [inspection] : []),
  ];
}

for (const kind of chosen(guestKinds, "BIT33_VM_ONLY")) {
  test(`guest: ${kind.name}`, async (t) => {
    const lab = await Lab.start(kind);
    let failed = false;
    try {
      for (const check of chosen(checksOf(kind), "BIT33_VM_CHECK")) {
        await t.test(check.name, async () => {
          try {
            await lab.alive(check.run(lab));
          } catch (error) {
            failed = true;
            throw error;
          } finally {
            lab.host.closeAll();
          }
        });
      }
      if (failed) writeFileSync(join(lab.logFolder, "dmesg.log"), (await lab.saveKernelLog()).join("\n"));
    } finally {
      const end = await lab.stop();
      if (failed) console.error(`${lab.logs()}\n(all of it in ${lab.logFolder})`);
      assert.equal(end, "exit status 0", "the device ends cleanly on SIGTERM");
    }
  });
}
