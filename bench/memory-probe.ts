/**
 * What a further thread of node costs before it does anything: a process that starts so many, each of them empty or with
 * the modules of a device loaded, and says when they are there. It says so first when it
 * is there itself, and begins when it is told to.
 */
import { Worker } from "node:worker_threads";

const [kind, count] = process.argv.slice(2);
const modules = new URL("../src/device/vm-device.js", import.meta.url).href;
const loading = kind === "modules" ? `import(${JSON.stringify(modules)})` : "Promise.resolve()";
const script = `
  ${loading}.then(() => require("node:worker_threads").parentPort.postMessage("ready"));
  setInterval(() => {}, 1000);
`;

process.once("message", async () => {
  for (let i = 0; i < Number(count); i++) {
    const worker = new Worker(script, { eval: true });
    await new Promise((resolve) => worker.once("message", resolve));
  }
  process.send?.("ready");
});
process.once("disconnect", () => process.exit());
process.send?.("here");
