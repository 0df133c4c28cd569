import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, TidingsError } from "../src/index.js";
import { frame, gather, makeToken, resync, settle, welcome, World } from "./fixtures/world.js";

/** A client whose first connection is open and has stood long enough to count as good. */
async function opened(options = {}, more = {}) {
  const world = new World();
  const client = world.client(options);
  const seen = { states: [], errors: [] };
  client.on("state", (change) => seen.states.push(change));
  client.on("error", (error) => seen.errors.push(error));
  await world.pass(0);
  world.socket.say(welcome(more));
  await world.pass(10_000);
  return { world, client, ...seen };
}

const ats = (events) => events.map((event) => event.at ?? event.type ?? event);

test("it connects with both subprotocols and without a cursor, and hands frames over in order", async () => {
  const { world, client, states } = await opened();
  const got = gather(client);
  assert.equal(world.socket.url.href, "ws://gateway.test/ws");
  assert.deepEqual(world.socket.protocols, ["tidings.v1", "bearer.token"]);
  world.socket.say(frame("0:11", { text: "Grüße" }), { type: "typing", data: { chat: 1 } }, frame("1:21"), { type: "$new", data: {} });
  await settle();
  assert.deepEqual(got, [frame("0:11", { text: "Grüße" }), { type: "typing", data: { chat: 1 } }, frame("1:21")]);
  assert.deepEqual(client.position, { log: "L", cursor: "0:11,1:21" });
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "open"]);
  assert.equal(client.state, "open");
});

test("after a loss it shows log and cursor, and repeats are dropped", async () => {
  const { world, client } = await opened();
  const got = gather(client);
  world.socket.say(frame("0:11"), { type: "$checkpoint", data: { cursor: "0:12,1:25" } });
  world.socket.end();
  await world.pass(500);
  assert.equal(world.socket.url.search, "?cursor=0%3A12%2C1%3A25&log=L");
  world.socket.say(welcome({ resumed: true, cursor: "0:12,1:25" }), frame("0:12"), frame("0:13"), frame("1:25"), frame("1:26"));
  await settle();
  assert.deepEqual(ats(got), ["0:11", "0:13", "1:26"]);
});

test("what was not handed over is not in the position", async () => {
  const { world, client } = await opened();
  world.socket.say(frame("0:11"), frame("0:12"), { type: "$checkpoint", data: { cursor: "0:15,1:20" } });
  assert.deepEqual(client.position, { log: "L", cursor: "0:10,1:20" });
  const loop = client[Symbol.asyncIterator]();
  await loop.next();
  assert.deepEqual(client.position, { log: "L", cursor: "0:11,1:20" });
  world.socket.end(); // what waits is not fetched again, nor lost
  await world.pass(500);
  assert.equal(world.socket.url.searchParams.get("cursor"), "0:15,1:20");
  assert.equal((await loop.next()).value.at, "0:12");
  assert.deepEqual(JSON.parse(JSON.stringify(client.position)), { log: "L", cursor: "0:15,1:20" });
});

test("a saved position is resumed from", async () => {
  const world = new World();
  world.client({ position: { log: "L", cursor: "0:3" } });
  await world.pass(0);
  assert.equal(world.socket.url.search, "?cursor=0%3A3&log=L");
});

test("waits grow while nothing answers, begin anew after a connection that held, and go round the addresses", async () => {
  const world = new World();
  const client = world.client({ url: undefined, urls: ["http://a.test", "https://b.test/gate?x=1"] });
  const waits = [];
  client.on("state", ({ waitMs }) => waitMs !== undefined && waits.push(waitMs));
  await world.pass(0);
  for (let number = 0; number < 8; number += 1) {
    world.socket.end();
    await world.pass(16_000);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000]);
  const hosts = world.sockets.map(({ url }) => url.href);
  assert.deepEqual(hosts.slice(0, 3), ["wss://b.test/gate?x=1", "ws://a.test/ws", "wss://b.test/gate?x=1"]);
  world.socket.say(welcome());
  await world.pass(9_000);
  world.socket.end(); // too short
  assert.equal(waits.at(-1), 15_000);
  await world.pass(15_000);
  world.socket.say(welcome());
  await world.pass(10_000);
  world.socket.end();
  assert.equal(waits.at(-1), 250);
});

