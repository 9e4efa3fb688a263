/**
 * A front-end as a program of its own, for observations: plays a built-in VMM profile with a built-in guest, connects,
 * and runs until it is ended. Says no on standard error, as a VMM does.
 *
 * Usage: player.js PROFILE GUEST SOCKET
 */
import { builtinGuest, builtinVmm } from "../../src/profiles/builtin.js";
import { StartRefused } from "../../src/vmm/player.js";
import { VirtualMachine } from "../../src/vmm/virtual-machine.js";

const [profileName, guestName, socketPath] = process.argv.slice(2);
const profile = builtinVmm(profileName);
const guest = builtinGuest(guestName);
// A guest that bounces its buffers does so on any machine.
const { protectedMemory } = guest.machine;
const machine = { ...guest.machine, protectedMemory: protectedMemory && profile.machine.protectedMemory };

try {
  const vm = new VirtualMachine({
    socketPath,
    profile,
    platform: { kind: guest.dma, unmapping: guest.unmapping },
    machine,
  });
  const watch = (): void => {
    if (vm.frontEnd.died) {
      process.stderr.write(`${vm.frontEnd.failure?.message ?? "it died"}\n`);
      process.exit(1);
    }
    setTimeout(watch, 10);
  };
  watch();
} catch (error) {
  if (!(error instanceof StartRefused)) throw error;
  process.stderr.write(`${profileName}: ${error.message}\n`);
  process.exit(1);
}
