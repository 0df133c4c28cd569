// With Node's own WebSocket and a real server; real time, so no more than what only a real socket can show.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/index.js";
import { Gateway } from "./fixtures/gateway.js";
import { makeToken } from "./fixtures/world.js";

const major = Number(process.versions.node.split(".")[0]);
assert.equal(typeof WebSocket, "function", "run with --experimental-websocket on Node 20");

/** A client with what it gets; both ends are closed when the test is over. */
async function pair(context, options = {}) {
  const gateway = await new Gateway().start();
  const client = connect({ url: gateway.url, token: "token", ...options });
  const got = [];
  const states = [];
  client.on("state", (change) => states.push(change));
  client.on("event", ({ data }) => got.push(data));
  client.on("error", (error) => states.push(error));
  context.after(async () => {
    client.close();
    await gateway.stop();
  });
  return { gateway, client, got, states };
}

async function until(condition) {
  for (const start = Date.now(); !condition(); await new Promise((resolve) => setTimeout(resolve, 10))) {
    assert.ok(Date.now() - start < 10_000, `not within 10 s: ${condition}`);
  }
}

test("only a Node that has no WebSocket by itself is asked for one", () => {
  assert.equal(process.execArgv.includes("--experimental-websocket"), major < 22);
});

test("frames come over a real socket, and closing is orderly", async (context) => {
  const { gateway, client, got } = await pair(context);
  await until(() => client.state === "open");
  assert.deepEqual(gateway.requests[0].protocols, ["tidings.v1", "bearer.token"]);
  gateway.put({ text: "Grüße 🐦" });
  gateway.put("x".repeat(20_000));
  await until(() => got.length === 2);
  assert.deepEqual(got[0], { text: "Grüße 🐦" });
  client.close();
  await until(() => gateway.received.length);
  assert.equal(gateway.received[0].code, 1000);
});

test("a gateway that crashes and comes back: everything once", async (context) => {
  const { gateway, client, got, states } = await pair(context);
  await until(() => client.state === "open");
  gateway.put(0);
  await until(() => got.length === 1);
  const { port } = gateway;
  await gateway.stop();
  await until(() => states.filter(({ state }) => state === "waiting").length >= 2); // also a refused connection
  for (let number = 1; number < 50; number += 1) gateway.put(number);
  await gateway.start(port);
  await until(() => got.length >= 50);
  gateway.put(50);
  await until(() => got.length >= 51);
  assert.deepEqual(got, Array.from({ length: 51 }, (_, number) => number));
  assert.deepEqual(client.position, { log: "L", cursor: "0:51" });
});

test("a refused handshake is no end", async (context) => {
  const { gateway, client } = await pair(context);
  gateway.refuse = 503;
  await until(() => gateway.requests.length === 2);
  gateway.refuse = 0;
  await until(() => client.state === "open");
});

test("close codes are seen: 4001 gets a new token, 4002 ends it", async (context) => {
  let asked = 0;
  const { gateway, client, states } = await pair(context, { token: async () => `token-${(asked += 1)}` });
  await until(() => client.state === "open");
  gateway.end(4001, "token ended");
  await until(() => gateway.requests.length === 2);
  assert.equal(gateway.requests[1].protocols[1], "bearer.token-2");
  await until(() => client.state === "open");
  gateway.end(4002, "bye");
  await until(() => client.state === "closed");
  assert.equal(states.at(-1).closeCode, 4002);
});

test("silence is noticed", async (context) => {
  const gateway = await new Gateway().start();
  gateway.heartbeat = 0.05;
  const client = connect({ url: gateway.url, token: "token" });
  context.after(async () => {
    client.close();
    await gateway.stop();
  });
  await until(() => gateway.requests.length === 2);
  assert.equal(gateway.received.find(({ opcode }) => opcode === 8).text.slice(2), "nothing heard");
});

test("a token is renewed over the open socket", async (context) => {
  const { gateway } = await pair(context, { token: () => makeToken(Date.now(), 1_600 + 2_000 * gateway.received.length) });
  await until(() => gateway.received.length);
  assert.equal(JSON.parse(gateway.received[0].text).type, "$token");
  assert.equal(gateway.requests.length, 1);
});
