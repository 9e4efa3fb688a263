/**
 * Before the process of one VM's device (`process-entry.ts`) begins: gives up what that process does not need, and then
 * becomes it. Landlock confines the calling thread and what that executes, and node has other threads before its first
 * line runs; after execve(2) every thread is a child of the confined one.
 *
 * Nothing is read from node's channel here: the main process says nothing until the real entry has said that it is there.
 */
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { confineThread } from "../linux/landlock.js";
import { bindingPackages, programFiles } from "../linux/native-files.js";
import { replaceProcess } from "../linux/replace-process.js";
import { CHANNEL_FD, type ConfinedStart, FIRST_INHERITED_FD } from "./process-messages.js";

/** Our own modules, and packages with the file that says what they are. */
function modules(): string[] {
  const ours = dirname(dirname(fileURLToPath(import.meta.url)));
  return [ours, fileURLToPath(new URL("../../../package.json", import.meta.url)), bindingPackages()];
}

/** What node itself looks at: modules that some distributions keep outside of it, its own limits and descriptors. */
const NODE_READS = ["/etc/ld.so.cache", "/etc/ssl", "/usr/share/nodejs", "/proc/self"];

const { tcpPorts, descriptors } = JSON.parse(process.argv[2] ?? "") as ConfinedStart;
confineThread({
  readable: [...modules(), ...NODE_READS],
  executable: [process.execPath, ...programFiles()],
  writable: ["/dev/null"],
  tcpPorts,
});
replaceProcess(
  process.execPath,
  [...process.execArgv, fileURLToPath(new URL("./process-entry.js", import.meta.url))],
  { ...process.env, NODE_CHANNEL_FD: String(CHANNEL_FD) },
  [CHANNEL_FD, ...Array.from({ length: descriptors }, (_, index) => FIRST_INHERITED_FD + index)],
);