test("a connection that never came to be is tried again soon, whatever code the socket has for it", async () => {
  for (const code of [1002, 1006, 4002]) {
    const world = new World();
    const client = world.client();
    const states = [];
    client.on("state", (change) => states.push(change));
    await world.pass(0);
    world.socket.refuse(code, "Received network error or non-101 status code.");
    assert.deepEqual([states.at(-1).state, states.at(-1).code, states.at(-1).waitMs], ["waiting", 1006, 250]);
  }
});

test("1001: to the next address when $drain said", async () => {
  const { world, states } = await opened({ url: undefined, urls: ["ws://a.test", "ws://b.test"] });
  const first = world.socket.url.host;
  world.socket.say({ type: "$drain", data: { reconnect_after_ms: 700 } });
  world.socket.end(1001, "the node drains");
  assert.equal(states.at(-1).waitMs, 700);
  await world.pass(699);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.notEqual(world.socket.url.host, first);
});

test("a node that drains before its $welcome: to the next address when it said", async () => {
  let asked = 0;
  const world = new World();
  const client = world.client({ url: undefined, urls: ["ws://a.test", "ws://b.test"], token: () => `token-${(asked += 1)}` });
  const seen = [];
  client.on("state", ({ waitMs }) => waitMs !== undefined && seen.push(waitMs));
  client.on("error", (error) => seen.push(error));
  await world.pass(0);
  for (let number = 0; number < 4; number += 1) {
    const { host } = world.socket.url;
    world.socket.say({ type: "$drain", data: { reconnect_after_ms: 10_000 } });
    assert.equal(client.state, "connecting");
    world.socket.end(1001, "the node drains");
    await world.pass(9_999);
    assert.equal(world.sockets.length, number + 1);
    await world.pass(1);
    assert.notEqual(world.socket.url.host, host);
  }
  assert.deepEqual(seen, [10_000, 10_000, 10_000, 10_000]);
  assert.equal(asked, 1); // who says so has taken the token
});

test("an $error before $welcome is told, and is no end", async () => {
  let asked = 0;
  const world = new World();
  const client = world.client({ token: () => makeToken(world.unixMs, 600_000, String((asked += 1))) });
  const errors = [];
  client.on("error", (error) => errors.push([error.code, error.message]));
  await world.pass(0);
  world.socket.say({ type: "$error", data: { reason: "frames are text" } });
  assert.deepEqual(errors, [["refused", "the gateway says: frames are text"]]);
  await world.pass(5_000);
  world.socket.say(welcome({ heartbeat_s: 0 }));
  await world.pass(5_000);
  assert.deepEqual([world.sockets.length, client.state, asked], [1, "open", 1]);
});

test("a $drain that does not say when is told, and no reason to stay away for ever", async () => {
  for (const reconnect_after_ms of [undefined, "soon", -1, 1e9]) {
    const { world, states } = await opened();
    world.socket.say({ type: "$drain", data: { reconnect_after_ms } });
    world.socket.end(1001);
    assert.ok(states.at(-1).waitMs <= 120_000, String(reconnect_after_ms));
    await world.pass(states.at(-1).waitMs);
    assert.equal(world.sockets.length, 2);
  }
});

test("1001, 4008 and 4011: at once, but not over and over", async () => {
  for (const code of [1001, 4008, 4011]) {
    const { world, states } = await opened();
    world.socket.end(code);
    assert.equal(states.at(-1).waitMs, 0);
    await world.pass(0);
    assert.equal(world.sockets.length, 2);
    world.socket.say(welcome({ resumed: true }));
    world.socket.end(code);
    assert.ok(states.at(-1).waitMs > 0);
  }
});

