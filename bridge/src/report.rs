//! The lines that the runner reads from the instance's output: `@@berth {json}`.

use serde_json::json;

use crate::lines;

/// Begins such a line.
const MARKER: &str = "@@berth ";

/// The server can be asked; `notice` is one sentence for its owner.
pub fn serving(kind: &str, port: u16, notice: Option<&str>) {
    let event = json!({"phase": "serve", "kind": kind, "port": port, "notice": notice});
    lines::log(format!("{MARKER}{event}").as_bytes());
}

/// A sentence of the bridge's own in the instance's log.
pub fn say(text: &str) {
    lines::log(text.as_bytes());
}
