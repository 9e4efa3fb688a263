/**
 * A whole guest under a VMM, for cases about how a guest's DMA works rather than about one packet: the built-in driver
 * (src/guest) on a machine whose front-end follows a VMM profile (src/vmm). Must not know the device.
 */
import type { GuestConnection } from "../guest/connection.js";
import type { PlatformOptions } from "../guest/platform.js";
import { SystemCallError } from "../linux/errors.js";
import { signalEventfd } from "../linux/eventfd.js";
import { builtinVmm } from "../profiles/builtin.js";
import { VirtualMachine } from "../vmm/virtual-machine.js";
import { Shutdown } from "../vsock/header.js";
import type { CaseContext } from "./context.js";
import { noise } from "./exchange.js";
import { CaseFailed } from "./outcome.js";

export interface MachineOptions {
  readonly platform: PlatformOptions;
  /** The name of a VMM profile (`bit33 compat --list`); default qemu-7.2. */
  readonly vmm?: string;
  readonly queueSize?: number;
}

export interface Booted {
  readonly machine: VirtualMachine;
  /** The VMM dies, which no back-end can prevent. */
  off(): void;
}

/** Boots; it is switched off behind the case at the latest. */
export async function boot(context: CaseContext, options: MachineOptions): Promise<Booted> {
  const { platform, vmm = "qemu-7.2", queueSize } = options;
  let machine: VirtualMachine | undefined;
  await context.until(() => {
    machine = tryBoot(context, { platform, vmm, queueSize });
    return machine !== undefined;
  }, "the back-end takes a connection");
  if (machine === undefined) throw new Error("until holds");
  const running = machine;
  // The driver may have kicked before the back-end had enabled its rings: it is kicked once more behind that.
  running.frontEnd.session.getFeatures();
  for (const { kickFd } of running.driver.queues) signalEventfd(kickFd);
  let isOn = true;
  const off = (): void => {
    if (isOn) running.kill();
    isOn = false;
  };
  context.onClose(off);
  return { machine: running, off };
}

/** Undefined if nobody listens yet. Throws StartRefused if somebody does not want to. */
function tryBoot(
  context: CaseContext,
  { platform, vmm, queueSize }: { platform: PlatformOptions; vmm: string; queueSize: number | undefined },
): VirtualMachine | undefined {
  try {
    return new VirtualMachine({
      socketPath: context.target.socketPath,
      profile: builtinVmm(vmm),
      platform,
      ...(queueSize === undefined ? {} : { queueSize }),
      observer: (event) => {
        if (event.kind === "message")
          context.evidence.add("front-end", `${event.text} -> ${event.result ?? ""}`);
        if (event.kind === "question") context.evidence.add("back-end", `${event.text} -> ${event.answer}`);
      },
    });
  } catch (error) {
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
}

/** Waits for something of the guest's, and fails the case if its front-end or the promise does. */
export async function settled<T>(
  context: CaseContext,
  machine: VirtualMachine,
  promise: Promise<T>,
  what: string,
): Promise<T> {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  promise.then(
    (value) => {
      outcome = { value };
    },
    (error: unknown) => {
      outcome = { error };
    },
  );
  await context.until(() => {
    const { failure } = machine.frontEnd;
    if (failure !== undefined) throw new CaseFailed(`${what}: ${failure.message}`);
    return outcome !== undefined;
  }, what);
  if (outcome === undefined || "error" in outcome) throw new CaseFailed(`${what}: ${String(outcome?.error)}`);
  return outcome.value;
}

/** Moves data both ways over a connection of the guest's, and ends it. */
export async function assertMachineWorks(
  context: CaseContext,
  machine: VirtualMachine,
  bytes = 200_000,
): Promise<void> {
  const port = context.hostPort();
  const listener = await context.host.listen(port);
  const guest: GuestConnection = await settled(
    context,
    machine,
    machine.driver.connect(port),
    "the guest reaches the host",
  );
  const host = await listener.accept();
  const [toHost, toGuest] = [noise(bytes), noise(bytes)];
  host.write(toGuest);
  await settled(context, machine, guest.write(toHost), "the guest's data is taken");
  context.expect.sameBytes(await host.read(bytes), toHost, "the host gets what the guest sent");
  let got: Buffer = Buffer.alloc(0);
  while (got.length < bytes) {
    const piece = await settled(context, machine, guest.read(), "the host's data arrives");
    if (piece === undefined) break;
    got = Buffer.concat([got, piece]);
  }
  context.expect.sameBytes(got, toGuest, "the guest gets what the host sent");
  guest.shutdown(Shutdown.BOTH);
  host.end();
}
