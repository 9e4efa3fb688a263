/**
 * Serves HTTP to a guest: in the guest, `curl --vsock`-like clients, or any program that connects to CID 2, port 80.
 *
 *   node examples/http-server.js [socket-path]
 */
import { createServer } from "node:http";
import { createVsockDevice } from "bit33";

const device = await createVsockDevice({ socketPath: process.argv[2] ?? "vm3.sock", guestCid: 3 });

const server = createServer((request, response) => {
  response.setHeader("content-type", "text/plain");
  response.end(`hello, guest ${device.guestCid}: you asked for ${request.url}\n`);
  console.log(`${request.method} ${request.url}`); // prints GET /index.html
});
// An http.Server takes any socket that it is given as a connection.
await device.listen(80, (socket) => server.emit("connection", socket));

device.on("down", (reason) => {
  console.log("the guest is gone"); // prints the guest is gone
  console.error(reason);
  device.close();
});

await device.whenUp();
console.log("the guest is up"); // prints the guest is up
