import { formatCursor, parseCursor, parseEntry } from "./cursor.js";
import { TidingsError } from "./errors.js";

/**
 * @typedef {import("./types.d.ts").Position} Position
 * @typedef {import("./types.d.ts").TidingsEvent} TidingsEvent
 *
 * @typedef {object} Place Where something stands in the log.
 * @property {string} log
 * @property {Map<number, number> | null} offsets null: what the program gave is no cursor; the gateway shall judge.
 * @property {string} given That text.
 *
 * @typedef {object} Item What waits for the consumer.
 * @property {number} bytes
 * @property {TidingsEvent | null} event null for a `$resync`.
 * @property {[partition: number, offset: number] | null} entry Of the frame; null if it is from `signals`.
 * @property {{ reason: string, log: string, cursor: string, offsets: Map<number, number> } | null} resync
 * @property {Map<number, number> | null} checkpoint One that came behind it.
 */

/**
 * What was received and what of it the consumer has, in order. No clock, no socket.
 *
 * Two places: `tail` is behind all that was received, and a reconnect goes on from there; `handed` is behind what the
 * consumer got, and is what a program may save. A `$resync` moves `handed` only when the consumer is through with it.
 */
export class Intake {
  /** @type {Item[]} */
  #items = [];
  #bytes = 0;
  /** @type {Place | null} */
  #tail;
  /** @type {Place | null} */
  #handed;
  /** @type {Item | null} A `$resync` that the consumer works on. */
  #pending = null;
  #gave = false;
  /** The gateway has refused our cursor and has not said yet where to go on. */
  #refused = false;
  #limits;

  /**
   * @param {Position | null} position
   * @param {{ frames: number, bytes: number }} limits
   */
  constructor(position, limits) {
    this.#limits = limits;
    this.#handed = position && { log: position.log, offsets: parseCursor(position.cursor), given: position.cursor };
    this.#tail = copy(this.#handed);
  }

  /** @returns {Position | null} */
  get position() {
    return this.#handed && show(this.#handed);
  }

  /** More waits than allowed: close, and come back when `low`. What waits is kept. */
  get full() {
    return this.#items.length > this.#limits.frames || this.#bytes > this.#limits.bytes;
  }

  get low() {
    return this.#items.length * 4 <= this.#limits.frames && this.#bytes * 4 <= this.#limits.bytes;
  }

  /**
   * A connection is made: what it resumes from.
   *
   * @returns {Position | null} null: from now on.
   */
  connecting() {
    const position = this.#tail && show(this.#tail);
    this.#refused = false;
    this.#gave = Boolean(position?.cursor);
    return this.#gave ? position : null;
  }

  /**
   * @param {string} log
   * @param {unknown} cursor
   * @param {boolean} resumed
   * @throws {TidingsError} `protocol`: our cursor means nothing in the log that it was resumed in. Nothing has moved.
   */
  welcome(log, cursor, resumed) {
    const offsets = parsed(cursor);
    if (this.#gave && resumed && log !== this.#tail?.log) {
      throw new TidingsError("protocol", `the gateway resumes in the log ${log}, and ours is ${this.#tail?.log}`);
    }
    if (this.#gave && !resumed) {
      this.#refused = true;
    } else if (!this.#gave || !this.#tail?.offsets) {
      this.#handed = { log, offsets, given: "" };
      this.#tail = copy(this.#handed);
    }
  }

  /**
   * @param {TidingsEvent} event
   * @param {number} bytes What it counts against the limit.
   */
  frame(event, bytes) {
    /** @type {Item["entry"]} */
    let entry = null;
    if (event.at !== undefined) {
      entry = parseEntry(event.at);
      const offsets = this.#tail?.offsets;
      if (!entry || !offsets || this.#refused) {
        throw new TidingsError("protocol", `a frame with the position ${event.at}, which leads nowhere`);
      }
      if (entry[1] <= (offsets.get(entry[0]) ?? 0)) return; // we have it
      offsets.set(...entry);
    }
    this.#items.push({ bytes, event, entry, resync: null, checkpoint: null });
    this.#bytes += bytes;
  }

  /** @param {unknown} cursor */
  checkpoint(cursor) {
    const offsets = parsed(cursor);
    if (!this.#tail || this.#refused) return;
    this.#tail.offsets = new Map(offsets);
    const last = this.#items.at(-1) ?? this.#pending;
    if (last) last.checkpoint = offsets;
    else if (this.#handed) this.#handed.offsets = offsets;
  }

  /**
   * @param {string} reason
   * @param {string} log
   * @param {unknown} cursor
   */
  resync(reason, log, cursor) {
    const resync = { reason, log, cursor: String(cursor), offsets: parsed(cursor) };
    this.#items.push({ bytes: 0, event: null, entry: null, resync, checkpoint: null });
    this.#tail = { log, offsets: new Map(resync.offsets), given: "" };
    this.#refused = false;
  }

  /**
   * The connection is gone, and not because this was `full`. A `$resync` that nobody is through with is taken back
   * with all behind it: the old cursor is shown again, so that the gap is filled or told anew.
   *
   * @returns {Item | null} The one that the consumer worked on.
   */
  disconnected() {
    const abandoned = this.#pending;
    const cut = abandoned ? 0 : this.#items.findIndex((item) => item.resync);
    this.#pending = null;
    if (cut >= 0) {
      for (const item of this.#items.splice(cut)) this.#bytes -= item.bytes;
      this.#tail = copy(this.#handed);
      for (const item of this.#items) pass(this.#tail, item);
    }
    return abandoned;
  }

  /** @returns {Item | undefined} Handed to the consumer by this; a `$resync` only when `finish` says so. */
  next() {
    const item = this.#items.shift();
    if (!item) return undefined;
    this.#bytes -= item.bytes;
    if (item.resync) this.#pending = item;
    else pass(this.#handed, item);
    return item;
  }

  /**
   * The consumer is through with a `$resync`; nothing happens if it was taken back meanwhile.
   *
   * @param {Item} item
   */
  finish(item) {
    if (this.#pending !== item) return;
    this.#pending = null;
    this.#handed ??= { log: "", offsets: null, given: "" };
    pass(this.#handed, item);
  }

  /**
   * The consumer left while it worked on a `$resync`: it comes again.
   *
   * @param {Item} item
   */
  putBack(item) {
    if (this.#pending !== item) return;
    this.#pending = null;
    this.#items.unshift(item);
  }

  /** Nobody will ask for more. */
  clear() {
    this.#items = [];
    this.#bytes = 0;
    this.#pending = null;
  }
}

/**
 * Move a place behind an item.
 *
 * @param {Place | null} place
 * @param {Item} item
 */
function pass(place, item) {
  if (!place) return;
  if (item.resync) {
    place.log = item.resync.log;
    place.offsets = new Map(item.resync.offsets);
  }
  if (item.entry) place.offsets?.set(...item.entry);
  if (item.checkpoint) place.offsets = new Map(item.checkpoint);
}

/** @type {(place: Place | null) => Place | null} */
const copy = (place) => place && { ...place, offsets: place.offsets && new Map(place.offsets) };

/** @type {(place: Place) => Position} */
const show = ({ log, offsets, given }) => ({ log, cursor: offsets ? formatCursor(offsets) : given });

/** @type {(cursor: unknown) => Map<number, number>} */
function parsed(cursor) {
  const offsets = parseCursor(cursor);
  if (!offsets) throw new TidingsError("protocol", `the gateway sent ${JSON.stringify(cursor)} as a cursor`);
  return offsets;
}
