/**
 * Two guests in one process: what either sends to port 5678 of the host is sent on to port 1234 of both.
 *
 *   node examples/two-guests.js
 */
import { once } from "node:events";
import { createVsockDevice } from "bit33";

const guests = await Promise.all(
  [3, 4].map((guestCid) => createVsockDevice({ guestCid, socketPath: `vm${guestCid}.sock` })),
);
await Promise.all(guests.map((guest) => guest.whenUp()));

let heard = 0;
for (const sender of guests) {
  await sender.listen(5678, async (socket) => {
    try {
      const text = (await socket.toArray()).join("");
      console.log(`guest ${sender.guestCid} says: ${text}`);
      // prints guest 3 says: hello from the guest
      // prints guest 4 says: hello from the guest
      for (const receiver of guests) {
        const target = await receiver.connect(1234);
        target.resume().end(text);
        await once(target, "close");
      }
    } catch (error) {
      console.error(error.message);
      socket.destroy();
    }
    if (++heard === guests.length) await Promise.all(guests.map((guest) => guest.close()));
  });
}
