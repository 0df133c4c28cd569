import { adviceFor } from "./closing.js";
import { TidingsError } from "./errors.js";
import { Intake } from "./intake.js";
import { readExpiry } from "./token.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const LATER_MS = 60_000;
/** A connection that stood this long was a good one: waits begin anew. */
const HELD_MS = 10_000;
/** From the attempt to `$welcome`. */
const OPENING_MS = 20_000;
/** `$checkpoint` comes every `heartbeat_s`; two of them missing, and this, and the connection is dead. */
const SILENCE_MARGIN_MS = 5_000;
const TOKEN_MS = 30_000;
/** `$drain` is obeyed up to this. */
const LONGEST_DRAIN_MS = 120_000;
/** A new token is asked for so long before the old one ends, or at three quarters of its life if that is later. */
const RENEW_BEFORE_MS = 60_000;
/** A browser does not say why a connection never came to be: after so many, it may be the token. */
const FAILURES_OF_A_TOKEN = 3;
/** A node may have to go, or to complain, while it still looks at the cursor. */
const BEFORE_WELCOME = new Set(["$welcome", "$drain", "$error"]);

/**
 * @typedef {import("./types.d.ts").StateChange} StateChange
 * @typedef {import("./intake.js").Item} Item
 *
 * @typedef {{ do: "open", url: string, protocols: string[] }
 *   | { do: "close", reason: string }
 *   | { do: "send", text: string }
 *   | { do: "ask", id: number }
 *   | { do: "abandon", item: Item }
 *   | { do: "state", change: StateChange }
 *   | { do: "error", error: TidingsError }} Command
 *
 * @typedef {"idle" | "asking" | "opening" | "open" | "waiting" | "paused" | "closed"} Phase
 */

/** "Full jitter": anything below a bound that doubles. @type {(attempt: number, random: () => number) => number} */
export const backoff = (attempt, random) => random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt);

/**
 * Decides; does nothing itself. Its methods are told what has happened, with the time in milliseconds of a clock that
 * never goes back. After each call the caller carries out `take()` in order, and calls `due` at `dueAt`.
 *
 * At any time there is at most one socket: the one of the last "open", until the next "close" or until `closed`.
 */
export class Machine {
  /** @type {Command[]} */
  #commands = [];
  /** @type {Phase} */
  #phase = "idle";
  /** Waiting: when to connect. Opening, open: when to give up. */
  #wakeAt = Infinity;
  #attempts = 0;
  #urls;
  #url = 0;
  #parse;
  #random;
  #canAsk;
  /** @type {string | null} */
  #token = null;
  #asked = 0;
  #askEndsAt = Infinity;
  #renewAt = Infinity;
  #renewFailures = 0;
  #tokenEndsAt = Infinity;
  #openingFailures = 0;
  #openAt = 0;
  #heartbeatMs = 0;
  #drainMs = 0;
  /** Whether the wait may be cut short. */
  #hasty = true;

  /**
   * @param {object} options
   * @param {string[]} options.urls
   * @param {string | null} options.token null: it is asked for.
   * @param {import("./types.d.ts").Position | null} options.position
   * @param {{ frames: number, bytes: number }} options.buffer
   * @param {(text: string) => any} [options.parse]
   * @param {() => number} options.random
   */
  constructor({ urls, token, position, buffer, parse = JSON.parse, random }) {
    this.#urls = urls;
    this.#url = Math.floor(random() * urls.length);
    this.#token = token;
    this.#canAsk = token === null;
    this.#random = random;
    this.#parse = parse;
    this.intake = new Intake(position, buffer);
    /** @type {TidingsError | null} Why it has stopped by itself. */
    this.error = null;
  }

  get phase() {
    return this.#phase;
  }

