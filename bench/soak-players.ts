/**
 * The process of one VM of a soak: the guest and the host programs that talk to it. Plays scenes, a few at a time, one
 * after the other, as its parent orders.
 */
import { EndGone, NotInTime } from "./soak-ends.js";
import type { Tally, ToPlayers } from "./soak-messages.js";
import { CorruptStream } from "./soak-pattern.js";
import { Chance } from "./soak-random.js";
import { PROGRAMME, SCENES, type SceneName, Stage } from "./soak-scenes.js";
import { SoakVm } from "./soak-vm.js";

/** Scenes at a time. */
const TROUPES = 3;
/** Many times what any scene takes. */
const SCENE_PATIENCE_MS = 30_000;
const MOST_TROUBLES = 20;

class Players {
  restMs = 50;
  readonly #vm: SoakVm;
  readonly #seed: number;
  readonly #played: Partial<Record<SceneName, number>> = {};
  readonly #troubles: string[] = [];
  #troupes: readonly Promise<void>[] = [];
  /** Scenes wait here while nothing is to be under way. */
  #gate: Promise<void> = Promise.resolve();
  #openGate = (): void => {};
  #playing = 0;
  #isOver = false;
  #movedBytes = 0;
  #opened = 0;
  #reboots = 0;
  #cutOff = 0;
  #late = 0;
  #corrupt = 0;
  #failures = 0;

  constructor(vm: SoakVm, seed: number) {
    this.#vm = vm;
    this.#seed = seed;
  }

  async begin(): Promise<void> {
    await this.#vm.start();
    this.#troupes = Array.from({ length: TROUPES }, (_, index) =>
      this.#troupe(new Chance(this.#seed + index)),
    );
  }

  get tally(): Tally {
    return {
      played: this.#played,
      opened: this.#opened,
      movedBytes: this.#movedBytes,
      reboots: this.#reboots,
      cutOff: this.#cutOff,
      late: this.#late,
      corrupt: this.#corrupt,
      failures: this.#failures,
      troubles: this.#troubles,
    };
  }

  async hold(): Promise<void> {
    this.#gate = new Promise((resolve) => {
      this.#openGate = resolve;
    });
    while (this.#playing > 0) await pause(5);
    this.#vm.forgetHalves();
  }

  goOn(): void {
    this.#openGate();
  }

  async reboot({ orderly, newMachine, offMs }: Extract<ToPlayers, { do: "reboot" }>): Promise<void> {
    this.#reboots++;
    this.#vm.shutDown(orderly);
    await pause(offMs);
    this.#vm.boot(newMachine);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    this.goOn();
    await Promise.all(this.#troupes);
    this.#vm.close();
  }

  /** Scenes one after the other. */
  async #troupe(chance: Chance): Promise<void> {
    while (!this.#isOver) {
      await this.#gate;
      if (this.#isOver) return;
      if (this.#vm.isOn) {
        this.#playing++;
        await this.#play(chance, chance.pick(PROGRAMME));
        this.#playing--;
      }
      await pause(this.restMs * (0.5 + chance.fraction()));
    }
  }

  async #play(chance: Chance, name: SceneName): Promise<void> {
    const stage = new Stage(this.#vm, chance);
    const { generation } = this.#vm;
    const patience = new Patience();
    try {
      const scene = SCENES[name](stage);
      // Of a scene that is given up, nobody is interested in how it ends.
      scene.catch(() => {});
      await Promise.race([scene, this.#vm.departure, patience.over]);
      this.#played[name] = (this.#played[name] ?? 0) + 1;
    } catch (error) {
      this.#ended(name, error, this.#vm.generation !== generation);
    } finally {
      patience.stop();
      stage.clear();
      this.#movedBytes += stage.movedBytes;
      this.#opened += stage.opened;
    }
  }

  #ended(name: SceneName, error: unknown, byReboot: boolean): void {
    if (byReboot && error instanceof EndGone) {
      this.#cutOff++;
      return;
    }
    if (error instanceof CorruptStream) this.#corrupt++;
    else if (error instanceof NotInTime) this.#late++;
    else this.#failures++;
    if (this.#troubles.length === MOST_TROUBLES) return;
    this.#troubles.push(`${name}, ${Math.round(performance.now() / 1000)} s: ${String(error)}`);
  }
}

/** A timer as a promise that rejects. */
class Patience {
  readonly over: Promise<never>;
  #timer: NodeJS.Timeout | undefined;

  constructor() {
    this.over = new Promise((_, reject) => {
      const complain = (): void => reject(new Error(`not over after ${SCENE_PATIENCE_MS} ms`));
      this.#timer = setTimeout(complain, SCENE_PATIENCE_MS);
    });
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

let players: Players | undefined;

async function obey(order: ToPlayers): Promise<void> {
  if (order.do === "begin") {
    players = new Players(new SoakVm(order), order.seed);
    await players.begin();
    return;
  }
  if (players === undefined) throw new Error("nothing has begun");
  if (order.do === "report") players.restMs = order.restMs;
  else if (order.do === "hold") await players.hold();
  else if (order.do === "go-on") players.goOn();
  else if (order.do === "reboot") await players.reboot(order);
  else await players.end();
}

process.on("message", (order: ToPlayers) => {
  obey(order).then(
    () => process.send?.({ tally: players?.tally }),
    (error: Error) => process.send?.({ failed: error.stack ?? String(error) }),
  );
});
process.on("disconnect", () => process.exit());
