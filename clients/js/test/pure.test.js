import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { ADVICE, adviceFor } from "../src/closing.js";
import { formatCursor, parseCursor, parseEntry } from "../src/cursor.js";
import { Intake } from "../src/intake.js";
import { backoff } from "../src/machine.js";
import { readExpiry } from "../src/token.js";
import { frame, makeToken } from "./fixtures/world.js";

const ROOM = { frames: 100, bytes: 1e6 };

test("a cursor is read and written", () => {
  assert.deepEqual(parseCursor("1:4,0:17"), new Map([[1, 4], [0, 17]]));
  assert.equal(formatCursor(parseCursor("1:4,0:17")), "1:4,0:17");
  assert.deepEqual(parseCursor(""), new Map());
});

test("an offset is exact up to 2^53, and beyond that refused", () => {
  assert.deepEqual(parseEntry("3:9007199254740991"), [3, 9007199254740991]);
  assert.equal(parseEntry("3:9007199254740992"), null);
  assert.equal(parseEntry("3:9223372036854775807"), null);
});

test("what is no cursor is not read", () => {
  for (const text of ["x", "1", "1:", ":1", "1:-1", "01:1", "1:01", "1:1,1:2", "1:1,", "1:1e3", " 1:1", null, undefined, 5, {}]) {
    assert.equal(parseCursor(text), null, String(text));
  }
});

const closing = new URL("../../../shared/tidings/closing.py", import.meta.url);
test("every close code of the gateway has its advice", { skip: !existsSync(closing) }, () => {
  const codes = [...readFileSync(closing, "utf8").matchAll(/^ {4}[A-Z_]+ = (\d{4})$/gm)].map(([, code]) => Number(code));
  assert.ok(codes.length > 5);
  assert.deepEqual(codes.filter((code) => !ADVICE.has(code)), []);
});

test("a code that nobody knows is a reason to wait", () => {
  assert.equal(adviceFor(1006), "backoff");
  assert.equal(adviceFor(4999), "backoff");
});

test("the end of a token is read, if it says one", () => {
  assert.equal(readExpiry(makeToken(1_700_000_000_000, 5_000, "ü?>")), 1_700_000_005_000);
  for (const text of ["", "a", "a.b.c", "a.e30.c", `a.${btoa("null")}.c`, `a.${btoa('{"exp":"5"}')}.c`]) {
    assert.equal(readExpiry(text), null, text);
  }
});

test("waits double up to half a minute, and any part of them may be waited", () => {
  assert.equal(backoff(0, () => 0), 0);
  assert.deepEqual([0, 1, 2, 6, 50, 5_000].map((attempt) => backoff(attempt, () => 1)), [500, 1_000, 2_000, 30_000, 30_000, 30_000]);
});

test("the place behind what was received is ahead of what was handed over", () => {
  const intake = new Intake(null, ROOM);
  assert.equal(intake.connecting(), null);
  intake.welcome("L", "0:5", false);
  assert.deepEqual(intake.position, { log: "L", cursor: "0:5" });
  intake.frame(frame("0:7"), 1);
  intake.checkpoint("0:9,1:3");
  assert.deepEqual(intake.connecting(), { log: "L", cursor: "0:9,1:3" });
  assert.deepEqual(intake.position, { log: "L", cursor: "0:5" });
  assert.equal(intake.next()?.event?.at, "0:7");
  assert.deepEqual(intake.position, { log: "L", cursor: "0:9,1:3" });
});

test("a repeat is dropped, each partition by itself", () => {
  const intake = new Intake({ log: "L", cursor: "0:5" }, ROOM);
  intake.connecting();
  intake.welcome("L", "0:5", true);
  for (const at of ["0:5", "0:6", "0:6", "1:1", "0:4", "1:2", "1:1"]) intake.frame(frame(at), 1);
  const got = [];
  for (let item = intake.next(); item; item = intake.next()) got.push(item.event?.at);
  assert.deepEqual(got, ["0:6", "1:1", "1:2"]);
});

