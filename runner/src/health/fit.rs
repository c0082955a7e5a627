//! Keeps what a stranger's server says of itself within what the platform carries around.

use serde_json::Value;

use crate::protocol::Surface;

/// Most bytes of a surface, as JSON. It travels with every sync and stands in the database with
/// every deployment; real servers need a tenth of it.
const MAX_SURFACE_BYTES: usize = 256 * 1024;

/// Most bytes of each part that is not a list: server info, capabilities, instructions.
const MAX_PART_BYTES: usize = 16 * 1024;

/// Cuts a surface to its limits and takes out NUL, which Postgres keeps in no text.
pub fn fit(surface: &mut Surface) {
    surface.protocol_version = clean(&surface.protocol_version, 64);
    for version in &mut surface.protocol_versions {
        *version = clean(version, 64);
    }
    surface.instructions = surface
        .instructions
        .as_deref()
        .map(|text| clean(text, MAX_PART_BYTES));
    let mut left = MAX_SURFACE_BYTES;
    for part in [&mut surface.server_info, &mut surface.capabilities] {
        without_nul(part);
        if part.to_string().len() > MAX_PART_BYTES {
            *part = Value::Null;
        }
        left -= part.to_string().len();
    }
    left -= surface.instructions.as_ref().map_or(0, String::len);
    let lists = [
        &mut surface.tools,
        &mut surface.prompts,
        &mut surface.resources,
        &mut surface.resource_templates,
    ];
    for list in lists {
        list.retain_mut(|entry| {
            without_nul(entry);
            let size = entry.to_string().len();
            let fits = size <= left;
            if fits {
                left -= size;
            }
            fits
        });
    }
}

/// Without NUL, and at most `most` bytes, cut between characters.
fn clean(text: &str, most: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(most));
    text
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(entries) => entries.iter_mut().for_each(without_nul),
        Value::Object(fields) => {
            if fields.keys().any(|name| name.contains('\0')) {
                let named = std::mem::take(fields);
                fields.extend(
                    named
                        .into_iter()
                        .map(|(name, v)| (name.replace('\0', "\u{fffd}"), v)),
                );
            }
            fields.values_mut().for_each(without_nul);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nul_and_excess_are_taken_out() {
        let big = "x".repeat(MAX_SURFACE_BYTES);
        let mut surface = Surface {
            instructions: Some(format!("a\0b{big}")),
            server_info: json!({ "name": "s\0", "big": big }),
            capabilities: json!({ "tools": {} }),
            tools: vec![
                json!({ "name": "one\0", "n\0": 1 }),
                json!({ "name": big }),
                json!({ "name": "two" }),
            ],
            ..Surface::default()
        };
        fit(&mut surface);
        assert_eq!(surface.server_info, Value::Null);
        assert_eq!(
            surface.tools,
            [
                json!({ "name": "one\u{fffd}", "n\u{fffd}": 1 }),
                json!({ "name": "two" })
            ]
        );
        let text = serde_json::to_string(&surface).unwrap();
        assert!(text.len() < MAX_SURFACE_BYTES + 1_024, "{}", text.len());
        assert!(!text.contains("\\u0000"));
    }
}
