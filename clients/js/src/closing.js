// What to do after each close code; the README of Tidings has the same table for people.

/**
 * - `stop`: do not come back.
 * - `token`: at once, with a new token.
 * - `now`: at once, to the same address.
 * - `elsewhere`: at once, or when `$drain` said, to the next address.
 * - `later`: after a minute, and tell the program: something has to be mended.
 * - `backoff`: after a random wait that grows, to the next address.
 *
 * "At once" holds only for a connection that stood for a while; else it is `backoff`, too.
 *
 * @typedef {"stop" | "token" | "now" | "elsewhere" | "later" | "backoff"} Advice
 */

/** @type {ReadonlyMap<number, Advice>} */
export const ADVICE = new Map([
  [1000, "backoff"], // the gateway never sends it unasked; a proxy may
  [1001, "elsewhere"],
  [1002, "later"],
  [1003, "later"], // as 1000
  [1007, "later"],
  [1008, "later"],
  [1009, "later"],
  [1011, "backoff"],
  [4001, "token"],
  [4002, "stop"],
  [4008, "now"],
  [4011, "now"],
]);

/**
 * @param {number} code Also 1006, which stands for a connection that broke or never came to be.
 * @returns {Advice}
 */
export function adviceFor(code) {
  return ADVICE.get(code) ?? "backoff";
}
