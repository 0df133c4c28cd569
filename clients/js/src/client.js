import { TidingsError } from "./errors.js";
import { backoff, Machine } from "./machine.js";

/**
 * @typedef {import("./types.d.ts").ClientOptions} ClientOptions
 * @typedef {import("./types.d.ts").TidingsEvent} TidingsEvent
 * @typedef {import("./types.d.ts").Resync} Resync
 * @typedef {import("./intake.js").Item} Item
 *
 * @typedef {object} Environment What the tests replace.
 * @property {() => number} clock Milliseconds; never goes back.
 * @property {() => number} unixMs
 * @property {() => number} random
 * @property {(call: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {Pick<EventTarget, "addEventListener" | "removeEventListener"> | null} network Where "online" happens.
 */

const LONGEST_TIMER_MS = 2 ** 31 - 1;
const CLOSE_AFTER_ERROR_MS = 250;
const NORMAL = 1000;
const BROKEN = 1006;

/** See types.d.ts. @type {typeof import("./types.d.ts").connect} */
export const connect = (options) => /** @type {any} */ (new Client(options));

/** The edge: sockets, timers, the program's callbacks. What is to be done, `Machine` decides. */
export class Client {
  #machine;
  #environment;
  #WebSocket;
  #askToken;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {any} */
  #timer;
  #running = false;
  #closed = false;
  /** @type {Record<string, Set<(value: any) => any>>} */
  #listeners = { event: new Set(), resync: new Set(), state: new Set(), error: new Set() };
  #pumping = false;
  #asking = false;
  #wake = () => {};
  /** @type {Item | null} A `$resync` that was given to the consumer as an event. */
  #streamed = null;
  /** @type {{ item: Item, controller: AbortController } | null} One that callbacks work on. */
  #resyncing = null;

