// A stdio server of the official SDK with what passes both ways: progress, a request of the server's
// own, cancellation, a stray line, an end in the middle of a call.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "stdio", version: "1.0.0" });
const text = (value) => ({ content: [{ type: "text", text: String(value) }] });
let waiting = 0;
let canceled = 0;

server.registerTool("add", { inputSchema: { a: z.number(), b: z.number() } }, async ({ a, b }) => text(a + b));
server.registerTool("process", {}, async () => text(process.pid));
server.registerTool("environment", { inputSchema: { name: z.string() } }, async ({ name }) => text(process.env[name] ?? "absent"));
server.registerTool("waiting", {}, async () => text(waiting));
server.registerTool("canceled", {}, async () => text(canceled));
server.registerTool("count", { inputSchema: { to: z.number() } }, async ({ to }, { _meta, sendNotification }) => {
  for (let step = 1; step <= to; step++) {
    const params = { progressToken: _meta.progressToken, progress: step, total: to };
    await sendNotification({ method: "notifications/progress", params });
  }
  return text(to);
});
server.registerTool("ask", {}, async () => {
  const answer = await server.server.elicitInput({
    message: "Your name?",
    requestedSchema: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
  });
  return text(answer.content?.name ?? answer.action);
});
server.registerTool("wait", {}, ({ signal }) => new Promise((_, reject) => {
  waiting += 1;
  signal.addEventListener("abort", () => { canceled += 1; reject(new Error("canceled")); });
}));
server.registerTool("end", {}, async () => process.exit(7));

console.log("a line that is no message");
await server.connect(new StdioServerTransport());
