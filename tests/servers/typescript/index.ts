import { randomUUID } from "node:crypto";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

function server(): McpServer {
  const made = new McpServer({ name: "typescript", version: "1.0.0" });
  made.registerTool(
    "add",
    { description: "Adds.", inputSchema: { a: z.number(), b: z.number() } },
    async ({ a, b }: { a: number; b: number }) => ({ content: [{ type: "text", text: String(a + b) }] }),
  );
  return made;
}

const sessions = new Map<string, StreamableHTTPServerTransport>();
const app = createMcpExpressApp();
app.all("/mcp", async (request, response) => {
  const id = request.header("mcp-session-id");
  let transport = id ? sessions.get(id) : undefined;
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (made) => void sessions.set(made, transport!),
    });
    await server().connect(transport);
  }
  await transport.handleRequest(request, response, request.body);
});
const listener = app.listen(Number(process.env.PORT), "0.0.0.0", () => console.log("listening"));
process.on("SIGTERM", () => { console.log("stopping"); listener.close(); process.exit(0); });
