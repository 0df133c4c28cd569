import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { sync, TidingsError } from "../src/index.js";

const EMPTY = { chats: [], removed: [], updates: [], marks: [], users: [] };
const INVALID = [400, { error_type: "invalid_since", error_message: "ask without it" }];

const page = (next, more = false, parts = {}) => [200, { data: { ...EMPTY, ...parts, next, more } }];

/** A messaging service that gives these answers, one after the other. */
async function service(t, ...answers) {
  const asked = { queries: [], paths: [], tokens: [] };
  const server = createServer(({ url, headers }, response) => {
    const { pathname, searchParams } = new URL(url, "http://any");
    asked.paths.push(pathname);
    asked.queries.push(Object.fromEntries(searchParams));
    asked.tokens.push(headers.authorization);
    const [status, body] = answers.shift();
    if (status === 0) return; // never
    response.writeHead(status, status === 302 ? { location: "/elsewhere" } : {});
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  asked.url = `http://127.0.0.1:${server.address().port}`;
  return asked;
}

async function pages(asked, options = {}) {
  const shown = [];
  for await (const one of sync({ url: asked.url, token: "a.b.c", ...options })) shown.push(one);
  return shown;
}

const failure = (asked, options) =>
  pages(asked, options).then(
    () => assert.fail("it did not fail"),
    (error) => {
      assert.ok(error instanceof TidingsError, error);
      assert.equal(error.code, "sync");
      return error;
    },
  );

test("pages are followed to the last one", async (t) => {
  const asked = await service(t, page("t2", true, { updates: [{ update_id: 1 }] }), page("t3", false, { removed: ["c"] }));
  const [first, last] = await pages(asked, { since: "t1" });
  assert.deepEqual(first, { ...EMPTY, updates: [{ update_id: 1 }], next: "t2", more: true, whole: false });
  assert.deepEqual(last, { ...EMPTY, removed: ["c"], next: "t3", more: false, whole: false });
  assert.deepEqual(asked.queries, [{ since: "t1" }, { since: "t2" }]);
  assert.deepEqual(asked.paths, ["/v1.0/sync", "/v1.0/sync"]);
  assert.deepEqual(asked.tokens, ["Bearer a.b.c", "Bearer a.b.c"]);
});

test("without since the pages are the whole state", async (t) => {
  const asked = await service(t, page("t1", true), page("t2"));
  assert.deepEqual((await pages(asked, { preview: 3 })).map(({ whole }) => whole), [true, true]);
  assert.deepEqual(asked.queries, [{ preview: "3" }, { since: "t1" }]);
});

test("a since that the service does not know becomes the whole state", async (t) => {
  const asked = await service(t, INVALID, page("t1"));
  assert.deepEqual((await pages(asked, { since: "old" })).map(({ whole }) => whole), [true]);
  assert.deepEqual(asked.queries, [{ since: "old" }, { preview: "1" }]);
  const error = await failure(await service(t, INVALID, INVALID), { since: "old" });
  assert.equal(error.status, 400);
});

test("a token function is asked for each page", async (t) => {
  const asked = await service(t, page("t1", true), page("t2"));
  const tokens = ["one", "two"];
  await pages(asked, { token: async () => tokens.shift() });
  assert.deepEqual(asked.tokens, ["Bearer one", "Bearer two"]);
});

test("refusals say what the service said", async (t) => {
  const asked = await service(t, [401, { error_type: "unauthorized", error_message: "Unauthorized." }], [502, "<html>"]);
  const error = await failure(asked);
  assert.equal(error.status, 401);
  assert.match(error.message, /401 unauthorized Unauthorized\./);
  assert.equal((await failure(asked)).status, 502);
});

test("what is no page is refused", async (t) => {
  const bodies = ["", "{}", "[]", "null", '{"data":{}}', '{"data":{"next":1}}', "x"];
  const asked = await service(t, ...bodies.map((body) => [200, body]));
  for (const body of bodies) assert.match((await failure(asked)).message, /not that of a messaging service/, body);
});

test("a redirect is not followed with the token", async (t) => {
  const asked = await service(t, [302, ""], page("t1"));
  assert.equal((await failure(asked)).status, 0);
  assert.deepEqual(asked.paths, ["/v1.0/sync"]);
});

test("a service that does not get on is not asked for ever", async (t) => {
  await failure(await service(t, page("t1", true), page("t1", true)));
});

test("a service that is away is said to be", async () => {
  assert.equal((await failure({ url: "http://127.0.0.1:1" })).status, 0);
});

test("it ends with the reason of the signal", async (t) => {
  const asked = await service(t, [0]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 50);
  await assert.rejects(pages(asked, { signal: controller.signal }), /enough/);
});

test("an address that is none is refused at once, a path of one's own is kept", async (t) => {
  await assert.rejects(pages({ url: "ftp://a.example" }), TypeError);
  await assert.rejects(pages({ url: "nowhere" }), TypeError);
  const asked = await service(t, page("t1"));
  asked.url += "/api/messaging/v1.0/sync?tenant=1";
  await pages(asked, { since: "t0" });
  assert.deepEqual(asked.paths, ["/api/messaging/v1.0/sync"]);
  assert.deepEqual(asked.queries, [{ tenant: "1", since: "t0" }]);
});
