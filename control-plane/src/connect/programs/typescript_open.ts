// npm install @modelcontextprotocol/client
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const client = new Client({ name: "my-program", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL("https://project.example/mcp")));
const { tools } = await client.listTools();
console.log(tools.map((tool) => tool.name));
await client.close();
