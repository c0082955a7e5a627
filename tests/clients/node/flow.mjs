// What the Node clients under test share; the counterpart of ../python/flow.py.
//
// A client prints one JSON line per step, `{"step": …, "saw": …}`; after `waiting` it goes on when
// a line stands on its standard input.

import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

export const NAME = "Ada";

// The packages lie in the tests' cache, not beside these programs.
const packages = createRequire(join(process.env.TEST_NODE_PACKAGES, "package.json"));

/** Loads an installed package's module, for example `load("@modelcontextprotocol/client")`. */
export function load(specifier) {
  return import(pathToFileURL(resolveModule(specifier)));
}

function resolveModule(specifier) {
  const [name, rest] = split(specifier);
  const manifest = packageManifest(name);
  const entry = manifest.exports?.[rest ? `./${rest}` : "."] ?? manifest.exports?.["./*"];
  let target = entry;
  while (typeof target === "object") target = target.import ?? target.default;
  return join(packageDirectory(name), target.replace("*", rest));
}

function split(specifier) {
  const parts = specifier.split("/");
  const length = specifier.startsWith("@") ? 2 : 1;
  return [parts.slice(0, length).join("/"), parts.slice(length).join("/")];
}

/** Where a package is installed. */
export function packageDirectory(name) {
  return join(process.env.TEST_NODE_PACKAGES, "node_modules", name);
}

/** A package's own package.json. */
export function packageManifest(name) {
  return packages(join(packageDirectory(name), "package.json"));
}

/** The file of one of a package's programs. */
export function program(name, command) {
  return join(packageDirectory(name), packageManifest(name).bin[command]);
}

/** One step is done; the test decides whether what was seen is right. */
export function say(step, saw = {}) {
  process.stdout.write(`${JSON.stringify({ step, saw })}\n`);
}

/** Waits until the test has put another deployment in place. */
export async function redeployed() {
  const input = createInterface({ input: process.stdin });
  say("waiting");
  await once(input, "line");
  input.close();
}

/** Hands a URL to the test, which has the browser; whole or not at all. */
export function openInBrowser(url) {
  const target = process.env.TEST_URL_FILE;
  writeFileSync(`${target}.part`, String(url));
  renameSync(`${target}.part`, target);
}

/** Listens where the authorization server sends the browser back to. */
export async function listenForCallback() {
  const answers = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    response.setHeader("connection", "close").end("done");
    if (url.pathname !== "/callback") return;
    answers.push(url.searchParams);
    server.emit("answer");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  server.unref();
  return {
    url: `http://127.0.0.1:${server.address().port}/callback`,
    /** What the browser brings next. Only who waits for it is kept from ending. */
    async parameters() {
      server.ref();
      if (answers.length === 0) await once(server, "answer");
      server.unref();
      return answers.shift();
    },
  };
}

/**
 * What both TypeScript SDKs want of an application: everything kept in memory. With `stale` set,
 * the access token shown is one that the edge refuses, as it refuses one that expired.
 */
export class Provider {
  stale = false;
  #client;
  #discovered;
  #tokens;
  #verifier;

  constructor(name, redirectUrl) {
    this.redirectUrl = redirectUrl;
    this.clientMetadata = {
      client_name: name,
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }

  clientInformation() {
    return this.#client;
  }

  saveClientInformation(client) {
    this.#client = client;
  }

  tokens() {
    return this.stale ? { ...this.#tokens, access_token: "expired" } : this.#tokens;
  }

  saveTokens(tokens) {
    this.stale = false;
    this.#tokens = tokens;
  }

  redirectToAuthorization(url) {
    openInBrowser(url);
  }

  saveDiscoveryState(state) {
    this.#discovered = state;
  }

  discoveryState() {
    return this.#discovered;
  }

  saveCodeVerifier(verifier) {
    this.#verifier = verifier;
  }

  codeVerifier() {
    return this.#verifier;
  }
}

/**
 * The steps after connecting, for the clients of both TypeScript SDKs. `seen` is filled by their
 * handlers of notifications: a client's own `onprogress` ends with the call, and stdio brings the
 * last progress and the result in one read.
 */
export async function steps(client, seen, makeStale, stepUp) {
  // From 2026-07-28 on, each request asks for log messages by itself.
  const _meta = { progressToken: "steps", "io.modelcontextprotocol/logLevel": "info" };
  const call = async (name, args = {}) => text(await client.callTool({ name, arguments: args, _meta }));
  const { tools } = await client.listTools();
  say("list", { tools: tools.map((tool) => tool.name).sort() });
  say("call", { text: await call("add", { a: 40, b: 2 }) });
  const worked = await call("work", { steps: 3 });
  say("notifications", { text: worked, ...seen });
  say("input", { text: await call("ask") });
  const isRenewed = makeStale();
  const sum = await call("add", { a: 1, b: 1 });
  say("refresh", { text: sum, renewed: isRenewed() });
  await stepUp?.(() => call("add", { a: 2, b: 2 }));
  const before = await call("commit");
  await redeployed();
  say("redeploy", { before, after: await call("commit") });
}

/** For `steps`: makes the access token of a provider stale, and tells whether it was renewed. */
export function stale(provider) {
  const before = provider.tokens().access_token;
  provider.stale = true;
  return () => !provider.stale && provider.tokens().access_token !== before;
}

/**
 * For `steps`: goes on with a token that lacks the scope to call, which the edge says, and gets it
 * by asking again. Only who was granted two scopes can be left with the wrong one (RFC 6749
 * section 6).
 */
export async function stepUp(provider, finishAuth, call) {
  const { token_endpoint: endpoint } = provider.discoveryState().authorizationServerMetadata;
  const form = {
    grant_type: "refresh_token",
    refresh_token: provider.tokens().refresh_token,
    client_id: provider.clientInformation().client_id,
    scope: "offline_access",
  };
  const answer = await fetch(endpoint, { method: "POST", body: new URLSearchParams(form) });
  const narrow = await answer.json();
  provider.saveTokens({ ...provider.tokens(), ...narrow });
  say("stepping_up");
  const refused = await call().catch((error) => error);
  await finishAuth(refused);
  const sum = await call();
  say("step_up", { text: sum, renewed: provider.tokens().access_token !== narrow.access_token });
}

/** The text of a tool's result. */
export function text(result) {
  return result.content[0].text;
}
