export { connect } from "./client.js";
export { TidingsError } from "./errors.js";
