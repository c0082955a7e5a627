// The TypeScript SDK 2.x client through every step, newest revision first; see flow.mjs.
//
// usage: sdk2_flow.mjs URL

import { listenForCallback, load, NAME, packageManifest, Provider, say, stale, steps, stepUp } from "./flow.mjs";

const SDK = "@modelcontextprotocol/client";
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await load(SDK);

const url = new URL(process.argv[2]);
const callback = await listenForCallback();
const provider = new Provider("TypeScript SDK 2", callback.url);
const { version } = packageManifest(SDK);
const client = new Client(
  { name: "test", version },
  { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: "auto" } },
);
const seen = { progress: [], logs: [] };
client.setNotificationHandler("notifications/progress", ({ params }) => seen.progress.push([params.progress, params.total]));
client.setNotificationHandler("notifications/message", ({ params }) => seen.logs.push(params.data.msg));
client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: { name: NAME } }));

let transport = new StreamableHTTPClientTransport(url, { authProvider: provider });
try {
  await client.connect(transport);
  throw new Error("connected without a token");
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
await transport.finishAuth(await callback.parameters());
transport = new StreamableHTTPClientTransport(url, { authProvider: provider });
await client.connect(transport);
say("connect", { client: `${SDK} ${version}`, revision: client.getNegotiatedProtocolVersion?.() });
const finishAuth = async (refused) => {
  if (!(refused instanceof UnauthorizedError)) throw new Error(`called without the scope: ${refused}`);
  await transport.finishAuth(await callback.parameters());
};
await steps(
  client,
  seen,
  () => stale(provider),
  (call) => stepUp(provider, finishAuth, call),
);
await client.close();
