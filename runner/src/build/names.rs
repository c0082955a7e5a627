//! Which names a source may hold, and how a name is shown in a message.

use super::archive::Refusal;

/// Most bytes of one path, Linux' `PATH_MAX`.
pub const MAX_PATH_BYTES: usize = 4_096;
/// Most bytes of one component of a path, the `NAME_MAX` of Linux' file systems.
pub const MAX_NAME_BYTES: usize = 255;
/// Most characters of a name in a message.
const MAX_SHOWN_CHARS: usize = 120;

/// A name as the store keeps it: relative, no empty or `.` components. Refuses what could leave
/// the tree, be taken for a repository, or not be named in a message.
pub fn checked_name(raw: &[u8]) -> Result<String, Refusal> {
    let refuse = |reason| Refusal::Name {
        name: printable(raw),
        reason,
    };
    if raw.len() > MAX_PATH_BYTES {
        return Err(refuse("its path is longer than 4096 bytes"));
    }
    if raw.contains(&0) {
        return Err(refuse("its name holds a NUL byte"));
    }
    if raw.first() == Some(&b'/') {
        return Err(refuse("its path is absolute"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| refuse("its name is not UTF-8"))?;
    let mut name = String::with_capacity(text.len());
    for component in text.split('/') {
        match component {
            "" | "." => continue,
            ".." => return Err(refuse("its path holds `..`")),
            long if long.len() > MAX_NAME_BYTES => {
                return Err(refuse("a part of its path is longer than 255 bytes"));
            }
            git if is_git_directory(git) => return Err(refuse("it is inside a `.git` directory")),
            _ => {}
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(component);
    }
    Ok(name)
}

/// `.git` in every spelling that some file system folds onto it: letter case, the 8.3 short
/// name, and the code points that HFS+ ignores.
fn is_git_directory(component: &str) -> bool {
    let folded: String = component
        .chars()
        .filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
        .flat_map(char::to_lowercase)
        .collect();
    matches!(folded.trim_end_matches([' ', '.']), ".git" | "git~1")
}

/// Bytes of a name for a message.
pub fn printable(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.is_empty() {
        "(no name)".to_owned()
    } else {
        text
    }
}