test("4002: an error that ends the loop, behind what came before", async () => {
  const { world, client, states, errors } = await opened();
  world.socket.say(frame("0:11"));
  world.socket.end(4002, "bye");
  const got = gather(client);
  await world.pass(1e7);
  assert.equal(got.length, 2);
  assert.equal(got[0].at, "0:11");
  assert.ok(got[1] instanceof TidingsError);
  assert.deepEqual([got[1].code, got[1].fatal, got[1].closeCode], ["disconnected", true, 4002]);
  assert.equal(states.at(-1).error, got[1]);
  assert.deepEqual(errors, [got[1]]);
  assert.equal(client.state, "closed");
  assert.equal(world.sockets.length, 1);
  assert.equal(world.timers, 0);
});

test("1002, 1003, 1007, 1008 and 1009: after a minute, and the program is told; even if the network comes back", async () => {
  for (const code of [1002, 1003, 1007, 1008, 1009]) {
    const { world, errors, states } = await opened();
    world.socket.end(code, "why");
    assert.deepEqual(errors.map((error) => [error.code, error.fatal, error.closeCode]), [["closed", false, code]]);
    assert.equal(states.at(-1).waitMs, 75_000);
    world.network.dispatchEvent(new Event("online"));
    await world.pass(74_999);
    assert.equal(world.sockets.length, 1);
    await world.pass(1);
    assert.equal(world.sockets.length, 2);
  }
});

test("4001: a new token, then at once; a token given as text can't be renewed", async () => {
  let asked = 0;
  const { world } = await opened({ token: () => `token-${(asked += 1)}` });
  world.socket.end(4001, "token ended");
  await world.pass(0);
  assert.deepEqual(world.socket.protocols, ["tidings.v1", "bearer.token-2"]);
  const fixed = await opened();
  const got = gather(fixed.client);
  fixed.world.socket.end(4001, "token ended");
  await fixed.world.pass(1e6);
  assert.equal(got[0].code, "token_ended");
  assert.equal(fixed.world.sockets.length, 1);
});

test("a token is kept over losses, and asked for again after three connections that never came to be", async () => {
  let asked = 0;
  const { world } = await opened({ token: () => `token-${(asked += 1)}` });
  for (let number = 0; number < 3; number += 1) {
    world.socket.end();
    await world.pass(16_000);
    assert.equal(asked, 1);
  }
  world.socket.end(); // the first of these four had been open
  await world.pass(16_000);
  assert.equal(asked, 2);
  assert.equal(world.socket.protocols[1], "bearer.token-2");
});

test("a token that ends is renewed on the open connection", async () => {
  let asked = 0;
  const world = new World();
  world.client({ token: async () => makeToken(world.unixMs, 600_000, String((asked += 1))) });
  await world.pass(0);
  world.socket.say(welcome({ heartbeat_s: 0 }));
  await world.pass(539_000);
  assert.equal(asked, 1);
  await world.pass(2_000);
  assert.equal(asked, 2);
  assert.equal(world.socket.sent.length, 1);
  assert.equal(world.socket.sent[0].type, "$token");
  assert.match(world.socket.sent[0].data.token, /sig-2$/);
  await world.pass(541_000);
  assert.equal(asked, 3);
  assert.equal(world.sockets.length, 1);
});

test("a token function that fails, hangs or gives the old one is asked again", async () => {
  let asked = 0;
  const world = new World();
  const first = makeToken(world.unixMs, 600_000, "1");
  const answers = [first, Promise.reject(new Error("down")), new Promise(() => {}), "", first, makeToken(world.unixMs, 900_000, "2")];
  answers[1].catch(() => {});
  const client = world.client({ token: () => answers[(asked += 1) - 1] });
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  await world.pass(0);
  world.socket.say(welcome({ heartbeat_s: 0 }));
  await world.pass(599_000);
  assert.equal(asked, 6);
  assert.equal(errors.length, 4);
  assert.match(errors[0], /down/);
  assert.match(errors[1], /within 30000 ms/);
  assert.match(errors[2], /gave no token/);
  assert.match(errors[3], /not last longer/);
  assert.deepEqual(world.socket.sent.map(({ data }) => data.token), [answers[5]]);
  assert.equal(world.sockets.length, 1);
});

