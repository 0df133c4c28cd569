// Random lives of a client against a naive gateway: whatever happens, the program has every record once and in order,
// or was told to refetch; and what it saves is never ahead of what it has.

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseCursor } from "../src/cursor.js";
import { Machine } from "../src/machine.js";

const PARTITIONS = 3;
const LIVES = 200;
const STEPS = 300;

/** Reproducible random numbers from 0 up to 1. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Life {
  constructor(seed) {
    this.random = generator(seed);
    this.now = 0;
    this.epoch = 0;
    this.topic = Array.from({ length: PARTITIONS }, () => []); // per offset: whether it is the user's
    this.have = null; // { log, next: offset per partition }
    this.saved = null;
    this.working = null;
    this.counts = { frames: 0, resyncs: 0, taken: 0, crashes: 0, pauses: 0, repeats: 0 };
    this.begin();
  }

  get log() {
    return `L${this.epoch}`;
  }

  chance(share) {
    return this.random() < share;
  }

  ends() {
    return this.topic.map((records) => records.length);
  }

  cursor(next) {
    return next.map((offset, partition) => `${partition}:${offset}`).join(",");
  }

  begin() {
    this.machine = new Machine({
      urls: ["ws://a.test/ws", "ws://b.test/ws"],
      token: "t",
      position: this.saved && JSON.parse(JSON.stringify(this.saved)),
      buffer: { frames: 6, bytes: 1e9 },
      random: this.random,
    });
    this.connection = null;
    this.working = null;
    this.machine.start(this.now);
    this.obey();
  }

  obey() {
    for (let commands = this.machine.take(); commands.length; commands = this.machine.take()) {
      for (const command of commands) {
        if (command.do === "open") this.accept(new URL(command.url).searchParams);
        if (command.do === "close") this.connection = null;
        if (command.do === "error") throw command.error;
        if (command.do === "state") this.counts.pauses += command.change.state === "paused";
        if (command.do === "abandon") {
          assert.equal(command.item, this.working);
          this.working = null;
          this.counts.taken += 1;
        }
      }
    }
  }

  say(type, data, at) {
    this.machine.message(this.now, JSON.stringify({ type, data, ...(at && { at }) }));
    this.obey();
  }

  // The gateway

  accept(query) {
    this.connection = { query, next: null };
  }

  greet() {
    const { connection } = this;
    const given = connection.query.get("cursor");
    const resumed = given !== null && connection.query.get("log") === this.log && this.chance(0.8);
    const ends = this.ends();
    connection.next = resumed ? ends.map((_, partition) => parseCursor(given).get(partition) ?? 0) : ends;
    if (given === null) this.have = { log: this.log, next: [...ends] };
    const cursor = resumed ? given : this.cursor(ends);
    this.say("$welcome", { session: "s", node: "n", log: this.log, cursor, resumed, heartbeat_s: 0 });
    if (given !== null && !resumed && this.connection === connection && this.chance(0.95)) this.resync("expired");
    else if (given !== null && !resumed) this.end(); // cut off right between the two
  }

  resync(reason) {
    if (!this.connection) return;
    this.connection.next = this.ends();
    this.say("$resync", { reason, log: this.log, cursor: this.cursor(this.ends()) });
  }

  send() {
    const { connection } = this;
    const partition = Math.floor(this.random() * PARTITIONS);
    const records = this.topic[partition];
    while (connection.next[partition] < records.length) {
      const offset = connection.next[partition];
      connection.next[partition] += 1;
      if (!records[offset]) continue;
      const frame = ["update", { log: this.log, partition, offset }, `${partition}:${offset + 1}`];
      this.say(...frame);
      if (this.chance(0.1) && this.connection === connection) {
        this.counts.repeats += 1;
        this.say(...frame);
      }
      return;
    }
  }

  end() {
    this.connection = null;
    const codes = [1001, 1006, 1011, 4008, 4011];
    this.machine.closed(this.now, codes[Math.floor(this.random() * codes.length)], "");
    this.obey();
  }

  changeLog() {
    // All nodes see a new topic; those who are connected are told.
    this.epoch += 1;
    this.topic = Array.from({ length: PARTITIONS }, () => [true]);
    if (this.connection?.next) this.resync("log_changed");
  }

  // The program

  take() {
    if (this.working) {
      if (!this.chance(0.5)) return;
      const { resync } = this.working;
      this.have = { log: resync.log, next: [0, 1, 2].map((partition) => resync.offsets.get(partition) ?? 0) };
      const done = this.working;
      this.working = null;
      this.machine.finish(this.now, done);
      this.counts.resyncs += 1;
    } else {
      const item = this.machine.next(this.now);
      if (item?.resync) {
        this.working = item;
      } else if (item) {
        const { log, partition, offset } = item.event.data;
        assert.equal(log, this.have.log);
        assert.ok(offset >= this.have.next[partition], `${partition}:${offset} again`);
        if (log === this.log) {
          const missed = this.topic[partition].slice(this.have.next[partition], offset).indexOf(true);
          assert.equal(missed, -1, `a record before ${partition}:${offset} is missing`);
        }
        this.have.next[partition] = offset + 1;
        this.counts.frames += 1;
      }
    }
    this.obey();
  }

  check() {
    const position = this.machine.intake.position;
    if (!position || !this.have) return;
    assert.equal(position.log, this.have.log);
    if (position.log !== this.log) return;
    for (const [partition, offset] of parseCursor(position.cursor)) {
      const missed = this.topic[partition].slice(this.have.next[partition], offset).indexOf(true);
      assert.equal(missed, -1, `the position ${position.cursor} is ahead of what the program has`);
    }
  }

  step() {
    this.now += this.random() * 500;
    this.machine.due(this.now);
    this.obey();
    if (this.chance(0.5)) this.topic[Math.floor(this.random() * PARTITIONS)].push(this.chance(0.6));
    if (this.connection && !this.connection.next && this.chance(0.5)) this.greet();
    for (let number = 0; number < 3 && this.connection?.next; number += 1) this.send();
    if (this.connection?.next && this.chance(0.1)) this.say("$checkpoint", { cursor: this.cursor(this.connection.next) });
    if (this.connection?.next && this.chance(0.02)) this.resync("budget");
    if (this.connection && this.chance(0.06)) this.end();
    if (this.chance(0.01)) this.changeLog();
    if (this.chance(0.75)) this.take();
    this.check();
    this.saved = this.machine.intake.position;
    if (this.chance(0.01)) {
      this.counts.crashes += 1;
      this.begin();
    }
  }

  /** Nothing bad happens any more: all that there is must come. */
  finish() {
    this.random = () => 0.5;
    for (let number = 0; number < 600; number += 1) {
      this.now += 30_000;
      this.machine.due(this.now);
      this.obey();
      if (this.connection && !this.connection.next) this.greet();
      for (let partition = 0; partition < PARTITIONS; partition += 1) {
        if (!this.connection?.next) break;
        this.random = () => (partition + 0.1) / PARTITIONS;
        this.send();
      }
      this.random = () => 0.4;
      this.take();
      this.check();
    }
    assert.equal(this.have.log, this.log);
    this.topic.forEach((records, partition) => {
      assert.equal(records.indexOf(true, this.have.next[partition]), -1, `records at the end of ${partition} are missing`);
    });
  }
}

test("random lives", () => {
  const sum = {};
  for (let seed = 1; seed <= LIVES; seed += 1) {
    const life = new Life(seed);
    try {
      for (let number = 0; number < STEPS; number += 1) life.step();
      life.finish();
    } catch (error) {
      error.message = `life ${seed}: ${error.message}`;
      throw error;
    }
    for (const [name, count] of Object.entries(life.counts)) sum[name] = (sum[name] ?? 0) + count;
  }
  // The lives were interesting.
  for (const [name, count] of Object.entries(sum)) assert.ok(count > LIVES / 4, `${name}: ${count}`);
});
