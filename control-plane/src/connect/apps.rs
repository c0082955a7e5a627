//! Apps, editors and agents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::{
    Credential, EXPORT_TOKEN, Kind, Snippet, TOKEN_PLACEHOLDER, TOKEN_VARIABLE, Target, Told,
};

const REPLACE_TOKEN: &str = "Replace brt_… with an API token; keep the file to yourself then.";
const NO_TOKENS: &str = "It takes no API token, so it signs in.";

/// `{ "type": "http" (or "sse"), "url": … }`, with the token's header where one is shown.
fn server(target: &Target, credential: Credential, token: &str) -> Value {
    let mut server = json!({ "type": target.transport(), "url": target.url_for(credential) });
    if credential == Credential::ApiToken {
        server["headers"] = json!({ "Authorization": format!("Bearer {token}") });
    }
    server
}

/// `{ "mcpServers": { NAME: … } }`
fn servers(target: &Target, server: &Value) -> Value {
    json!({ "mcpServers": { target.name.as_str(): server } })
}

/// `--header "Authorization: Bearer …"` where a token is shown.
pub(super) fn header_option(credential: Credential) -> String {
    if credential == Credential::ApiToken {
        format!(" --header \"Authorization: Bearer {TOKEN_PLACEHOLDER}\"")
    } else {
        String::new()
    }
}

