/** Where a program is in the log. Give it back as it is; JSON keeps it. */
export interface Position {
  readonly log: string;
  readonly cursor: string;
}

/** A frame as the gateway sent it. */
export interface TidingsEvent {
  readonly type: string;
  readonly data: any;
  /** `<partition>:<next offset>`; missing in what is never repeated (typing, online). */
  readonly at?: string;
}

export type ResyncReason = "expired" | "log_changed" | "invalid" | "ahead" | "budget";

/** What was missed can't be had from the gateway. Fetch the present state elsewhere; frames go on behind `cursor`. */
export interface Resync {
  readonly reason: ResyncReason;
  readonly log: string;
  readonly cursor: string;
  /** Aborted when the connection is lost meanwhile: stop, and apply nothing more. If need be, you are called again. */
  readonly signal: AbortSignal;
}

export interface StateChange {
  /**
   * - `connecting`: also while a token is asked for.
   * - `open`: welcomed by a gateway.
   * - `waiting`: connects again in `waitMs`.
   * - `paused`: too much waits for the program; connects again when most of it is taken.
   * - `closed`: for good, by `close()` or with `error`.
   */
  readonly state: "connecting" | "open" | "waiting" | "paused" | "closed";
  readonly url?: string;
  readonly node?: string;
  readonly session?: string;
  readonly resumed?: boolean;
  /** The close code of the connection that ended; 1006 if it broke or never came to be. */
  readonly code?: number;
  readonly reason?: string;
  readonly waitMs?: number;
  readonly error?: TidingsError;
}

/**
 * - `disconnected` (fatal): an operator ended the session, 4002.
 * - `token_ended` (fatal): 4001, and the token was given as a string.
 * - `token`: the token function failed; it is asked again.
 * - `refused`: the gateway did not take a `$token`; another is asked for. Or, before the connection is open, it
 *   complained of something else, and nothing follows from that.
 * - `resync`: the refetch failed; it is called again.
 * - `closed`: 1002, 1003, 1007, 1008 or 1009: something has to be mended. Tried again after a minute.
 * - `protocol`: what came is not `tidings.v1`, or resumes in a log that is not the position's. Tried again.
 * - `socket`: no WebSocket can be made of this address and token. Tried again.
 * - `listener`: a listener of `event` threw or rejected. The next event goes to it all the same.
 * - `sync`: thrown by `sync`: the messaging service refused (`status`), or could not be reached (`status` 0).
 */
export type ErrorCode =
  | "disconnected"
  | "token_ended"
  | "token"
  | "refused"
  | "resync"
  | "closed"
  | "protocol"
  | "socket"
  | "listener"
  | "sync";

export class TidingsError extends Error {
  constructor(
    code: ErrorCode,
    message: string,
    more?: { cause?: unknown; fatal?: boolean; closeCode?: number; status?: number },
  );
  override readonly name: string;
  readonly code: ErrorCode;
  /** The client has stopped. If not, the error is for information. */
  readonly fatal: boolean;
  readonly closeCode: number | undefined;
  /** HTTP status, of `sync`. */
  readonly status: number | undefined;
}

/** What the client needs of a WebSocket constructor; that of the package `ws` will do. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => any;

export interface ClientOptions {
  /** Of a gateway or a load balancer. `http` becomes `ws`; without a path it is `/ws`. */
  url?: string | URL;
  /** Several: it begins with any of them and takes the next one after each failure. */
  urls?: ReadonlyArray<string | URL>;
  /**
   * A JWT, or a function that gets one. Only with a function can the client outlive a token: it is called for the
   * first connection, before the token ends, after 4001, and after some connections that never came to be. One that
   * does not answer within 30 s has failed; a failed one is asked again, with growing waits.
   */
  token: string | (() => string | Promise<string>);
  /** `client.position` of an earlier life. Without it: from now on. */
  position?: Position | null | undefined;
  /**
   * Called when a gap can't be filled; the same as `on("resync", …)`. Frames behind the gap are delivered, and
   * `position` moves, only after it has resolved. It is called again when it rejects, and when the connection is lost
   * meanwhile. Without it an event of type `$resync` takes its place in the stream.
   */
  onResync?: (resync: Resync) => unknown;
  /** Default: `globalThis.WebSocket`. */
  WebSocket?: WebSocketConstructor | undefined;
  /** So many frames may wait for the program, 10,000; above it the client is `paused`. */
  bufferFrames?: number;
  /** And so many bytes, two for each UTF-16 unit of text, 16 MiB. */
  bufferBytes?: number;
  /** Text to frame, instead of `JSON.parse`; for numbers beyond 2^53, say. */
  parse?: (text: string) => any;
}

