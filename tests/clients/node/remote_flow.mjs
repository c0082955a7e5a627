// mcp-remote through every step: an MCP client on standard input and output starts it, as desktop
// programs do, and it connects; see flow.mjs.
//
// usage: remote_flow.mjs URL

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { load, NAME, openInBrowser, packageManifest, program, say, steps } from "./flow.mjs";

const SDK = "@modelcontextprotocol/sdk";
const { Client } = await load(`${SDK}/client/index.js`);
const { StdioClientTransport } = await load(`${SDK}/client/stdio.js`);
const { ElicitRequestSchema, LoggingMessageNotificationSchema, ProgressNotificationSchema } = await load(`${SDK}/types.js`);

const { version } = packageManifest("mcp-remote");
const directory = join(process.env.HOME, ".mcp-auth");
const transport = new StdioClientTransport({
  command: process.execPath,
  args: [program("mcp-remote", "mcp-remote"), process.argv[2], "--allow-http"],
  env: { HOME: process.env.HOME, PATH: "/nonexistent", MCP_REMOTE_CONFIG_DIR: directory },
  stderr: "pipe",
});
createInterface({ input: transport.stderr }).on("line", (line) => {
  process.stderr.write(`${line}\n`);
  // There is no desktop: it says what it would have opened.
  if (/^https?:\/\/\S+\/oauth\/authorize\?/.test(line.trim())) openInBrowser(line.trim());
});

const client = new Client({ name: "test", version }, { capabilities: { elicitation: {} } });
const seen = { progress: [], logs: [] };
client.setNotificationHandler(ProgressNotificationSchema, ({ params }) => seen.progress.push([params.progress, params.total]));
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => seen.logs.push(params.data.msg));
client.setRequestHandler(ElicitRequestSchema, () => ({ action: "accept", content: { name: NAME } }));
await client.connect(transport, { timeout: 120_000 });
say("connect", { client: `mcp-remote ${version}` });
await steps(client, seen, () => {
  const file = readdirSync(directory, { recursive: true }).find((name) => name.endsWith("_tokens.json"));
  const path = join(directory, file);
  const kept = JSON.parse(readFileSync(path));
  writeFileSync(path, JSON.stringify({ ...kept, expires_at: 1 }));
  return () => JSON.parse(readFileSync(path)).access_token !== kept.access_token;
});
await client.close();
