// npm install @modelcontextprotocol/client
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const client = new Client({ name: "my-program", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL("https://project.example/mcp"), {
  authProvider: { token: async () => process.env.MCP_TOKEN },
});
await client.connect(transport);
const { tools } = await client.listTools();
console.log(tools.map((tool) => tool.name));
await client.close();
