// Cursors as text, there and back: the next offset to read in each partition, `0:17,1:4`.
//
// Offsets are Numbers: exact up to 2^53, which a partition that takes a million records a second reaches in 285 years.
// A higher one is refused, never rounded.

const ENTRY = /^(0|[1-9]\d{0,5}):(0|[1-9]\d{0,15})$/;

/**
 * One entry of a cursor, as a frame's `at` has it.
 *
 * @param {unknown} text
 * @returns {[partition: number, offset: number] | null} null for anything else.
 */
export function parseEntry(text) {
  const match = typeof text === "string" ? ENTRY.exec(text) : null;
  const offset = Number(match?.[2]);
  return match && Number.isSafeInteger(offset) ? [Number(match[1]), offset] : null;
}

/**
 * @param {unknown} text
 * @returns {Map<number, number> | null} Offsets by partition, none for an empty text; null if it is no cursor.
 */
export function parseCursor(text) {
  if (typeof text !== "string") return null;
  /** @type {Map<number, number>} */
  const offsets = new Map();
  for (const part of text === "" ? [] : text.split(",")) {
    const entry = parseEntry(part);
    if (!entry || offsets.has(entry[0])) return null;
    offsets.set(...entry);
  }
  return offsets;
}

/**
 * @param {Map<number, number>} offsets
 * @returns {string}
 */
export function formatCursor(offsets) {
  return Array.from(offsets, ([partition, offset]) => `${partition}:${offset}`).join(",");
}
