import { TidingsError } from "./errors.js";

const PARTS = /** @type {const} */ (["chats", "removed", "updates", "marks", "users"]);

/** See types.d.ts. @type {typeof import("./types.d.ts").sync} */
export async function* sync({ url, token, since = null, preview = 1, signal, fetch = globalThis.fetch }) {
  const address = new URL(url, globalThis.location?.href);
  if (!/^https?:$/.test(address.protocol)) throw new TypeError(`${url} is no address of a messaging service`);
  if (address.pathname === "/") address.pathname = "/v1.0/sync";
  address.hash = "";
  let whole = !since;
  for (;;) {
    const asked = new URL(address);
    if (since) asked.searchParams.set("since", since);
    else asked.searchParams.set("preview", `${preview}`);
    const bearer = typeof token === "function" ? await token() : token;
    const { status, body } = await ask(fetch, asked, bearer, signal);
    if (status !== 200) {
      const error = `${body?.error_type ?? ""}`;
      if (error === "invalid_since" && since && !whole) {
        since = null;
        whole = true;
        continue;
      }
      throw failed(`the messaging service refused: ${status} ${error} ${body?.error_message ?? ""}`.trim(), status);
    }
    const page = body?.data;
    if (!page || PARTS.some((part) => !Array.isArray(page[part])) || typeof page.next !== "string") {
      throw failed("the answer is not that of a messaging service", status);
    }
    const { chats, removed, updates, marks, users, next } = page;
    const more = page.more === true;
    yield { chats, removed, updates, marks, users, next, more, whole };
    if (!more) return;
    if (next === since) throw failed("the same page would come again", status);
    since = next;
  }
}

/**
 * @param {typeof globalThis.fetch} fetch
 * @param {URL} url
 * @param {string} token
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<{ status: number, body: any }>}
 */
async function ask(fetch, url, token, signal) {
  try {
    // A token is for the host that it was given for, so no redirect takes it elsewhere.
    const response = await fetch(url, {
      headers: { authorization: `Bearer ${token}`, accept: "application/json" },
      redirect: "error",
      ...(signal && { signal }),
    });
    const text = await response.text();
    return { status: response.status, body: parsed(text) };
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw failed(`the messaging service could not be reached: ${cause}`, 0, cause);
  }
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {string} message
 * @param {number} status
 * @param {unknown} [cause]
 */
const failed = (message, status, cause) => new TidingsError("sync", message, { status, ...(cause ? { cause } : {}) });