test("a token function that fails before the first connection is asked again, with waits", async () => {
  let asked = 0;
  const world = new World();
  world.client({
    token: () => {
      asked += 1;
      if (asked < 3) throw new Error("down");
      return "token";
    },
  });
  await world.pass(0);
  assert.equal(asked, 1);
  await world.pass(2_000);
  assert.equal(asked, 3);
  assert.equal(world.sockets.length, 1);
});

test("a $token that the gateway does not take is followed by another, even by one that ends earlier", async () => {
  let asked = 0;
  const world = new World();
  const lives = [600_000, 6e9, 600_000];
  const client = world.client({ token: () => makeToken(world.unixMs, lives[(asked += 1) - 1], String(asked)) });
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  await world.pass(0);
  world.socket.say(welcome({ heartbeat_s: 0 }));
  await world.pass(541_000);
  world.socket.say({ type: "$error", data: { reason: "$token: no" } });
  await world.pass(5_000);
  assert.equal(world.socket.sent.length, 2);
  assert.deepEqual(errors, ["refused"]);
});

test("a token that no header can carry is no end of the client", async () => {
  let asked = 0;
  const world = new World();
  const client = world.client({ token: () => ["with space", "good"][(asked += 1) - 1] });
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  await world.pass(500);
  assert.deepEqual(errors, ["socket"]);
  assert.equal(world.socket.protocols[1], "bearer.good");
});

test("silence of two heartbeats and five seconds is death; any frame is life", async () => {
  const { world, client } = await opened();
  gather(client);
  await world.pass(44_000);
  world.socket.say({ type: "$checkpoint", data: { cursor: "0:11,1:20" } });
  await world.pass(54_000);
  assert.equal(world.socket.closedWith, null);
  await world.pass(1_300);
  assert.equal(world.sockets.length, 2);
  assert.deepEqual(world.sockets[0].closedWith, [1000, "nothing heard"]);
  world.sockets[0].say(frame("0:12")); // what the dead one still says is nobody's
  world.sockets[0].end(1006);
  world.socket.say(welcome({ resumed: true }));
  await settle();
  assert.deepEqual(client.position, { log: "L", cursor: "0:11,1:20" });
  assert.equal(client.state, "open");
});

test("an attempt without $welcome is given up", async () => {
  const world = new World();
  world.client();
  await world.pass(20_300);
  assert.equal(world.sockets.length, 2);
  assert.deepEqual(world.sockets[0].closedWith, [1000, "no answer"]);
});

test("an error without a close event is an end, too", async () => {
  const world = new World();
  world.client();
  await world.pass(0);
  world.socket.fail();
  await world.pass(500);
  assert.equal(world.sockets.length, 2);
});

test("the network is back: at once, from a wait and from a connection that may be dead", async () => {
  const { world } = await opened();
  world.random = () => 0.99;
  world.socket.end();
  world.network.dispatchEvent(new Event("online"));
  assert.equal(world.sockets.length, 2);
  world.socket.say(welcome({ resumed: true }));
  world.network.dispatchEvent(new Event("online"));
  assert.equal(world.sockets.length, 3);
  assert.deepEqual(world.sockets[1].closedWith, [1000, "network changed"]);
});

test("frames that are none: told, and connected again with the cursor", async () => {
  for (const say of [
    (socket) => socket.dispatchEvent(new MessageEvent("message", { data: "{" })),
    (socket) => socket.say(null),
    (socket) => socket.say({ data: 1 }),
    (socket) => socket.say(frame("x:1")),
    (socket) => socket.say(frame("0:9007199254740993")),
    (socket) => socket.say({ type: "$checkpoint", data: { cursor: "?" } }),
    (socket) => socket.say(welcome()),
  ]) {
    const { world, errors, client } = await opened();
    say(world.socket);
    assert.deepEqual(errors.map(({ code }) => code), ["protocol"]);
    assert.equal(client.state, "waiting");
    await world.pass(500);
    assert.equal(world.socket.url.searchParams.get("cursor"), "0:10,1:20");
  }
});