/** One user's stream of frames, over as many connections as it takes. */
export interface Client<Event extends TidingsEvent = TidingsEvent> extends AsyncIterable<Event, undefined> {
  /**
   * What the program has: all up to the event that was handed to it last. Never ahead of that. A `$resync` counts when
   * `onResync` has resolved, or when the loop asks for the next event. null before the first connection.
   */
  readonly position: Position | null;
  readonly state: StateChange["state"];
  /**
   * Events one at a time, in order: the next one comes when the promises of all listeners have settled. Instead of the
   * loop, not beside it.
   *
   * @returns A function that removes the listener.
   */
  on(name: "event", listener: (event: Event) => unknown): () => void;
  on(name: "resync", listener: (resync: Resync) => unknown): () => void;
  on(name: "state", listener: (change: StateChange) => unknown): () => void;
  on(name: "error", listener: (error: TidingsError) => unknown): () => void;
  /** End for good. Loops end; what waits is dropped, and `position` is still that of the last event handed over. */
  close(): void;
  /**
   * One loop at a time. Leaving it (`break`) does not close the client; another loop goes on where it ended.
   *
   * @throws {TidingsError} In the loop, behind all events that came before: a fatal one.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Event, undefined>;
}

/** Connect, and stay connected until `close()` or a fatal error. */
export function connect<Event extends TidingsEvent = TidingsEvent>(options: ClientOptions): Client<Event>;

export interface SyncOptions {
  /** Of the messaging service. Without a path it is `/v1.0/sync`. */
  url: string | URL;
  /** A JWT, or a function that gets one; called for each page. */
  token: string | (() => string | Promise<string>);
  /** `next` of the last page, at an earlier time. Without it: the account's present state. */
  since?: string | null | undefined;
  /** Of a whole state: so many newest messages of each chat, 0 to 20; 1 if not given. */
  preview?: number;
  /** Hand `resync.signal` through. */
  signal?: AbortSignal;
  /** Default: `globalThis.fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** A part of what was missed, as the service sent it. Updates apply by chat and update id, all else is state. */
export interface SyncPage {
  /**
   * Those that changed, whole. Where `newly_joined` is true, the account became a member, or one again, after `since`
   * (in a whole state: always), so `updates` does not have all of it: drop what was kept of the chat before, and read
   * its earlier updates by range.
   */
  readonly chats: any[];
  /** Ids of chats that are no more, or not the account's any more. */
  readonly removed: string[];
  /** By chat, then by update id. Some may be known already. */
  readonly updates: any[];
  readonly marks: any[];
  /** Those whose names changed or are new to the user. */
  readonly users: any[];
  /** Save it once all pages are dealt with: the next time's `since`. */
  readonly next: string;
  readonly more: boolean;
  /** Of the account's state from the beginning: what is not in these pages is no more. Also when `since` was unknown. */
  readonly whole: boolean;
}

/**
 * All that the account missed since an earlier `next`, page by page: for `onResync`, which is called again if this
 * fails, and for the start of a program. What happens meanwhile may be both in a page and among the client's events.
 *
 * @throws {TidingsError} `sync`. Nothing is tried again here.
 */
export function sync(options: SyncOptions): AsyncGenerator<SyncPage, void, undefined>;
