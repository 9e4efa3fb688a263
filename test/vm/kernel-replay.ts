/**
 * Runs the scripts that the real kernel runs (kernel-guest.ts) on the model of a kernel device, and writes down its
 * results in the same words.
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { errno } from "../../src/linux/errors.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { createEventfd, drainEventfd, signalEventfd } from "../../src/linux/eventfd.js";
import { createMemfd } from "../../src/linux/mapping.js";
import { Timers } from "../../src/linux/timers.js";
import { type CidRegistry, KernelModel } from "../../src/peers/kernel-model.js";
import type { DeviceProfile } from "../../src/profiles/device-profile.js";
import type { KernelRequest, KernelResult } from "../../src/vhost/kernel/requests.js";
import {
  type KernelScript,
  type KernelStep,
  memoryOf,
  type ScriptMemory,
  type ScriptRequest,
  transcriptLine,
} from "./kernel-script.js";

/** More turns than any script needs; a device that never comes to rest is a mistake of ours. */
const MOST_TURNS = 1000;
const NO_CLOCK = () => 0;

/** Runs a script with fresh memory and fresh devices; returns each step with its result. */
export function replay(profile: DeviceProfile, script: KernelScript): string[] {
  const host = new ModelHost(profile, memoryOf(script));
  try {
    return script.steps.map((step) => transcriptLine(step, host.take(step)));
  } finally {
    host.close();
  }
}

interface OpenDevice {
  readonly model: KernelModel;
  /** By request name and ring. */
  readonly eventfds: Map<string, number>;
}

/** What is one machine in the guest: memory, context ids, devices. */
class ModelHost {
  readonly #profile: DeviceProfile;
  readonly #loop = new EventLoop(undefined, new Timers(NO_CLOCK));
  readonly #ranges: readonly ScriptMemory[];
  /** All ranges, one behind the other. */
  readonly #memory: number;
  readonly #cids: CidRegistry = new Map();
  readonly #devices = new Map<number, OpenDevice>();

  constructor(profile: DeviceProfile, ranges: readonly ScriptMemory[]) {
    this.#profile = profile;
    this.#ranges = ranges;
    this.#memory = createMemfd("kernel-script", Number(ranges.reduce((sum, { bytes }) => sum + bytes, 0n)));
  }

  take(step: KernelStep): string {
    switch (step.step) {
      case "open":
        return this.#open(step.device);
      case "close":
        return this.#close(step.device);
      case "ioctl":
        return resultText(
          this.#device(step.device).model.ioctl(this.#request(step.device, step.request)),
          step.request.name.includes("_GET_") && !step.request.name.includes("_SET_"),
        );
      case "write":
        return resultText(this.#device(step.device).model.write(step.message), false);
      case "questions":
        return this.#questions(step.device);
      case "poke":
        writeSync(this.#memory, step.bytes, 0, step.bytes.length, step.offset);
        return "ok";
      case "peek": {
        const bytes = Buffer.alloc(step.bytes);
        readSync(this.#memory, bytes, 0, step.bytes, step.offset);
        return `ok ${bytes.toString("hex")}`;
      }
      case "kick":
        signalEventfd(this.#eventfd(step.device, "VHOST_SET_VRING_KICK", step.ring));
        return "ok";
      case "settle":
        return this.#settle();
      case "signals": {
        const signalled = (name: string) => drainEventfd(this.#eventfd(step.device, name, step.ring)) > 0;
        const call = signalled("VHOST_SET_VRING_CALL");
        const err = signalled("VHOST_SET_VRING_ERR");
        return `ok${call ? " call" : ""}${err ? " err" : ""}`;
      }
    }
  }

  close(): void {
    for (const index of [...this.#devices.keys()]) this.#close(index);
    closeSync(this.#memory);
    this.#loop.close();
  }

  #open(index: number): string {
    this.#close(index);
    const model = new KernelModel({
      loop: this.#loop,
      profile: this.#profile,
      endpoints: { connect: () => -errno.ECONNREFUSED },
      cids: this.#cids,
    });
    this.#devices.set(index, { model, eventfds: new Map() });
    return "ok";
  }

  #close(index: number): string {
    const device = this.#devices.get(index);
    this.#devices.delete(index);
    device?.model.close();
    for (const fd of device?.eventfds.values() ?? []) closeSync(fd);
    return "ok";
  }

  #questions(device: number): string {
    const { model } = this.#device(device);
    const words = ["ok"];
    for (let message = model.read(); message !== undefined; message = model.read()) {
      words.push(`${message.type}:0x${message.iova.toString(16)}:${message.perm}`);
    }
    return words.join(" ");
  }

  #settle(): string {
    for (let turns = 0; this.#loop.turn(0); turns++) {
      if (turns === MOST_TURNS) throw new Error("the model never comes to rest");
    }
    return "ok";
  }

  #device(index: number): OpenDevice {
    const device = this.#devices.get(index);
    if (device === undefined) throw new Error(`the script has not opened device ${index}`);
    return device;
  }

  #eventfd(device: number, name: string, ring: number): number {
    const { eventfds } = this.#device(device);
    const key = `${name} ${ring}`;
    const fd = eventfds.get(key) ?? createEventfd();
    eventfds.set(key, fd);
    return fd;
  }

  /** With the descriptors that the script leaves out. */
  #request(device: number, request: ScriptRequest): KernelRequest {
    switch (request.name) {
      case "VHOST_SET_VRING_KICK":
      case "VHOST_SET_VRING_CALL":
      case "VHOST_SET_VRING_ERR": {
        const { name, index } = request;
        return { name, index, fd: request.fd === "none" ? -1 : this.#eventfd(device, name, index) };
      }
      case "VHOST_SET_MEM_TABLE": {
        const regions = request.regions.map((region) => ({
          ...region,
          fd: this.#memory,
          fileOffset: this.#fileOffset(region.userAddress),
        }));
        return { name: request.name, regions };
      }
      default:
        return request;
    }
  }

  /** Where a user address is in the file; anywhere, if the script has no memory there. */
  #fileOffset(userAddress: bigint): bigint {
    let before = 0n;
    for (const { address, bytes } of this.#ranges) {
      if (userAddress >= address && userAddress < address + bytes) return before + userAddress - address;
      before += bytes;
    }
    return 0n;
  }
}

function resultText(result: KernelResult, hasValue: boolean): string {
  if (!result.ok) return result.errno;
  return hasValue ? `ok 0x${result.value.toString(16)}` : "ok";
}
