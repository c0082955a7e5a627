//! Tools for developers, and programs. A program that is given a token starts no sign-in, so these
//! use the project's own URL throughout, but for the Inspector, which looks for one.

use serde_json::json;

use super::apps::header_option;
use super::{Credential, EXPORT_TOKEN, Kind, Snippet, Target, Told};
use crate::access::Mode;

/// The address in the programs beside this file, so that they are whole programs there.
const URL_IN_PROGRAMS: &str = "https://project.example/mcp";

/// The revision that curl's handshake offers; servers answer with the one they speak.
const CURL_REVISION: &str = "2025-11-25";

/// The options with which curl opens a stream of HTTP+SSE.
const LISTEN: &str = "--header \"Accept: text/event-stream\"";

const INSPECTOR_NODE: &str = "It needs Node 22.19 or newer.";

/// A program for each credential.
struct Program {
    sign_in: &'static str,
    api_token: &'static str,
    open: &'static str,
}

const FASTMCP: Program = Program {
    sign_in: include_str!("programs/fastmcp_sign_in.py"),
    api_token: include_str!("programs/fastmcp_api_token.py"),
    open: include_str!("programs/fastmcp_open.py"),
};

const PYTHON: Program = Program {
    sign_in: include_str!("programs/python_sign_in.py"),
    api_token: include_str!("programs/python_api_token.py"),
    open: include_str!("programs/python_open.py"),
};

const PYTHON_SSE: Program = Program {
    sign_in: include_str!("programs/python_sse_sign_in.py"),
    api_token: include_str!("programs/python_sse_api_token.py"),
    open: include_str!("programs/python_sse_open.py"),
};

const TYPESCRIPT: Program = Program {
    sign_in: include_str!("programs/typescript_sign_in.ts"),
    api_token: include_str!("programs/typescript_api_token.ts"),
    open: include_str!("programs/typescript_open.ts"),
};

impl Program {
    fn tell(&self, target: &Target, credential: Credential) -> Told {
        let program = match credential {
            Credential::SignIn => self.sign_in,
            Credential::ApiToken => self.api_token,
            Credential::None => self.open,
        };
        let text = program.replace(URL_IN_PROGRAMS, &target.url);
        Told::new(
            credential,
            vec![Snippet::new(Kind::Program, text.trim_end())],
        )
        .note_if(credential == Credential::ApiToken, EXPORT_TOKEN)
    }
}

pub(super) fn fastmcp(target: &Target, credential: Credential) -> Told {
    FASTMCP
        .tell(target, credential)
        .note("It works with FastMCP 2, 3 and 4.")
}

pub(super) fn python(target: &Target, credential: Credential) -> Told {
    let program = if target.is_sse() { PYTHON_SSE } else { PYTHON };
    program.tell(target, credential).note(
        "Version 1 of the SDK has other names; FastMCP's client is the same in all its versions.",
    )
}

pub(super) fn typescript(target: &Target, credential: Credential) -> Told {
    let mut told = TYPESCRIPT.tell(target, credential);
    if target.is_sse() {
        for program in &mut told.snippets {
            // The two are made and used alike.
            program.text = program
                .text
                .replace("StreamableHTTPClientTransport", "SSEClientTransport");
        }
    }
    told.note("Node 22.18 or newer runs it as it is, from a package with \"type\": \"module\".")
}

pub(super) fn inspector(target: &Target, credential: Credential) -> Told {
    let command = format!(
        "npx @modelcontextprotocol/inspector --server-url {} --transport {}{}",
        target.url_for(credential),
        target.transport(),
        header_option(credential)
    );
    inspect(command, credential).note_if(
        credential == Credential::SignIn,
        "Choose Connect in the page that opens, and sign in.",
    )
}

pub(super) fn inspector_cli(target: &Target, credential: Credential) -> Told {
    let transport = if target.is_sse() {
        " --transport sse"
    } else {
        ""
    };
    let command = format!(
        "npx @modelcontextprotocol/inspector --cli {}{transport} --method tools/list{}",
        target.url_for(credential),
        header_option(credential)
    );
    inspect(command, credential)
}

fn inspect(command: String, credential: Credential) -> Told {
    Told::new(credential, vec![Snippet::new(Kind::Command, command)])
        .note(INSPECTOR_NODE)
        .note_if(
            credential == Credential::ApiToken,
            "Replace brt_… with an API token.",
        )
}

pub(super) fn curl(target: &Target, credential: Credential) -> Told {
    // It has no way to sign in.
    let shown = match (credential, target.mode) {
        (Credential::SignIn, Mode::Platform) => Credential::ApiToken,
        (shown, _) => shown,
    };
    let token = if shown == Credential::ApiToken {
        " \\\n  --header \"Authorization: Bearer $MCP_TOKEN\""
    } else {
        ""
    };
    let command = format!(
        "curl --no-buffer --silent --show-error {}{token} \\\n  {}",
        target.url,
        if target.is_sse() {
            LISTEN.to_owned()
        } else {
            hello()
        }
    );
    let what = if target.is_sse() {
        "It opens the server's stream, whose first event names the address to post messages to."
    } else {
        "It asks the server who it is: the first message of a conversation."
    };
    Told::new(shown, vec![Snippet::new(Kind::Command, command)])
        .note(what)
        .note_if(shown == Credential::ApiToken, EXPORT_TOKEN)
        .note_if(
            shown == Credential::SignIn,
            "If the server wants a token, add it: --header \"Authorization: Bearer …\".",
        )
}

/// The options with which curl says hello.
fn hello() -> String {
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": CURL_REVISION, "capabilities": {},
            "clientInfo": { "name": "curl", "version": "1" },
        },
    });
    format!(
        "--header \"Accept: application/json, text/event-stream\" \\\n  \
         --header \"Content-Type: application/json\" \\\n  \
         --data '{hello}'"
    )
}
