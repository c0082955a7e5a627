// The Inspector's command-line mode through every step: one run per step, tokens kept in its home;
// see flow.mjs.
//
// usage: inspector_flow.mjs URL

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { openInBrowser, packageManifest, program, redeployed, say, text } from "./flow.mjs";

const NAME = "@modelcontextprotocol/inspector";
const INSPECTOR = program(NAME, "mcp-inspector");

// Its usual port is one for the whole machine.
const probe = createServer().listen(0, "127.0.0.1");
await once(probe, "listening");
const callback = `http://127.0.0.1:${probe.address().port}/oauth/callback`;
probe.close();

/** One run; answers what it printed. */
async function inspect(...more) {
  const child = spawn(
    process.execPath,
    [
      ...[INSPECTOR, "--cli", "--server-url", process.argv[2], "--transport", "http"],
      ...["--callback-url", callback, "--format", "json", ...more],
    ],
    {
      // It signs in only where it believes a person to be, and without a keychain keeps nothing.
      env: {
        HOME: process.env.HOME,
        PATH: "/nonexistent",
        MCP_AUTO_OPEN_ENABLED: "true",
        MCP_INSPECTOR_SECRET_STORE: "file",
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  createInterface({ input: child.stderr }).on("line", (line) => {
    process.stderr.write(`${line}\n`);
    const found = /https?:\/\/\S+\/oauth\/authorize\?\S+/.exec(line);
    if (found) openInBrowser(found[0]);
  });
  let printed = "";
  child.stdout.on("data", (chunk) => (printed += chunk));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`exit code ${code}: ${printed}`);
  return JSON.parse(printed).result;
}

const call = async (tool, args = {}) =>
  text(await inspect("--method", "tools/call", "--tool-name", tool, "--tool-args-json", JSON.stringify(args)));

await inspect("--method", "initialize");
say("connect", { client: `${NAME} ${packageManifest(NAME).version}` });
const { tools } = await inspect("--method", "tools/list");
say("list", { tools: tools.map((tool) => tool.name).sort() });
say("call", { text: await call("add", { a: 40, b: 2 }) });
// It prints results alone; that they arrive behind notifications is what can be seen.
say("notifications", { text: await call("work", { steps: 3 }) });

// Its file of secrets holds JSON in JSON.
const secrets = join(process.env.HOME, ".mcp-inspector/secrets.json");
const accessToken = () => /access_token\\":\\"([^\\]+)/.exec(readFileSync(secrets, "utf8"))[1];
const before = accessToken();
writeFileSync(secrets, readFileSync(secrets, "utf8").replaceAll(before, "expired"));
const sum = await call("add", { a: 1, b: 1 });
say("refresh", { text: sum, renewed: ![before, "expired"].includes(accessToken()) });

const commit = await call("commit");
await redeployed();
say("redeploy", { before: commit, after: await call("commit") });
