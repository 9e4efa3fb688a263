/** Everything that is fuzzed. */
import type { Target } from "../target.js";
import { files } from "./files.js";
import { handshake } from "./handshake.js";
import { packets } from "./packets.js";
import { rings } from "./rings.js";
import { vhost } from "./vhost.js";

export const TARGETS: readonly Target[] = [vhost, rings, packets, handshake, files];
