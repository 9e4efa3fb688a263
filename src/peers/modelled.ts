/** The model in a device profile, or the mistake of whoever asks for one. */
import type { DeviceProfile, ModelledDevice } from "../profiles/device-profile.js";

/** Throws where the profile is of this project's own device, which plays itself. */
export function modelOf({ name, behaviour }: DeviceProfile): ModelledDevice {
  if (behaviour.engine !== "model") throw new TypeError(`device ${name} is no model: it plays itself`);
  return behaviour;
}
