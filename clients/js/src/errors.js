/** See types.d.ts. */
export class TidingsError extends Error {
  /**
   * @param {import("./types.d.ts").ErrorCode} code
   * @param {string} message
   * @param {{ cause?: unknown, fatal?: boolean, closeCode?: number, status?: number }} [more]
   */
  constructor(code, message, more = {}) {
    super(message, "cause" in more ? { cause: more.cause } : {});
    this.name = "TidingsError";
    this.code = code;
    this.fatal = more.fatal ?? false;
    this.closeCode = more.closeCode;
    this.status = more.status;
  }
}
