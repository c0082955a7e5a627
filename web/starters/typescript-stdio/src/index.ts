// An MCP server over stdio with the official TypeScript SDK. Berth serves it over HTTP, with a process for each session.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "text-tools", version: "1.0.0" });

server.registerTool(
  "slug",
  { description: "Turn a title into a part of an address.", inputSchema: { title: z.string() } },
  async ({ title }: { title: string }) => {
    const plain = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    const text = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
    return { content: [{ type: "text", text }] };
  },
);

// Standard output is for messages; write to standard error what is for people.
console.error("text-tools is ready");
await server.connect(new StdioServerTransport());