test("a gateway that resumes in another log than the one that was given is left with the position as it was", async () => {
  const world = new World();
  const position = { log: "L", cursor: "0:10,1:20" };
  const client = world.client({ position });
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  await world.pass(0);
  world.socket.say(welcome({ log: "M", resumed: true }), frame("0:11"));
  assert.deepEqual([errors, client.state, client.position], [["protocol"], "waiting", position]);
  await world.pass(500);
  assert.equal(world.socket.url.search, "?cursor=0%3A10%2C1%3A20&log=L");
});

test("a gateway that does not speak tidings.v1 is left", async () => {
  const world = new World();
  const client = world.client();
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  await world.pass(0);
  world.socket.say({ type: "update", data: 1 });
  assert.deepEqual(errors, ["the first frame is update, not $welcome"]);
});

test("too much waits: closed, and resumed when most of it is taken; nothing is lost and nothing comes twice", async () => {
  const { world, client, states } = await opened({ bufferFrames: 8 });
  const loop = client[Symbol.asyncIterator]();
  for (let offset = 11; offset <= 30; offset += 1) world.socket.say(frame(`0:${offset}`));
  assert.equal(client.state, "paused");
  assert.deepEqual(world.socket.closedWith, [1000, "behind"]);
  world.socket.end(1000);
  await world.pass(1e6);
  assert.equal(world.sockets.length, 1);
  const got = [];
  for (let number = 0; number < 6; number += 1) got.push((await loop.next()).value.at);
  assert.equal(world.sockets.length, 1);
  got.push((await loop.next()).value.at);
  await settle();
  assert.equal(world.sockets.length, 2);
  assert.equal(world.socket.url.searchParams.get("cursor"), "0:19,1:20");
  world.socket.say(welcome({ resumed: true }), frame("0:20"));
  for (let number = 0; number < 3; number += 1) got.push((await loop.next()).value.at);
  assert.deepEqual(got, Array.from({ length: 10 }, (_, index) => `0:${index + 11}`));
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "open", "paused", "connecting", "open"]);
});

test("bytes count, too, and a frame that is bigger than all of the room still comes through", async () => {
  const { world, client } = await opened({ bufferBytes: 1_000 });
  world.socket.say(frame("0:11", "x".repeat(10_000)));
  assert.equal(client.state, "paused");
  const got = gather(client);
  await world.pass(0);
  assert.equal(got.length, 1);
  assert.equal(world.sockets.length, 2);
});

test("$resync: frames behind it wait for the callback, those before it do not", async () => {
  const calls = [];
  const { world, client } = await opened({ onResync: (asked) => new Promise((resolve) => calls.push({ ...asked, resolve })) });
  const got = gather(client);
  world.socket.say(frame("0:11"), resync("0:50,1:20", "log_changed", "M"), frame("0:51"));
  await settle();
  assert.deepEqual(ats(got), ["0:11"]);
  assert.deepEqual([calls[0].reason, calls[0].cursor, calls[0].log], ["log_changed", "0:50,1:20", "M"]);
  assert.deepEqual(client.position, { log: "L", cursor: "0:11,1:20" });
  calls[0].resolve();
  await settle();
  assert.deepEqual(ats(got), ["0:11", "0:51"]);
  assert.deepEqual(client.position, { log: "M", cursor: "0:51,1:20" });
});

test("$resync: a callback that rejects is called again", async () => {
  let calls = 0;
  const { world, client, errors } = await opened({
    onResync: async () => {
      calls += 1;
      if (calls < 3) throw new Error("no network");
    },
  });
  const got = gather(client);
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await settle();
  assert.deepEqual([calls, got.length], [1, 0]);
  await world.pass(1_000);
  assert.deepEqual([calls, ats(got)], [3, ["0:51"]]);
  assert.deepEqual(errors.map(({ code }) => code), ["resync", "resync"]);
});