/// As JavaScript's `encodeURIComponent` writes it: a space is `%20`, since not every reader takes
/// `+` for one.
fn encode(text: &str) -> String {
    byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// Says who cannot reach the project, where nobody from outside can.
fn reach(told: Told, target: &Target, whose: &str) -> Told {
    told.note_if(
        target.is_local(),
        format!(
            "{whose} connects from the servers of its maker, and {} is reachable from your own machine or network only: give the platform a public address first.",
            target.url
        ),
    )
    .note_if(
        !target.is_local() && !target.is_https(),
        format!("{whose} connects by https only: put the platform behind a certificate first."),
    )
}

/// A credential for clients that take no token.
fn without_token(credential: Credential) -> Credential {
    match credential {
        Credential::ApiToken => Credential::SignIn,
        other => other,
    }
}

fn connector_steps(target: &Target, credential: Credential) -> Snippet {
    let mut steps = vec![
        "Open Customize, then Connectors (in older versions Settings, then Connectors).".to_owned(),
        "Choose + and Add custom connector.".to_owned(),
        format!(
            "Name it {} and give it this URL: {}",
            target.name, target.url
        ),
    ];
    if credential == Credential::SignIn {
        steps.push("Choose Connect and sign in.".to_owned());
    }
    Snippet::steps(&steps)
}

pub(super) fn claude(target: &Target, credential: Credential) -> Told {
    let shown = without_token(credential);
    let told = Told::new(shown, vec![connector_steps(target, shown)])
        .note_if(shown != credential, NO_TOKENS)
        .note("In Team and Enterprise plans an owner adds it first, under the organization's settings.");
    reach(told, target, "Claude")
}

/// Connectors of Claude Desktop are called from Anthropic's servers too; only a local bridge calls
/// from this machine, and takes a token.
pub(super) fn claude_desktop(target: &Target, credential: Credential) -> Told {
    let bridge = Snippet::json(
        "claude_desktop_config.json",
        &servers(target, &bridge(target, credential)),
    );
    let node = "The file starts mcp-remote, a bridge that needs Node 18 or newer; Claude opens the file under Settings, Developer, Edit Config.";
    if credential == Credential::ApiToken {
        return Told::new(credential, vec![bridge])
            .note(node)
            .note(REPLACE_TOKEN);
    }
    let steps = connector_steps(target, credential);
    if target.is_local() || !target.is_https() {
        return Told::new(credential, vec![bridge]).note(node).note(
            "Its connectors are called from Anthropic's servers, which cannot reach this address.",
        );
    }
    Told::new(credential, vec![steps, bridge]).note(node)
}

fn bridge(target: &Target, credential: Credential) -> Value {
    let mut bridge = json!({ "command": "npx" });
    if credential == Credential::ApiToken {
        bridge["env"] = json!({ "AUTHORIZATION": format!("Bearer {TOKEN_PLACEHOLDER}") });
    }
    bridge["args"] = json!(bridge_arguments(target, credential));
    bridge
}

/// What `npx` is told to start mcp-remote, which connects for clients that cannot.
fn bridge_arguments(target: &Target, credential: Credential) -> Vec<&str> {
    let mut arguments = vec!["-y", "mcp-remote", target.url_for(credential)];
    if !target.is_https() {
        arguments.push("--allow-http");
    }
    if target.is_sse() {
        arguments.extend(["--transport", "sse-only"]);
    }
    if credential == Credential::ApiToken {
        // Without a space: on Windows it would be split there.
        arguments.extend(["--header", "Authorization:${AUTHORIZATION}"]);
    }
    arguments
}

pub(super) fn claude_code(target: &Target, credential: Credential) -> Told {
    let command = format!(
        "claude mcp add --transport {} {} {}{}",
        target.transport(),
        target.name,
        target.url_for(credential),
        header_option(credential)
    );
    let file = server(target, credential, &format!("${{{TOKEN_VARIABLE}}}"));
    let told = Told::new(
        credential,
        vec![
            Snippet::new(Kind::Command, command),
            Snippet::json(".mcp.json", &servers(target, &file)),
        ],
    );
    match credential {
        Credential::SignIn => told.note("Then run /mcp in Claude Code and sign in."),
        Credential::ApiToken => told.note(
            "In the command, replace brt_… with an API token; the file reads it from the variable MCP_TOKEN, since it is shared with the repository.",
        ),
        Credential::None => told,
    }
}

pub(super) fn chatgpt(target: &Target, credential: Credential) -> Told {
    let shown = without_token(credential);
    let authentication = if shown == Credential::None {
        "As authentication choose No authentication, and create it."
    } else {
        "As authentication choose OAuth, create it, and sign in."
    };
    let steps = Snippet::steps(&[
        "On the web, open Settings, then Apps, then Advanced settings, and turn on Developer mode."
            .to_owned(),
        "Under Settings, Apps, choose Create app.".to_owned(),
        format!(
            "Name it {} and give it this MCP server URL: {}",
            target.name, target.url
        ),
        authentication.to_owned(),
    ]);
    let told = Told::new(shown, vec![steps])
        .note_if(shown != credential, NO_TOKENS)
        .note("The menus differ between plans and versions; newer ones have it under Plugins, +, Add custom MCP server.");
    reach(told, target, "ChatGPT")
}

pub(super) fn cursor(target: &Target, credential: Credential) -> Told {
    // Cursor knows a remote server by its `url`.
    let mut server = server(target, credential, TOKEN_PLACEHOLDER);
    if let Some(server) = server.as_object_mut() {
        server.remove("type");
    }
    let file = Snippet::json("~/.cursor/mcp.json", &servers(target, &server));
    if credential == Credential::ApiToken {
        return Told::new(credential, vec![file]).note(REPLACE_TOKEN);
    }
    let link = format!(
        "cursor://anysphere.cursor-deeplink/mcp/install?name={}&config={}",
        encode(&target.name),
        encode(&STANDARD.encode(server.to_string()))
    );
    Told::new(credential, vec![Snippet::new(Kind::Link, link), file])
        .note("For one repository only, write the file as .cursor/mcp.json there.")
}

pub(super) fn vscode(target: &Target, credential: Credential) -> Told {
    if credential == Credential::ApiToken {
        let id = format!("{}-token", target.name);
        let server = server(target, credential, &format!("${{input:{id}}}"));
        let file = json!({
            "inputs": [{
                "type": "promptString", "id": id, "password": true,
                "description": format!("API token for {}", target.name),
            }],
            "servers": { target.name.as_str(): server },
        });
        return Told::new(credential, vec![Snippet::json(".vscode/mcp.json", &file)])
            .note("VS Code asks for the API token when it starts the server, and keeps it apart from the file.");
    }
    let mut server = server(target, credential, "");
    let file = json!({ "servers": { target.name.as_str(): server.clone() } });
    server["name"] = json!(target.name);
    let server = server.to_string();
    let link = format!("vscode:mcp/install?{}", encode(&server));
    Told::new(
        credential,
        vec![
            Snippet::new(Kind::Link, link),
            // JSON of a host label and a URL has no single quote in it.
            Snippet::new(Kind::Command, format!("code --add-mcp '{server}'")),
            Snippet::json(".vscode/mcp.json", &file),
        ],
    )
}

pub(super) fn codex(target: &Target, credential: Credential) -> Told {
    if target.is_sse() {
        return codex_by_bridge(target, credential);
    }
    let url = target.url_for(credential);
    let mut command = format!("codex mcp add {} --url {url}", target.name);
    // A host label is a bare key of TOML, and a URL has no quote or backslash in it.
    let mut table = format!("[mcp_servers.{}]\nurl = \"{url}\"", target.name);
    if credential == Credential::ApiToken {
        command.push_str(&[" --bearer-token-env-var ", TOKEN_VARIABLE].concat());
        table.push_str(&["\nbearer_token_env_var = \"", TOKEN_VARIABLE, "\""].concat());
    }
    let file = Snippet {
        path: Some("~/.codex/config.toml"),
        ..Snippet::new(Kind::Toml, table)
    };
    let told = Told::new(credential, vec![Snippet::new(Kind::Command, command), file]);
    match credential {
        Credential::SignIn => told.note(format!(
            "If no browser opens, or with the file, run: codex mcp login {}.",
            target.name
        )),
        Credential::ApiToken => told.note(EXPORT_TOKEN),
        Credential::None => told,
    }
}

/// Codex itself has Streamable HTTP only.
fn codex_by_bridge(target: &Target, credential: Credential) -> Told {
    // JSON's strings and lists are TOML's too.
    let arguments = json!(bridge_arguments(target, credential));
    let mut table = format!(
        "[mcp_servers.{}]\ncommand = \"npx\"\nargs = {arguments}",
        target.name
    );
    if credential == Credential::ApiToken {
        table += "\nenv = { AUTHORIZATION = \"Bearer ";
        table += TOKEN_PLACEHOLDER;
        table += "\" }";
    }
    let file = Snippet {
        path: Some("~/.codex/config.toml"),
        ..Snippet::new(Kind::Toml, table)
    };
    Told::new(credential, vec![file])
        .note("It starts mcp-remote, a bridge that needs Node 18 or newer.")
        .note_if(credential == Credential::ApiToken, REPLACE_TOKEN)
}

pub(super) fn gemini(target: &Target, credential: Credential) -> Told {
    let command = format!(
        "gemini mcp add --scope user --transport {} {} {}{}",
        target.transport(),
        target.name,
        target.url_for(credential),
        header_option(credential)
    );
    let file = servers(
        target,
        &server(target, credential, &format!("${TOKEN_VARIABLE}")),
    );
    let told = Told::new(
        credential,
        vec![
            Snippet::new(Kind::Command, command),
            Snippet::json("~/.gemini/settings.json", &file),
        ],
    );
    match credential {
        Credential::SignIn => told.note(format!(
            "Then run /mcp auth {} in Gemini CLI and sign in.",
            target.name
        )),
        Credential::ApiToken => told.note(
            "In the command, replace brt_… with an API token; the file reads it from the variable MCP_TOKEN.",
        ),
        Credential::None => told,
    }
}
