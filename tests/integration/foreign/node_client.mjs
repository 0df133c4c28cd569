// Node's own WebSocket: prints one JSON line for the open socket and one for each frame; ends after as many as asked for.
const [url, token, wanted] = process.argv.slice(2);
const socket = new WebSocket(url, ["tidings.v1", `bearer.${token}`]);
let left = Number(wanted);

const say = (line) => console.log(JSON.stringify(line));

socket.addEventListener("open", () => say({ protocol: socket.protocol }));
socket.addEventListener("message", (event) => {
  say({ frame: event.data });
  left -= 1;
  if (left === 0) socket.close(1000);
});
socket.addEventListener("close", (event) => {
  say({ code: event.code });
  process.exit(left === 0 ? 0 : 1);
});
socket.addEventListener("error", () => say({ error: true }));