test("$resync: lost during the callback, it is called again for the gap that is told then", async () => {
  const calls = [];
  const { world, client } = await opened({ onResync: (asked) => new Promise((resolve) => calls.push({ ...asked, resolve })) });
  const got = gather(client);
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await settle();
  world.socket.end();
  await world.pass(500);
  assert.equal(calls[0].signal.aborted, true);
  assert.equal(world.socket.url.searchParams.get("cursor"), "0:10,1:20");
  world.socket.say(welcome({ cursor: "0:60,1:20" }), resync("0:60,1:20"), frame("0:61"));
  await settle();
  assert.deepEqual(calls.map(({ cursor }) => cursor), ["0:50,1:20", "0:60,1:20"]);
  assert.deepEqual(got, []);
  calls[0].resolve(); // too late: it does not count
  await settle();
  assert.deepEqual([got, client.position], [[], { log: "L", cursor: "0:10,1:20" }]);
  calls[1].resolve();
  await settle();
  assert.deepEqual(ats(got), ["0:61"]);
  assert.deepEqual(client.position, { log: "L", cursor: "0:61,1:20" });
});

test("$resync: the network changes during the callback; that is a loss, too", async () => {
  const calls = [];
  const { world, client } = await opened({ onResync: (asked) => new Promise(() => calls.push(asked)) });
  gather(client);
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await settle();
  world.network.dispatchEvent(new Event("online"));
  assert.equal(calls[0].signal.aborted, true);
  assert.equal(world.socket.url.searchParams.get("cursor"), "0:10,1:20");
});

test("$resync: too much comes during the callback; it is not called again for that", async () => {
  const calls = [];
  const { world, client } = await opened({
    bufferFrames: 2,
    onResync: (asked) => new Promise((resolve) => calls.push({ ...asked, resolve })),
  });
  const got = gather(client);
  world.socket.say(resync("0:50,1:20", "expired", "M"), frame("0:51"));
  await settle();
  world.socket.say(frame("0:52"), frame("0:53"), frame("0:54"));
  assert.equal(client.state, "paused");
  await world.pass(1e6);
  assert.equal(calls[0].signal.aborted, false);
  assert.equal(world.sockets.length, 1);
  calls[0].resolve();
  await settle();
  assert.equal(world.socket.url.search, "?cursor=0%3A53%2C1%3A20&log=M");
  world.socket.say(welcome({ resumed: true, log: "M" }), frame("0:54"));
  await settle();
  assert.deepEqual(ats(got), ["0:51", "0:52", "0:53", "0:54"]);
  assert.equal(calls.length, 1);
});

test("$resync without a callback is an event, and counts when the loop comes back for more", async () => {
  const { world, client } = await opened();
  const loop = client[Symbol.asyncIterator]();
  world.socket.say(resync("0:50,1:25", "expired", "M"), frame("0:51"));
  assert.deepEqual((await loop.next()).value, { type: "$resync", data: { reason: "expired", log: "M", cursor: "0:50,1:25" } });
  assert.deepEqual(client.position, { log: "L", cursor: "0:10,1:20" });
  assert.equal((await loop.next()).value.at, "0:51");
  assert.deepEqual(client.position, { log: "M", cursor: "0:51,1:25" });
});

test("$resync: a loop that is left while it works on it gets it again", async () => {
  const { world, client } = await opened();
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await assert.rejects(async () => {
    for await (const event of client) throw new Error(event.type);
  }, /\$resync/);
  assert.deepEqual(client.position, { log: "L", cursor: "0:10,1:20" });
  const got = gather(client);
  await settle();
  assert.deepEqual(ats(got), ["$resync", "0:51"]);
});

