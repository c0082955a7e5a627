// The TypeScript SDK 1.x client through every step; see flow.mjs.
//
// usage: sdk1_flow.mjs URL

import { listenForCallback, load, NAME, packageManifest, Provider, say, stale, steps } from "./flow.mjs";

const SDK = "@modelcontextprotocol/sdk";
const { Client } = await load(`${SDK}/client/index.js`);
const { StreamableHTTPClientTransport } = await load(`${SDK}/client/streamableHttp.js`);
const { UnauthorizedError } = await load(`${SDK}/client/auth.js`);
const { ElicitRequestSchema, LoggingMessageNotificationSchema, ProgressNotificationSchema } = await load(`${SDK}/types.js`);

const url = new URL(process.argv[2]);
const callback = await listenForCallback();
const provider = new Provider("TypeScript SDK 1", callback.url);
const { version } = packageManifest(SDK);
const client = new Client({ name: "test", version }, { capabilities: { elicitation: { form: {} } } });
const seen = { progress: [], logs: [] };
client.setNotificationHandler(ProgressNotificationSchema, ({ params }) => seen.progress.push([params.progress, params.total]));
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => seen.logs.push(params.data.msg));
client.setRequestHandler(ElicitRequestSchema, () => ({ action: "accept", content: { name: NAME } }));

let transport = new StreamableHTTPClientTransport(url, { authProvider: provider });
try {
  await client.connect(transport);
  throw new Error("connected without a token");
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
await transport.finishAuth((await callback.parameters()).get("code"));
transport = new StreamableHTTPClientTransport(url, { authProvider: provider });
await client.connect(transport);
say("connect", { client: `${SDK} ${version}` });
await steps(client, seen, () => stale(provider));
await transport.terminateSession();
await client.close();
