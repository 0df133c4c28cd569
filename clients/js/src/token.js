/**
 * When a JWT ends, by its own words: nothing is verified here.
 *
 * @param {string} token
 * @returns {number | null} Unix time in milliseconds; null if it does not say.
 */
export function readExpiry(token) {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload)); // not UTF-8, but `exp` is a number
    return Number.isFinite(exp) ? exp * 1000 : null;
  } catch {
    return null;
  }
}