test("what the program gave as its position is shown to the gateway, whatever it is", () => {
  const intake = new Intake({ log: "L", cursor: "nonsense" }, ROOM);
  assert.deepEqual(intake.connecting(), { log: "L", cursor: "nonsense" });
  intake.welcome("L", "0:9", false);
  assert.deepEqual(intake.position, { log: "L", cursor: "nonsense" });
  assert.throws(() => intake.frame(frame("0:10"), 1), /leads nowhere/); // the gap has not been told yet
  intake.resync("invalid", "L", "0:9");
  intake.frame(frame("0:10"), 1);
  assert.deepEqual(intake.position, { log: "L", cursor: "nonsense" });
  const item = intake.next();
  assert.equal(item?.resync?.reason, "invalid");
  assert.deepEqual(intake.position, { log: "L", cursor: "nonsense" });
  intake.finish(item);
  assert.deepEqual(intake.position, { log: "L", cursor: "0:9" });
});

test("between a refusal and its $resync no frame moves the cursor", () => {
  const intake = new Intake({ log: "L", cursor: "0:5" }, ROOM);
  intake.connecting();
  intake.welcome("L", "0:9", false);
  intake.checkpoint("0:9");
  assert.throws(() => intake.frame(frame("0:10"), 1), /leads nowhere/);
  assert.deepEqual(intake.connecting(), { log: "L", cursor: "0:5" });
});

test("a cursor of one log that is said to be resumed in another moves nothing", () => {
  for (const cursor of ["0:5", "nonsense"]) {
    const intake = new Intake({ log: "L", cursor }, ROOM);
    intake.connecting();
    assert.throws(() => intake.welcome("M", "0:5", true), { code: "protocol" });
    assert.deepEqual(intake.position, { log: "L", cursor });
    assert.deepEqual(intake.connecting(), { log: "L", cursor });
    intake.welcome("L", "0:5", true);
  }
});

test("an empty cursor is none", () => {
  const intake = new Intake({ log: "L", cursor: "" }, ROOM);
  assert.equal(intake.connecting(), null);
  intake.welcome("L", "0:9", false);
  intake.frame(frame("0:10"), 1);
  assert.equal(intake.next()?.event?.at, "0:10");
});

test("a $resync that nobody is through with is taken back with the connection", () => {
  const intake = new Intake({ log: "L", cursor: "0:1" }, ROOM);
  intake.connecting();
  intake.welcome("L", "0:1", true);
  intake.frame(frame("0:2"), 1);
  intake.resync("log_changed", "M", "0:0");
  intake.frame(frame("0:1"), 1);
  assert.equal(intake.disconnected(), null);
  assert.deepEqual(intake.connecting(), { log: "L", cursor: "0:2" });
  assert.equal(intake.next()?.event?.at, "0:2");
  intake.welcome("M", "0:1", false);
  intake.resync("log_changed", "M", "0:1");
  intake.checkpoint("0:5");
  const item = intake.next();
  assert.equal(intake.disconnected(), item);
  intake.finish(item); // too late
  assert.deepEqual(intake.position, { log: "L", cursor: "0:2" });
  assert.deepEqual(intake.connecting(), { log: "L", cursor: "0:2" });
  assert.equal(intake.next(), undefined);
});

test("a checkpoint behind a $resync counts with it", () => {
  const intake = new Intake({ log: "L", cursor: "0:1" }, ROOM);
  intake.connecting();
  intake.welcome("L", "0:1", true);
  intake.resync("budget", "L", "0:5");
  const item = intake.next();
  intake.checkpoint("0:8");
  assert.deepEqual(intake.position, { log: "L", cursor: "0:1" });
  intake.finish(item);
  assert.deepEqual(intake.position, { log: "L", cursor: "0:8" });
});
