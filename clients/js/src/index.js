export { sync } from "./catching-up.js";
export { connect } from "./client.js";
export { TidingsError } from "./errors.js";
