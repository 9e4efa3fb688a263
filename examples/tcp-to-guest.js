/**
 * Leads connections to a TCP port of the loopback interface to a port of the guest, with half-close and errors passed on.
 *
 *   node examples/tcp-to-guest.js [socket-path] [tcp-port] [guest-port]
 */
import { once } from "node:events";
import { createServer } from "node:net";
import { pipeline } from "node:stream/promises";
import { createVsockDevice } from "bit33";

const [socketPath = "vm3.sock", tcpPort = "0", guestPort = "1234"] = process.argv.slice(2);
const device = await createVsockDevice({ socketPath, guestCid: 3 });

const server = createServer({ allowHalfOpen: true }, async (client) => {
  client.on("error", () => {});
  try {
    const guest = await device.connect(Number(guestPort), { allowHalfOpen: true });
    await Promise.all([pipeline(client, guest), pipeline(guest, client)]);
  } catch (error) {
    console.error(error.message);
    client.destroy();
  }
});
server.listen(Number(tcpPort), "127.0.0.1");
await once(server, "listening");

// A client of its own, so that the example shows something: the guest echoes.
await device.whenUp();
const reply = await fetchEcho(server.address().port, "through TCP and vsock");
console.log(reply); // prints through TCP and vsock
server.close();
await device.close();

async function fetchEcho(port, text) {
  const { connect } = await import("node:net");
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.end(text);
  let received = "";
  for await (const chunk of socket) received += chunk;
  return received;
}
