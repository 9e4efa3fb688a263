/** A thread for tests: its guests' names say what becomes of a cell. */
import { setTimeout as sleep } from "node:timers/promises";
import { serveCells } from "./cell-thread.js";
import { cell } from "./cells.fixture.js";
import { cellName } from "./record.js";

serveCells(async (guest, vmm, device) => {
  const name = cellName({ guest: guest.name, vmm: vmm.name, device: device.name });
  switch (guest.name) {
    case "throws":
      throw new Error("the engine is wrong");
    case "exits":
      process.exit(7);
      break;
    case "hangs":
      for (;;);
    case "dies":
      setImmediate(() => {
        throw new Error("outside of any promise");
      });
      return new Promise(() => {});
    case "strange":
      return { ...cell(name, "works"), reason: (() => "a function") as unknown as string };
    case "slow-first":
      // The first cell takes longest, so that the threads finish out of order.
      await sleep(device.name === "device-0" ? 50 : 0);
  }
  return cell(name, "works");
});
