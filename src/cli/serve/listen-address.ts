/** Reads `host:port`, with an IPv6 address in brackets. Must not know what listens there. */
import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import type { Setting } from "../../device/config/values.js";
import type { ListenAddress } from "./metrics-server.js";

const LARGEST_PORT = 65535;

export function readListenAddress({ text, place }: Setting): ListenAddress {
  const match = /^(?:\[([\da-f:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/i.exec(text);
  if (match === null) {
    const problem = `${quoted(text)} is not HOST:PORT; give an address such as 127.0.0.1:9464 or [::1]:9464`;
    throw new ConfigError("value-malformed", place, problem);
  }
  const port = Number(match[3]);
  if (port > LARGEST_PORT) {
    const problem = `${port} is no port; the largest is ${LARGEST_PORT}`;
    throw new ConfigError("value-out-of-range", place, problem);
  }
  return { host: match[1] ?? match[2], port, text, place };
}
