/**
 * Somebody else's back-end as a program of its own, as a built-in device profile has it: serves one front-end after the
 * other until it is ended.
 *
 * Usage: modelled-back-end.js PROFILE SOCKET UDS-PATH CID
 */
import { EventLoop } from "../../src/linux/event-loop.js";
import { acceptUnix, listenUnix } from "../../src/linux/unix-socket.js";
import { BackendModel } from "../../src/peers/backend-model.js";
import { builtinDevice } from "../../src/profiles/builtin.js";
import { HybridEndpoints } from "../../src/vsock/hybrid-endpoints.js";

const [profileName, socketPath, udsPath, cid] = process.argv.slice(2);
const loop = new EventLoop();
const listener = listenUnix(socketPath);
const endpoints = new HybridEndpoints(udsPath);
const profile = builtinDevice(profileName);
loop.watch(listener, 1, {
  onEvents() {
    const fd = acceptUnix(listener);
    if (fd >= 0) new BackendModel({ loop, fd, profile, endpoints, guestCid: Number(cid) });
  },
});
process.stdout.write("listening\n");
loop.run(() => {});
