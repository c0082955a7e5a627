// npm install @modelcontextprotocol/client
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import {
  Client,
  StreamableHTTPClientTransport,
  UnauthorizedError,
  type OAuthClientProvider,
} from "@modelcontextprotocol/client";

const url = new URL("https://project.example/mcp");

// Where the browser comes back to after signing in.
const listener = createServer((_, response) => response.end("You can close this page."));
await once(listener.listen(0, "127.0.0.1"), "listening");
const redirectUrl = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/callback`;

// Keeps what it is given for as long as the program runs; keep it in a file to sign in once.
const state = crypto.randomUUID();
const kept: Record<string, any> = {};
const authProvider: OAuthClientProvider = {
  redirectUrl,
  clientMetadata: { client_name: "My program", redirect_uris: [redirectUrl] },
  state: () => state,
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
  redirectToAuthorization: (page) => console.error(`Sign in at ${page}`),
};

const client = new Client({ name: "my-program", version: "1.0.0" });
const transport = () => new StreamableHTTPClientTransport(url, { authProvider });
const first = transport();
const answer = once(listener, "request");
try {
  await client.connect(first);
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
  const [request] = await answer;
  const query = new URL(request.url, redirectUrl).searchParams;
  if (query.get("state") !== state) throw new Error("This answer is not ours.");
  await first.finishAuth(query);
  await client.connect(transport());
}
const { tools } = await client.listTools();
console.log(tools.map((tool) => tool.name));
await client.close();
listener.close();
