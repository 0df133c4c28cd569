// `node test/run.js [option of node's…] [file…]`: runs these test files, or all, with the flag that gives this Node a
// WebSocket where it needs one. Where Node has one by itself the flag is not passed: that is how users run it, and a
// later Node may not know the flag any more.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const given = process.argv.slice(2);
const options = given.filter((one) => one.startsWith("--"));
const files = given.filter((one) => !one.startsWith("--"));
if (!files.length) {
  files.push(...readdirSync(folder).filter((name) => name.endsWith(".test.js")).map((name) => join(folder, name)));
}
const flags = Number(process.versions.node.split(".")[0]) < 22 ? ["--experimental-websocket"] : [];
const { status } = spawnSync(process.execPath, [...flags, "--test", ...options, ...files], { stdio: "inherit" });
process.exitCode = status ?? 1;
