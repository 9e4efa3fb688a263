// A case of one's own for `bit33 conform --cases examples/conformance-cases.mjs`; see docs/conformance/.
import { exchange, join, vhostUser } from "bit33/conformance";

export default [
  {
    id: "mine.pause",
    title: "a connection survives a pause of the device",
    rule: vhostUser("Ring states", "a stopped ring is taken up again where it was"),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ features: ["EVENT_IDX"] });
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      guest.resume(guest.stop());
      await exchange(context, joined);
    },
  },
];