test("$resync: an event that the connection took back does not count", async () => {
  const { world, client } = await opened();
  const loop = client[Symbol.asyncIterator]();
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await loop.next();
  world.socket.end();
  await world.pass(500);
  const more = loop.next();
  await settle();
  assert.deepEqual(client.position, { log: "L", cursor: "0:10,1:20" });
  assert.equal(world.socket.url.searchParams.get("cursor"), "0:10,1:20");
  world.socket.say(welcome({ resumed: true }), frame("0:11")); // it can be resumed after all
  assert.equal((await more).value.at, "0:11");
});

test("an invalid position: the callback, then what is new", async () => {
  const world = new World();
  const calls = [];
  const client = world.client({ position: { log: "L", cursor: "nonsense" }, onResync: (asked) => void calls.push(asked.reason) });
  const got = gather(client);
  await world.pass(0);
  assert.equal(world.socket.url.searchParams.get("cursor"), "nonsense");
  world.socket.say(welcome(), resync("0:10,1:20", "invalid"), frame("0:11"));
  await settle();
  assert.deepEqual([calls, ats(got)], [["invalid"], ["0:11"]]);
});

test("listeners get one event at a time; one that fails is told and goes on", async () => {
  const { world, client, errors } = await opened();
  const log = [];
  client.on("event", async (event) => {
    log.push(`begin ${event.at}`);
    await settle();
    log.push(`end ${event.at}`);
    if (event.at === "0:11") throw new Error("oh");
  });
  world.socket.say(frame("0:11"), frame("0:12"));
  for (let round = 0; round < 10; round += 1) await settle();
  assert.deepEqual(log, ["begin 0:11", "end 0:11", "begin 0:12", "end 0:12"]);
  assert.deepEqual(errors.map(({ code }) => code), ["listener"]);
  assert.throws(() => client[Symbol.asyncIterator](), /listeners/);
});

test("listeners without a resync listener get the $resync, again if they fail", async () => {
  let calls = 0;
  const { world, client } = await opened();
  const got = [];
  client.on("event", (event) => {
    if (event.type === "$resync" && (calls += 1) === 1) throw new Error("oh");
    got.push(event);
  });
  world.socket.say(resync("0:50,1:20"), frame("0:51"));
  await world.pass(500);
  assert.deepEqual([calls, ats(got)], [2, ["$resync", "0:51"]]);
});

test("close: loops end, what waits is dropped, no timer and no listener stays", async () => {
  const { world, client, states } = await opened();
  const got = gather(client);
  await settle();
  const again = assert.rejects(async () => client[Symbol.asyncIterator]().next(), /one consumer/);
  await again;
  client.close();
  client.close();
  await settle();
  assert.deepEqual(world.socket.closedWith, [1000, ""]);
  assert.deepEqual(got, []);
  assert.equal(world.timers, 0);
  assert.deepEqual(await client[Symbol.asyncIterator]().next(), { done: true, value: undefined });
  world.socket.say(frame("0:11"));
  world.network.dispatchEvent(new Event("online"));
  await world.pass(1e6);
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "open", "closed"]);
});

test("closed before it began, and from within a listener, it makes no connection", async () => {
  const world = new World();
  world.client().close();
  const other = world.client();
  other.on("state", ({ state }) => state === "connecting" && other.close());
  await world.pass(1e6);
  assert.equal(world.sockets.filter(({ closedWith }) => !closedWith).length, 0);
  assert.equal(world.timers, 0);
});

test("what is wrong with the options is said at once", () => {
  const { WebSocket } = new World();
  const good = { url: "ws://a.test", token: "t", WebSocket };
  for (const [bad, message] of [
    [{ url: undefined }, /url or urls/],
    [{ url: "ftp://a.test" }, /no address of a gateway/],
    [{ url: "here" }, /Invalid URL/],
    [{ token: undefined }, /token is needed/],
    [{ token: "" }, /token is needed/],
    [{ position: "0:1" }, /position is what/],
  ]) {
    assert.throws(() => connect({ ...good, ...bad }), message);
  }
});
