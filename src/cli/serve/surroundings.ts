/**
 * What `bit33 serve` offers beside its devices: metrics and the control socket. Their addresses are claimed before a
 * device starts, so that a mistake is told at once, and nothing is left behind if something fails.
 */
import type { VmConfig } from "../../device/config/vm-config.js";
import type { RunningDevice } from "../../device/device.js";
import type { Logger } from "../../log/logger.js";
import type { ServeRequest } from "../serve-options.js";
import { packageVersion } from "../version.js";
import type { ControlServer, ControlSocket } from "./control-server.js";
import type { MetricsServer } from "./metrics-server.js";

export class Surroundings {
  readonly #controlSocket: ControlSocket | undefined;
  #device: RunningDevice | undefined;
  #metrics: MetricsServer | undefined;
  #control: ControlServer | undefined;

  private constructor(controlSocket: ControlSocket | undefined) {
    this.#controlSocket = controlSocket;
  }

  /** Rejects with `StartError` if an address cannot be had. What is not asked for is not loaded either. */
  static async prepare(request: ServeRequest): Promise<Surroundings> {
    const { control, metrics } = request;
    const controlSocket =
      control === undefined ? undefined : new (await import("./control-server.js")).ControlSocket(control);
    const surroundings = new Surroundings(controlSocket);
    try {
      if (metrics !== undefined) {
        const { serveMetrics } = await import("./metrics-server.js");
        const { EXPOSITION_TYPE } = await import("../../device/metrics/exposition.js");
        const page = { contentType: EXPOSITION_TYPE, make: () => surroundings.#page() };
        surroundings.#metrics = await serveMetrics(metrics, page);
      }
    } catch (error) {
      await surroundings.close();
      throw error;
    }
    return surroundings;
  }

  /** The devices serve: whoever asks is answered from now on. */
  async start(device: RunningDevice, log: Logger, added: (config: VmConfig) => void): Promise<void> {
    this.#device = device;
    if (this.#metrics !== undefined) {
      const { url } = this.#metrics;
      log.log({ event: "metrics-served", message: "metrics are served", fields: { url } });
    }
    if (this.#controlSocket === undefined) return;
    this.#control = await this.#controlSocket.serve(device, log, added);
    const path = this.#controlSocket.path;
    log.log({ event: "control-served", message: "the control socket is served", fields: { path } });
  }

  async #page(): Promise<string> {
    const { metricsPage } = await import("../../device/metrics/exposition.js");
    const { processFigures } = await import("../../device/metrics/process-figures.js");
    const { descriptorLimit } = await import("../../linux/descriptor-limit.js");
    const program = {
      version: packageVersion(),
      process: processFigures(),
      descriptorLimit: descriptorLimit(),
      startedAtMs: performance.timeOrigin,
    };
    return metricsPage(program, (await this.#device?.reports()) ?? []);
  }

  /** May be called more than once. */
  async close(): Promise<void> {
    const [metrics, control] = [this.#metrics, this.#control];
    this.#metrics = undefined;
    this.#control = undefined;
    if (control === undefined) this.#controlSocket?.release();
    await Promise.all([metrics?.close(), control?.close()]);
  }
}
