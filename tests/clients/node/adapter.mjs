// Stands between the conformance suite, which can send no token, and a project's URL: adds the
// token and changes nothing else. Its own host becomes the project's; any other Host goes through
// as it came, because one scenario looks at what the server says to a foreign one.
//
// usage: adapter.mjs PLATFORM-PORT PROJECT-HOST, the token in TEST_ACCESS_TOKEN; prints its port

import { createServer, request } from "node:http";

const [port, host] = process.argv.slice(2);
const authorization = `Bearer ${process.env.TEST_ACCESS_TOKEN}`;

const server = createServer((incoming, outgoing) => {
  const headers = { ...incoming.headers, authorization };
  if (headers.host === `localhost:${server.address().port}`) headers.host = `${host}:${port}`;
  const onward = request({ host: "127.0.0.1", port, method: incoming.method, path: incoming.url, headers });
  onward.on("response", (answer) => {
    outgoing.writeHead(answer.statusCode, answer.rawHeaders);
    outgoing.flushHeaders();
    answer.pipe(outgoing);
  });
  onward.on("error", () => outgoing.destroy());
  outgoing.on("close", () => onward.destroy());
  incoming.pipe(onward);
});
server.listen(0, "localhost", () => console.log(server.address().port));
