// What is published: packed by npm, unpacked as npm would install it, and imported by its name from there.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const project = fileURLToPath(new URL("..", import.meta.url));
const hasNpm = spawnSync("npm", ["--version"]).status === 0;
// In CI a skipped test would be a failure: there it fails by itself.
const options = { skip: !hasNpm && process.env.CI !== "true" && "there is no npm" };

let folder;
let unpacked;

before(() => {
  if (options.skip) return;
  folder = mkdtempSync(join(tmpdir(), "tidings-client-"));
  const pack = ["pack", "--silent", "--offline", "--ignore-scripts", "--cache", join(folder, "cache"), "--pack-destination", folder];
  const name = execFileSync("npm", pack, { cwd: project, encoding: "utf8" }).trim();
  execFileSync("tar", ["-xzf", name], { cwd: folder });
  const scope = join(folder, "node_modules", "@tidings");
  mkdirSync(scope, { recursive: true });
  unpacked = join(scope, "client");
  renameSync(join(folder, "package"), unpacked);
});

after(() => folder && rmSync(folder, { recursive: true }));

test("the packed library is imported by its name", options, () => {
  const program = join(folder, "program.mjs");
  writeFileSync(
    program,
    `import * as library from "@tidings/client";
     const client = library.connect({ url: "wss://gateway.example", token: "t", WebSocket: class extends EventTarget {} });
     console.log(JSON.stringify([Object.keys(library).sort(), client.state, import.meta.resolve("@tidings/client")]));
     client.close();`,
  );
  const [names, state, from] = JSON.parse(execFileSync(process.execPath, [program], { encoding: "utf8" }));
  assert.deepEqual(names, ["TidingsError", "connect", "sync"]);
  assert.equal(state, "connecting");
  assert.ok(fileURLToPath(from).startsWith(unpacked), from);
});

test("all that its package.json names is in it, and nothing that only we need", options, () => {
  const { exports, types } = JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8"));
  for (const path of [types, exports["."].types, exports["."].default, "README.md", "LICENSE", "CHANGELOG.md"]) {
    assert.ok(existsSync(join(unpacked, path)), path);
  }
  assert.deepEqual(readdirSync(unpacked).sort(), ["CHANGELOG.md", "LICENSE", "README.md", "package.json", "src"]);
});

test("the page of the package has no dead links: paths of the repository lead nowhere there", options, () => {
  const page = readFileSync(join(unpacked, "README.md"), "utf8");
  const links = [...page.matchAll(/\]\(([^)]*)\)/g)].map(([, link]) => link);
  assert.deepEqual(links.filter((link) => !/^(https:\/\/|#)/.test(link)), []);
});
