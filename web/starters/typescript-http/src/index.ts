// An MCP server over Streamable HTTP with the official TypeScript SDK.
import { randomInt, randomUUID } from "node:crypto";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

function server(): McpServer {
  const made = new McpServer({ name: "dice", version: "1.0.0" });
  made.registerTool(
    "roll",
    {
      description: "Roll dice and add them up.",
      inputSchema: { dice: z.number().int().min(1).max(100), sides: z.number().int().min(1).max(1000) },
    },
    async ({ dice, sides }: { dice: number; sides: number }) => {
      let sum = 0;
      for (let rolled = 0; rolled < dice; rolled++) sum += randomInt(sides) + 1;
      return { content: [{ type: "text", text: String(sum) }] };
    },
  );
  return made;
}

// One transport for each MCP session.
const sessions = new Map<string, StreamableHTTPServerTransport>();
const app = createMcpExpressApp();
app.all("/mcp", async (request, response) => {
  const id = request.header("mcp-session-id");
  let transport = id ? sessions.get(id) : undefined;
  if (id && !transport) {
    response.status(404).json({ jsonrpc: "2.0", id: null, error: { code: -32001, message: "Session not found" } });
    return;
  }
  if (!transport) {
    const made = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (session) => void sessions.set(session, made),
    });
    made.onclose = () => void (made.sessionId && sessions.delete(made.sessionId));
    await server().connect(made);
    transport = made;
  }
  await transport.handleRequest(request, response, request.body);
});

// Berth says on which port.
const listener = app.listen(Number(process.env.PORT ?? 8000), "0.0.0.0");
process.on("SIGTERM", () => {
  listener.close();
  process.exit(0);
});