  /**
   * @param {ClientOptions} options
   * @param {Partial<Environment>} [environment]
   */
  constructor(options, environment = {}) {
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError("no WebSocket here: use Node 22, or --experimental-websocket, or give a constructor");
    }
    const urls = [options.urls ?? options.url ?? []].flat().map(webSocketUrl);
    if (!urls.length) throw new TypeError("url or urls is needed");
    const { token, position = null } = options;
    if (typeof token !== "function" && (typeof token !== "string" || !token)) {
      throw new TypeError("token is needed: a string or a function that gives one");
    }
    if (position && (typeof position.log !== "string" || typeof position.cursor !== "string")) {
      throw new TypeError("position is what client.position was: { log, cursor }");
    }
    this.#askToken = token;
    this.#environment = {
      clock: makeClock(),
      unixMs: Date.now,
      random: Math.random,
      setTimeout: (/** @type {() => void} */ call, /** @type {number} */ ms) => globalThis.setTimeout(call, ms),
      clearTimeout: (/** @type {any} */ timer) => globalThis.clearTimeout(timer),
      network: typeof globalThis.addEventListener === "function" ? globalThis : null,
      ...environment,
    };
    this.#machine = new Machine({
      urls,
      token: typeof token === "string" ? token : null,
      position,
      buffer: { frames: options.bufferFrames ?? 10_000, bytes: options.bufferBytes ?? 16 * 2 ** 20 },
      ...(options.parse && { parse: options.parse }),
      random: this.#environment.random,
    });
    if (options.onResync) this.on("resync", options.onResync);
    this.#environment.network?.addEventListener("online", this.#onOnline);
    // Not at once: the program shall be able to add its listeners first.
    queueMicrotask(() => this.#tell((now) => this.#machine.start(now)));
  }

  get position() {
    return this.#machine.intake.position;
  }

  get state() {
    const { phase } = this.#machine;
    return phase === "idle" || phase === "asking" || phase === "opening" ? "connecting" : phase;
  }

  /**
   * @param {string} name
   * @param {(value: any) => any} listener
   */
  on(name, listener) {
    const listeners = this.#listeners[name];
    if (!listeners) throw new TypeError(`no such event: ${name}`);
    listeners.add(listener);
    if (name === "event" && !this.#pumping) {
      this.#pumping = true;
      // A fatal error that nobody listens to becomes an unhandled rejection: it must not pass unseen.
      queueMicrotask(() => this.#pump());
    }
    return () => void listeners.delete(listener);
  }

  close() {
    this.#closed = true;
    this.#tell(() => this.#machine.stop());
    this.#wake();
  }

  [Symbol.asyncIterator]() {
    if (this.#pumping) throw new Error("the events go to the listeners of 'event' already");
    return {
      next: () => this.#next(),
      // The loop was left. The client stays connected; a further loop goes on here.
      return: async () => {
        if (this.#streamed) this.#machine.intake.putBack(this.#streamed);
        this.#streamed = null;
        return { done: /** @type {const} */ (true), value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  // To the consumer

  /** @returns {Promise<IteratorResult<TidingsEvent, undefined>>} */
  async #next() {
    if (this.#asking) throw new Error("one consumer at a time: the last next() has not been answered");
    this.#asking = true;
    try {
      if (this.#streamed) this.#finish(this.#streamed); // it came back for more: it is through with that
      this.#streamed = null;
      for (;;) {
        if (this.#closed) return { done: true, value: undefined };
        const item = this.#tell((now) => this.#machine.next(now));
        if (item?.event) return { done: false, value: item.event };
        if (item?.resync) {
          const { reason, log, cursor } = item.resync;
          const { resync, event } = this.#listeners;
          if (resync?.size) {
            await this.#resync(item, (signal) => callAll(resync, { reason, log, cursor, signal }));
          } else {
            const value = { type: "$resync", data: { reason, log, cursor } };
            if (!this.#pumping) {
              this.#streamed = item;
              return { done: false, value };
            }
            await this.#resync(item, () => callAll(event, value));
          }
        } else if (this.#machine.error) {
          throw this.#machine.error;
        } else {
          await new Promise((resolve) => {
            this.#wake = () => resolve(undefined);
          });
        }
      }
    } finally {
      this.#asking = false;
    }
  }

  async #pump() {
    try {
      for (;;) {
        const { done, value } = await this.#next();
        if (done) return;
        for (const listener of this.#listeners["event"] ?? []) {
          try {
            await listener(value);
          } catch (cause) {
            this.#emit("error", new TidingsError("listener", `a listener of 'event' failed: ${cause}`, { cause }));
          }
        }
      }
    } catch (error) {
      if (!this.#listeners["error"]?.size) throw error;
    }
  }

  /**
   * Call until it succeeds, or until the connection behind the `$resync` is gone.
   *
   * @param {Item} item
   * @param {(signal: AbortSignal) => Promise<unknown>} call
   */
  async #resync(item, call) {
    const controller = new AbortController();
    const { signal } = controller;
    /** @type {Promise<void>} */
    const abandoned = new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    this.#resyncing = { item, controller };
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await Promise.race([abandoned, call(signal)]);
        break;
      } catch (cause) {
        if (signal.aborted) break;
        this.#emit("error", new TidingsError("resync", `the refetch failed and is tried again: ${cause}`, { cause }));
        const { setTimeout, random } = this.#environment;
        const slept = new Promise((resolve) => setTimeout(() => resolve(undefined), backoff(attempt, random)));
        await Promise.race([abandoned, slept]);
      }
    }
    this.#resyncing = null;
    this.#finish(item);
  }

  /** @param {Item} item */
  #finish(item) {
    this.#tell((now) => this.#machine.finish(now, item));
  }

  /**
   * @param {string} name
   * @param {unknown} value
   */
  #emit(name, value) {
    for (const listener of this.#listeners[name] ?? []) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // the program's fault, to be seen as such; our own work goes on
        });
      }
    }
  }

  // To the machine and from it

  /**
   * Tell the machine what has happened and carry out what it decides.
   *
   * @template T
   * @param {(now: number) => T} what
   * @returns {T}
   */
  #tell(what) {
    const machine = this.#machine;
    const { clock, clearTimeout, setTimeout } = this.#environment;
    const answer = what(clock());
    if (this.#running) return answer; // called from a listener: the loop below comes to it, in order
    this.#running = true;
    for (let commands = machine.take(); commands.length; commands = machine.take()) {
      for (const command of commands) this.#carryOut(command);
    }
    this.#running = false;
    clearTimeout(this.#timer);
    if (machine.dueAt < Infinity) {
      const waitMs = Math.min(Math.max(0, machine.dueAt - clock()), LONGEST_TIMER_MS);
      this.#timer = setTimeout(() => this.#tell((now) => machine.due(now)), Math.ceil(waitMs));
    }
    if (machine.phase === "closed") this.#environment.network?.removeEventListener("online", this.#onOnline);
    return answer;
  }

  /** @param {import("./machine.js").Command} command */
  #carryOut(command) {
    switch (command.do) {
      case "open":
        this.#open(command.url, command.protocols);
        break;
      case "close": {
        const socket = this.#socket;
        this.#socket = null; // what it still says is nobody's
        socket?.close(NORMAL, command.reason);
        break;
      }
      case "send":
        this.#socket?.send(command.text);
        break;
      case "ask":
        this.#ask(command.id);
        break;
      case "abandon":
        if (this.#resyncing?.item === command.item) this.#resyncing.controller.abort();
        break;
      case "state":
        this.#emit("state", command.change);
        break;
      case "error":
        this.#emit("error", command.error);
        this.#wake();
        break;
    }
  }

  /**
   * @param {string} url
   * @param {string[]} protocols
   */
  #open(url, protocols) {
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new this.#WebSocket(url, protocols);
    } catch (error) {
      this.#tell((now) => this.#machine.unusable(now, error));
      return;
    }
    this.#socket = socket;
    // Listeners stay on for good and compare: some sockets throw an error that nobody listens to.
    socket.addEventListener("message", ({ data }) => {
      if (this.#socket !== socket || typeof data !== "string") return;
      this.#tell((now) => this.#machine.message(now, data));
      this.#wake();
    });
    const closed = (/** @type {number} */ code, /** @type {string} */ reason) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#tell((now) => this.#machine.closed(now, code, reason));
    };
    let opened = false;
    socket.addEventListener("open", () => void (opened = true));
    // The code of a socket that never opened is nobody's word: some of Node's say 1002 of a gateway that is away.
    socket.addEventListener("close", ({ code, reason }) => closed(opened ? code : BROKEN, reason));
    // Behind an error comes the close event, but not where Node 20's own WebSocket could not connect.
    socket.addEventListener("error", () => {
      if (this.#socket === socket) this.#environment.setTimeout(() => closed(BROKEN, ""), CLOSE_AFTER_ERROR_MS);
    });
  }

  /** @param {number} id */
  async #ask(id) {
    const machine = this.#machine;
    try {
      const token = typeof this.#askToken === "function" ? await this.#askToken() : this.#askToken;
      if (typeof token !== "string" || !token) throw new TypeError("the token function gave no token");
      this.#tell((now) => machine.tokenCame(now, id, token, this.#environment.unixMs()));
    } catch (error) {
      this.#tell((now) => machine.tokenFailed(now, id, error));
    }
  }

  #onOnline = () => this.#tell((now) => this.#machine.online(now));
}

/**
 * @param {Iterable<(value: any) => any> | undefined} listeners
 * @param {unknown} value
 */
const callAll = (listeners, value) => Promise.all(Array.from(listeners ?? [], async (listener) => listener(value)));

/** @type {(url: string | URL) => string} */
function webSocketUrl(url) {
  const parsed = new URL(url, globalThis.location?.href);
  parsed.protocol = parsed.protocol.replace("http", "ws");
  if (!/^wss?:$/.test(parsed.protocol)) throw new TypeError(`${url} is no address of a gateway`);
  if (parsed.pathname === "/") parsed.pathname = "/ws";
  parsed.hash = "";
  return parsed.href;
}

/** Neither clock alone will do: the one stands still while a machine sleeps, the other is set by people. */
function makeClock() {
  let now = 0;
  let steady = performance.now();
  let day = Date.now();
  return () => {
    const [steadyNow, dayNow] = [performance.now(), Date.now()];
    now += Math.max(steadyNow - steady, dayNow - day, 0);
    [steady, day] = [steadyNow, dayNow];
    return now;
  };
}
