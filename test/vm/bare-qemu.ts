/**
 * QEMU as a shell command, for whoever plays its back-end: a guest that boots and loads its vsock driver, whose agent
 * waits on a serial port that never says anything. Must not know the back-end.
 */
import { join } from "node:path";
import { qemuProgram, readPrepared, vmFolder } from "./paths.js";

export interface BareMachine {
  /** Appended to the device's options. */
  readonly device?: string;
  /** Appended to the machine's options. */
  readonly machine?: string;
  /** More options of QEMU. */
  readonly more?: string;
  /** The kernel's command line. */
  readonly append?: string;
}

/** QEMU takes the shell's place, so that a signal to the shell is one to QEMU. */
export function bareQemu(
  socket: string,
  { device = "", machine = "", more = "", append = "" }: BareMachine,
): string {
  const kernel = readPrepared().kernels["6.12"];
  return [
    `exec ${qemuProgram} -accel tcg -cpu max -smp 1 -M q35,memory-backend=mem${machine} -m 256M`,
    "-object memory-backend-memfd,id=mem,size=256M,share=on -nodefaults -no-user-config -display none",
    `-serial null -serial null -no-reboot ${more} -chardev socket,id=vsock,path=${socket}`,
    `-device vhost-user-vsock-pci,chardev=vsock${device}`,
    `-kernel ${join(vmFolder, kernel.vmlinux)} -initrd ${join(vmFolder, kernel.initrd)}`,
    `-append 'console=ttyS0 panic=-1 quiet no_timer_check ${append}'`,
  ].join(" ");
}
