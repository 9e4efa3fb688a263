/**
 * The notation of `--vm`: `guest-cid=3,socket=/run/vm3.sock,uds-path=/run/vm3.vsock,groups=a+b`.
 * Must not know what the keys mean; it hands each pair on with its place.
 * vhost-device-vsock cuts a value at a second `=` and lets the last of two equal keys win; we keep the whole
 * value and refuse the repetition. A comma cannot be written in a value, there as here.
 */

import { ConfigError } from "../config/errors.js";
import { quoted } from "../config/quoted.js";
import { readSettingKey, type VmSettings, VmSettingsBuilder } from "../device/config/settings.js";

/** @param ordinal which `--vm` of the command line this is, counted from 1 */
export function parseVmOption(text: string, ordinal: number): VmSettings {
  const place = `--vm #${ordinal}`;
  const settings = new VmSettingsBuilder(place);
  for (const pair of text.trim().split(",")) {
    const equalsIndex = pair.indexOf("=");
    if (equalsIndex === -1) {
      throw new ConfigError(
        "value-malformed",
        place,
        `${quoted(pair)} is not KEY=VALUE; join pairs with single commas, and use --config for a path with a comma`,
      );
    }
    const key = pair.slice(0, equalsIndex);
    const value = pair.slice(equalsIndex + 1);
    settings.add(readSettingKey(key, place), place, { text: value, place: `${place} (${key})` });
  }
  return settings;
}
