import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { closeDescriptor } from "./close.js";
import { duplicate } from "./duplicate.js";
import { EPOLLET, EPOLLHUP, EPOLLIN } from "./epoll.js";
import { errno } from "./errors.js";
import { EventLoop } from "./event-loop.js";
import { createEventfd, drainEventfd, signalEventfd } from "./eventfd.js";
import { Timers } from "./timers.js";
import { peekByte, sendText, socketPair } from "./unix-socket.js";

let loop: EventLoop;
let nowMs: number;
let fds: number[];

beforeEach(() => {
  nowMs = 0;
  fds = [];
  loop = new EventLoop(undefined, new Timers(() => nowMs));
});

afterEach(() => {
  for (const fd of fds) closeSync(fd);
  loop.close();
});

function eventfd(): number {
  const fd = createEventfd();
  fds.push(fd);
  return fd;
}

describe("the event loop", () => {
  it("calls the handler of a descriptor that is ready, each turn until it is drained", () => {
    const fd = eventfd();
    let calls = 0;
    loop.watch(fd, EPOLLIN, { onEvents: () => calls++ });
    loop.turn(0);
    assert.equal(calls, 0);
    signalEventfd(fd);
    loop.turn(0);
    loop.turn(0);
    assert.equal(calls, 2);
    assert.equal(drainEventfd(fd), 8);
    assert.equal(drainEventfd(fd), -errno.EAGAIN);
    loop.turn(0);
    assert.equal(calls, 2);
  });

  it("reports each signal of an eventfd once, edge-triggered, although nobody reads it", () => {
    const fd = eventfd();
    let calls = 0;
    loop.watch(fd, EPOLLIN | EPOLLET, { onEvents: () => calls++ });
    for (let index = 0; index < 5; index++) {
      signalEventfd(fd);
      loop.turn(0);
      loop.turn(0);
    }
    assert.equal(calls, 5);
  });

  it("does not call a handler that another one removed in the same turn", () => {
    const both = [eventfd(), eventfd()];
    const called: number[] = [];
    const tokens = both.map((fd, index) =>
      loop.watch(fd, EPOLLIN, {
        onEvents: () => {
          called.push(index);
          loop.unwatch(both[1 - index], tokens[1 - index]);
        },
      }),
    );
    for (const fd of both) signalEventfd(fd);
    loop.turn(0);
    assert.equal(called.length, 1);
  });

  it("does not take a stale event for one of the descriptor that got the same slot", () => {
    const [first, second, third] = [eventfd(), eventfd(), eventfd()];
    const tokens = new Map<number, number>();
    let fresh = 0;
    let replaced = false;
    const replace = (other: number) => () => {
      if (replaced) return;
      replaced = true;
      loop.unwatch(other, tokens.get(other) ?? 0);
      loop.watch(third, EPOLLIN, { onEvents: () => fresh++ });
    };
    tokens.set(first, loop.watch(first, EPOLLIN, { onEvents: replace(second) }));
    tokens.set(second, loop.watch(second, EPOLLIN, { onEvents: replace(first) }));
    signalEventfd(first);
    signalEventfd(second);
    loop.turn(0);
    assert.equal(replaced, true);
    assert.equal(fresh, 0);
  });

  it("can watch and unwatch with one slot any number of times", () => {
    const fd = eventfd();
    for (let index = 0; index < 3000; index++) loop.unwatch(fd, loop.watch(fd, EPOLLIN, { onEvents() {} }));
    let calls = 0;
    loop.watch(fd, EPOLLIN, { onEvents: () => calls++ });
    signalEventfd(fd);
    loop.turn(0);
    assert.equal(calls, 1);
  });

  it("tells the handler that a descriptor was redirected to, and the one before no more", () => {
    const fd = eventfd();
    const told: string[] = [];
    const token = loop.watch(fd, EPOLLIN | EPOLLET, {
      onEvents() {
        told.push("first");
        loop.redirect(token, { onEvents: () => told.push("second") });
      },
    });
    signalEventfd(fd);
    loop.turn(0);
    loop.turn(0);
    assert.deepEqual(told, ["first"]);
    signalEventfd(fd);
    loop.turn(0);
    assert.deepEqual(told, ["first", "second"]);
    loop.unwatch(fd, token);
    signalEventfd(fd);
    loop.turn(0);
    assert.equal(told.length, 2);
  });

  it("closes a descriptor at the end of the turn, after the work that follows the events", () => {
    const [ours, theirs] = socketPair();
    fds.push(theirs);
    const said: string[] = [];
    const token = loop.watch(ours, EPOLLIN | EPOLLET, {
      onEvents() {
        said.push("event");
        loop.unwatchAndClose(ours, token);
      },
    });
    loop.afterEvents(() => said.push(`after: ${peekByte(theirs)}`));
    sendText(theirs, "x");
    loop.turn(0);
    assert.deepEqual(said, ["event", `after: ${-errno.EAGAIN}`]);
    // Not read, hence a reset.
    assert.equal(peekByte(theirs), -errno.ECONNRESET);
  });

  it("closes what is left to close when it is closed itself", () => {
    const own = new EventLoop();
    const [ours, theirs] = socketPair();
    fds.push(theirs);
    own.unwatchAndClose(ours, own.watch(ours, EPOLLIN | EPOLLET, { onEvents() {} }));
    own.close();
    assert.equal(peekByte(theirs), 0);
  });

  it("drops the events of a descriptor that another handler closed in the same turn", () => {
    const both = [createEventfd(), createEventfd()];
    const called: number[] = [];
    let fresh = 0;
    const tokens = both.map((fd, index) =>
      loop.watch(fd, EPOLLIN | EPOLLET, {
        onEvents: () => {
          called.push(index);
          loop.unwatchAndClose(both[1 - index], tokens[1 - index]);
          // Takes the slot that has just become free.
          const next = eventfd();
          assert.equal(loop.watch(next, EPOLLIN, { onEvents: () => fresh++ }), tokens[1 - index]);
        },
      }),
    );
    for (const fd of both) signalEventfd(fd);
    loop.turn(0);
    assert.equal(called.length, 1);
    assert.equal(fresh, 0);
    for (const fd of fds) signalEventfd(fd);
    loop.unwatchAndClose(both[called[0]], tokens[called[0]]);
    loop.turn(0);
    assert.equal(fresh, 1);
  });

  it("drops the events of a closed descriptor that somebody else still holds", () => {
    const fd = createEventfd();
    const other = duplicate(fd);
    fds.push(other);
    let stale = 0;
    let fresh = 0;
    const token = loop.watch(fd, EPOLLIN | EPOLLET, { onEvents: () => stale++ });
    loop.unwatchAndClose(fd, token);
    loop.turn(0);
    const next = eventfd();
    assert.equal(next, fd);
    assert.equal(loop.watch(next, EPOLLIN | EPOLLET, { onEvents: () => fresh++ }), token);
    signalEventfd(other);
    loop.turn(0);
    assert.deepEqual([stale, fresh], [0, 0]);
    signalEventfd(next);
    loop.turn(0);
    assert.deepEqual([stale, fresh], [0, 1]);
  });

  it("takes the closing of what is not open for the mistake that it is", () => {
    const fd = createEventfd();
    closeDescriptor(fd);
    assert.throws(() => closeDescriptor(fd), { code: "EBADF" });
  });

  it("changes what a descriptor is watched for, and reports a hang-up unasked", () => {
    const [ours, theirs] = socketPair();
    fds.push(ours);
    const seen: number[] = [];
    const token = loop.watch(ours, 0, { onEvents: (events) => seen.push(events) });
    loop.turn(0);
    assert.deepEqual(seen, []);
    closeSync(theirs);
    loop.turn(0);
    assert.equal(seen[0], EPOLLHUP);
    loop.modify(ours, EPOLLIN, token);
    loop.turn(0);
    assert.equal(seen[1], EPOLLHUP | EPOLLIN);
  });

  it("refuses to watch what cannot be watched, and reuses the slot", () => {
    const fd = eventfd();
    assert.throws(() => loop.watch(-1, EPOLLIN, { onEvents() {} }), { code: "EBADF" });
    assert.equal(loop.tryWatch(-1, EPOLLIN, { onEvents() {} }), -errno.EBADF);
    loop.watch(fd, EPOLLIN, { onEvents() {} });
    assert.equal(loop.tryWatch(fd, EPOLLIN, { onEvents() {} }), -errno.EEXIST);
  });

  it("does the work after events once a turn, in order, after timers, also when some of it removes itself", () => {
    const done: string[] = [];
    const once = () => {
      done.push("once");
      loop.removeAfterEvents(once);
    };
    const always = () => done.push("always");
    loop.afterEvents(once);
    loop.afterEvents(always);
    loop.setTimer(0, () => done.push("timer"));
    loop.turn(0);
    loop.turn(0);
    assert.deepEqual(done, ["timer", "once", "always", "always"]);
    loop.removeAfterEvents(() => {});
    loop.removeAfterEvents(always);
    loop.turn(0);
    assert.equal(done.length, 4);
  });

  it("does not wait when a turn was requested, and waits again after it", () => {
    let turns = 0;
    loop.afterEvents(() => {
      if (++turns < 3) loop.requestTurn();
      else loop.stop();
    });
    // Without the requests the first wait would have no end.
    loop.requestTurn();
    loop.run(() => {});
    assert.equal(turns, 3);
  });

  it("runs until it is stopped, and tells of each wake-up from outside", () => {
    signalEventfd(loop.wakeFd);
    let wakes = 0;
    loop.run(() => {
      wakes++;
      loop.stop();
    });
    assert.equal(wakes, 1);
    // The loop has drained it, and no longer watches it.
    assert.equal(drainEventfd(loop.wakeFd), -errno.EAGAIN);
  });

  it("tells whether anything happened: an event, a timer that was due, or a turn that somebody asked for", () => {
    const fd = eventfd();
    const token = loop.watch(fd, EPOLLIN | EPOLLET, { onEvents() {} });
    assert.equal(loop.turn(0), false);
    signalEventfd(fd);
    assert.equal(loop.turn(0), true);
    assert.equal(loop.turn(0), false);
    loop.setTimer(5, () => {});
    assert.equal(loop.turn(0), false);
    nowMs = 5;
    assert.equal(loop.turn(0), true);
    loop.requestTurn();
    assert.equal(loop.turn(0), true);
    let asks = 1;
    loop.afterEvents(() => {
      if (asks-- > 0) loop.requestTurn();
    });
    assert.deepEqual([loop.turn(0), loop.turn(0), loop.turn(0)], [true, true, false]);
    loop.unwatch(fd, token);
  });
});