  get dueAt() {
    return Math.min(this.#wakeAt, this.#askEndsAt, this.#renewAt);
  }

  /** @returns {Command[]} */
  take() {
    return this.#commands.splice(0);
  }

  // What happens

  /** @param {number} now */
  start(now) {
    if (this.#phase === "idle") this.#connect(now);
  }

  /** @param {number} now */
  due(now) {
    if (now >= this.#askEndsAt) this.tokenFailed(now, this.#asked, new Error(`no token within ${TOKEN_MS} ms`));
    if (now >= this.#renewAt) this.#ask(now);
    if (now < this.#wakeAt) return;
    if (this.#phase === "waiting") {
      this.#connect(now);
    } else {
      this.#close(this.#phase === "open" ? "nothing heard" : "no answer");
      this.#lost(now, 1006, "nothing heard");
    }
  }

  /**
   * The socket has ended, or could not be made.
   *
   * @param {number} now
   * @param {number} code
   * @param {string} reason
   */
  closed(now, code, reason) {
    if (this.#phase === "opening" || this.#phase === "open") this.#lost(now, code, reason);
  }

  /**
   * The constructor of the socket threw: it does not like the token or the address.
   *
   * @param {number} now
   * @param {unknown} cause
   */
  unusable(now, cause) {
    this.#report("socket", "no WebSocket can be made with this address and token", { cause });
    if (this.#canAsk) this.#token = null;
    this.closed(now, 1006, "unusable");
  }

  /**
   * A text frame came.
   *
   * @param {number} now
   * @param {string} text
   */
  message(now, text) {
    if (this.#phase !== "opening" && this.#phase !== "open") return;
    try {
      this.#obey(now, this.#parse(text), text.length * 2);
    } catch (error) {
      this.#report("protocol", error instanceof Error ? error.message : String(error), { cause: error });
      this.#close("protocol");
      this.#lost(now, 1006, "protocol");
      return;
    }
    if (this.#phase === "open" && this.#heartbeatMs) this.#wakeAt = now + 2 * this.#heartbeatMs + SILENCE_MARGIN_MS;
    if (this.intake.full) {
      // A browser's socket can't be told to wait. Its end can: what is behind comes again with the cursor.
      this.#leave("paused");
      this.#close("behind");
      this.#state({ state: "paused" });
    }
  }

  /** The network is back. @param {number} now */
  online(now) {
    if (this.#phase === "waiting" && this.#hasty) {
      this.#connect(now);
    } else if (this.#phase === "opening" || this.#phase === "open") {
      this.#close("network changed");
      this.#abandon();
      this.#connect(now);
    }
  }

  /**
   * The answer to "ask".
   *
   * @param {number} now
   * @param {number} id
   * @param {string} token
   * @param {number} unixMs The time of day.
   */
  tokenCame(now, id, token, unixMs) {
    if (id !== this.#asked || this.#askEndsAt === Infinity) return;
    const endsMs = readExpiry(token);
    const leftMs = endsMs === null ? Infinity : endsMs - unixMs;
    const renews = this.#phase === "open";
    if (renews && now + leftMs < this.#tokenEndsAt + 1_000) {
      this.tokenFailed(now, id, new Error("the new token does not last longer than the old one"));
      return;
    }
    this.#askEndsAt = Infinity;
    this.#openingFailures = 0;
    this.#token = token;
    this.#tokenEndsAt = now + leftMs;
    if (this.#phase === "asking") this.#open(now);
    if (!renews) return;
    this.#commands.push({ do: "send", text: JSON.stringify({ type: "$token", data: { token } }) });
    this.#planRenewal(now);
  }

  /**
   * @param {number} now
   * @param {number} id
   * @param {unknown} cause
   */
  tokenFailed(now, id, cause) {
    if (id !== this.#asked || this.#askEndsAt === Infinity) return;
    this.#askEndsAt = Infinity;
    this.#report("token", `no new token: ${cause instanceof Error ? cause.message : cause}`, { cause });
    if (this.#phase === "asking") this.#wait(now, backoff(this.#attempts++, this.#random));
    else if (this.#phase === "open") this.#renewLater(now);
  }

  // What the consumer does

  /**
   * @param {number} now
   * @returns {Item | undefined}
   */
  next(now) {
    const item = this.intake.next();
    this.#returnIfLow(now);
    return item;
  }

  /**
   * @param {number} now
   * @param {Item} item A `$resync`.
   */
  finish(now, item) {
    this.intake.finish(item);
    this.#returnIfLow(now);
  }

  /** The program wants no more. */
  stop() {
    this.#abandon();
    this.intake.clear();
    if (this.#phase === "closed") return;
    if (this.#phase === "opening" || this.#phase === "open") this.#close("");
    this.#leave("closed");
    this.#state({ state: "closed" });
  }

  // Inside

  /** @param {number} now */
  #connect(now) {
    this.#leave("asking");
    this.#state({ state: "connecting", url: this.#urlNow });
    if (this.#token !== null && (!this.#canAsk || now + 1_000 < this.#tokenEndsAt)) this.#open(now);
    else this.#ask(now);
  }

  get #urlNow() {
    return /** @type {string} */ (this.#urls[this.#url]);
  }

  /** @param {number} now */
  #open(now) {
    this.#leave("opening");
    this.#wakeAt = now + OPENING_MS;
    this.#drainMs = 0;
    const url = new URL(this.#urlNow);
    const position = this.intake.connecting();
    if (position) {
      url.searchParams.set("cursor", position.cursor);
      url.searchParams.set("log", position.log);
    }
    this.#commands.push({ do: "open", url: url.href, protocols: ["tidings.v1", `bearer.${this.#token}`] });
  }

  /** @param {number} now */
  #ask(now) {
    this.#renewAt = Infinity;
    this.#askEndsAt = now + TOKEN_MS;
    this.#commands.push({ do: "ask", id: ++this.#asked });
  }

  /**
   * @param {number} now
   * @param {any} frame
   * @param {number} bytes
   */
  #obey(now, frame, bytes) {
    const { type, data } = frame;
    if (this.#phase === "opening") {
      if (!BEFORE_WELCOME.has(type)) throw new Error(`the first frame is ${type}, not $welcome`);
      this.#openingFailures = 0; // who speaks to us has taken the token
    }
    switch (type) {
      case "$welcome": {
        if (this.#phase !== "opening") throw new Error("a second $welcome");
        this.intake.welcome(data.log, data.cursor, data.resumed);
        this.#phase = "open";
        this.#wakeAt = Infinity;
        this.#openAt = now;
        this.#renewFailures = 0; // not with a new token, which may be refused as well
        this.#heartbeatMs = data.heartbeat_s * 1000;
        this.#planRenewal(now);
        const { node, session, resumed } = data;
        this.#state({ state: "open", url: this.#urlNow, node, session, resumed });
        break;
      }
      case "$checkpoint":
        this.intake.checkpoint(data.cursor);
        break;
      case "$resync":
        this.intake.resync(data.reason, data.log, data.cursor);
        break;
      case "$drain":
        if (!Number.isFinite(data.reconnect_after_ms)) throw new Error("a $drain without a time");
        this.#drainMs = Math.min(data.reconnect_after_ms, LONGEST_DRAIN_MS);
        break;
      case "$error":
        this.#report("refused", `the gateway says: ${data.reason}`);
        if (this.#phase === "opening") break; // of ours it has seen nothing yet but the token that let us in
        // We send nothing but tokens. The refused one may still be in use for a while: ask for another.
        this.#tokenEndsAt = 0;
        if (this.#canAsk && this.#askEndsAt === Infinity) this.#renewLater(now);
        break;
      default:
        if (typeof type !== "string") throw new Error("a frame without a type");
        if (!type.startsWith("$")) this.intake.frame(frame, bytes);
    }
  }

  /** @param {number} now */
  #planRenewal(now) {
    const leftMs = this.#tokenEndsAt - now;
    // Already over by our clock: one of the two is wrong, and the gateway will say when.
    if (this.#canAsk && leftMs > 0) this.#renewAt = this.#tokenEndsAt - Math.min(RENEW_BEFORE_MS, leftMs / 4);
  }

  /** @param {number} now */
  #renewLater(now) {
    this.#renewAt = now + backoff(this.#renewFailures++, this.#random);
  }

  /**
   * @param {number} now
   * @param {number} code
   * @param {string} reason
   */
  #lost(now, code, reason) {
    const welcomed = this.#phase === "open";
    if (welcomed && now - this.#openAt >= HELD_MS) this.#attempts = 0;
    if (!welcomed && ++this.#openingFailures >= FAILURES_OF_A_TOKEN && this.#canAsk) {
      this.#openingFailures = 0;
      this.#token = null;
    }
    this.#abandon();
    let advice = adviceFor(code);
    const why = { code, reason };
    if (advice === "stop" || (advice === "token" && !this.#canAsk)) {
      const error = advice === "stop" ? "disconnected" : "token_ended";
      this.error = new TidingsError(error, `closed with ${code} ${reason}`, { closeCode: code, fatal: true });
      this.#leave("closed");
      this.#state({ state: "closed", ...why, error: this.error });
      this.#commands.push({ do: "error", error: this.error });
      return;
    }
    if (advice === "token") this.#token = null;
    if (advice !== "token" && advice !== "now") this.#url = (this.#url + 1) % this.#urls.length;
    const attempt = this.#attempts++;
    if (advice === "later") {
      this.#report("closed", `closed with ${code} ${reason}`, { closeCode: code });
      this.#wait(now, LATER_MS * (1 + this.#random() / 2), why, false);
    } else {
      const atOnce = advice !== "backoff" && welcomed && attempt === 0;
      this.#wait(now, Math.max(this.#drainMs, atOnce ? 0 : backoff(attempt, this.#random)), why);
    }
  }

  /**
   * @param {number} now
   * @param {number} waitMs
   * @param {{ code: number, reason: string }} [why]
   */
  #wait(now, waitMs, why, hasty = true) {
    this.#leave("waiting");
    this.#wakeAt = now + waitMs;
    this.#hasty = hasty;
    this.#state({ state: "waiting", ...why, waitMs });
  }

  /** @param {Phase} phase */
  #leave(phase) {
    this.#phase = phase;
    this.#wakeAt = this.#renewAt = this.#askEndsAt = Infinity;
  }

  #abandon() {
    const item = this.intake.disconnected();
    if (item) this.#commands.push({ do: "abandon", item });
  }

  /** @param {number} now */
  #returnIfLow(now) {
    if (this.#phase === "paused" && this.intake.low) this.#connect(now);
  }

  /** @param {string} reason */
  #close(reason) {
    this.#commands.push({ do: "close", reason });
  }

  /** @param {StateChange} change */
  #state(change) {
    this.#commands.push({ do: "state", change });
  }

  /**
   * @param {import("./types.d.ts").ErrorCode} code
   * @param {string} message
   * @param {{ cause?: unknown, closeCode?: number }} [more]
   */
  #report(code, message, more) {
    this.#commands.push({ do: "error", error: new TidingsError(code, message, more) });
  }
}
