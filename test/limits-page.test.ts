/** docs/limits.md names every limit of a VM, and each of them can be set. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { SETTING_KEYS, SETTINGS } from "../src/device/config/settings.js";
import { VM_LIMITS } from "../src/device/config/vm-config.js";
import { root } from "./vm/paths.js";

it("every number of a VM that has bounds is an option, and docs/limits.md tells its bounds", () => {
  const rows = readFileSync(join(root, "docs/limits.md"), "utf8").split("\n");
  for (const field of Object.keys(VM_LIMITS)) {
    const key = SETTING_KEYS.find((each) => SETTINGS[each].field === field);
    assert.ok(key !== undefined, `${field} cannot be set`);
    assert.ok(
      rows.some((row) => row.startsWith(`| \`--${key}\` |`)),
      `docs/limits.md does not tell of --${key}`,
    );
  }
});
