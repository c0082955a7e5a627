//! From an entry's change to lines of the user's own files.

use super::entry::Change;
use super::evidence::Evidence;
use super::pattern::{self, Values};
use super::requirement;
use crate::build::tree::FileTree;
use crate::protocol::Edit;

/// Most lines of one statement that are looked at.
const MAX_STATEMENT_LINES: usize = 60;
/// Longest line that is shown and changed.
const MAX_LINE_CHARS: usize = 200;

/// The edits of a change; empty where the lines cannot be known.
pub fn edits(change: &Change, evidence: &Evidence<'_>, values: &Values) -> Vec<Edit> {
    let Some(tree) = evidence.source else {
        return Vec::new();
    };
    let filled = |text: &str| pattern::fill(text, values);
    let wanted = match change {
        Change::None => None,
        Change::Replace(pairs) => replace(tree, evidence, values, pairs),
        Change::Drop(names) => {
            let names: Option<Vec<String>> = names.iter().map(|name| filled(name)).collect();
            names.and_then(|names| drop_arguments(tree, evidence, &names))
        }
        Change::Require(text) => {
            filled(text).and_then(|text| requirement::require(tree, evidence.dependencies, &text))
        }
        Change::Extra(package, extra) => {
            requirement::extra(tree, evidence.dependencies, package, extra)
        }
        Change::Unpin(package) => filled(package)
            .and_then(|package| requirement::unpin(tree, evidence.dependencies, &package)),
        Change::Forgo(package) => filled(package)
            .and_then(|package| requirement::forgo(tree, evidence.dependencies, &package)),
        Change::Swap(pairs) => pairs
            .iter()
            .find(|(package, _)| values.get("package").is_some_and(|found| found == package))
            .and_then(|(package, other)| {
                requirement::swap(tree, evidence.dependencies, package, other)
            }),
        Change::PathInSource => path_in_source(tree, evidence, values),
        Change::PathInData => path_in_data(tree, evidence, values),
    };
    wanted.unwrap_or_default()
}

/// How the edits read, one sentence each; empty for an edit that the fix's own words already say.
pub fn describe(edits: &[Edit], fix: &str) -> String {
    let mut text = String::new();
    for edit in edits {
        let sentence = match (edit.line, &edit.old, &edit.new) {
            (Some(line), Some(old), Some(new)) => format!(
                "In {} line {line}, write `{}` instead of `{}`.",
                edit.file,
                new.trim().replace('\n', "` and on the next line `"),
                old.trim()
            ),
            (Some(line), _, None) => format!("Remove line {line} of {}.", edit.file),
            (_, _, Some(new)) if fix.contains(new.trim()) => continue,
            (_, _, Some(new)) => format!("Add the line `{}` to {}.", new.trim(), edit.file),
            (None, _, None) => continue,
        };
        text.push(' ');
        text.push_str(&sentence);
    }
    text
}

/// The edit that makes `new` of a line, which must differ; `None` removes it.
pub fn at(file: &str, index: usize, old: &str, new: Option<String>) -> Option<Edit> {
    let fits = |text: &str| text.chars().count() <= MAX_LINE_CHARS;
    (fits(old) && new.as_deref().is_none_or(|new| fits(new) && new != old)).then(|| Edit {
        file: file.to_owned(),
        line: Some(index as u64 + 1),
        old: Some(old.to_owned()),
        new,
    })
}

/// The failing statement: its file, the index of its first line, its lines.
fn statement<'a>(
    tree: &FileTree,
    evidence: &'a Evidence<'_>,
) -> Option<(&'a str, usize, Vec<String>)> {
    let file = evidence.file?;
    let first = usize::try_from(evidence.line?).ok()?.checked_sub(1)?;
    let text = tree.text(file)?;
    let mut open = 0_i64;
    let mut lines = Vec::new();
    for line in text.lines().skip(first).take(MAX_STATEMENT_LINES) {
        lines.push(line.to_owned());
        for character in line.chars() {
            match character {
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' => open -= 1,
                _ => {}
            }
        }
        if open <= 0 {
            break;
        }
    }
    Some((file, first, lines))
}

fn replace(
    tree: &FileTree,
    evidence: &Evidence<'_>,
    values: &Values,
    pairs: &[(&str, &str)],
) -> Option<Vec<Edit>> {
    let (file, first, lines) = statement(tree, evidence)?;
    pairs.iter().find_map(|(from, to)| {
        let (from, to) = (pattern::fill(from, values)?, pattern::fill(to, values)?);
        let (index, line) = lines
            .iter()
            .enumerate()
            .find(|(_, line)| line.contains(&from))?;
        let edit = at(
            file,
            first + index,
            line,
            Some(line.replacen(&from, &to, 1)),
        )?;
        Some(vec![edit])
    })
}

fn drop_arguments(tree: &FileTree, evidence: &Evidence<'_>, names: &[String]) -> Option<Vec<Edit>> {
    let (file, first, lines) = statement(tree, evidence)?;
    let mut edits = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mut left = line.clone();
        for name in names {
            if let Some(shorter) = without_argument(&left, name) {
                left = shorter;
            }
        }
        if left != *line {
            let new = (!left.trim().is_empty()).then_some(left);
            edits.push(at(file, first + index, line, new)?);
        }
    }
    (!edits.is_empty()).then_some(edits)
}

/// A line of a call without one named argument; `None` when it is not there, or not all of it.
fn without_argument(line: &str, name: &str) -> Option<String> {
    let sign = format!("{name}=");
    let start = line.match_indices(&sign).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + sign.len()..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.') && after != Some('=')
    })?;
    let value = start + sign.len();
    let end = value + end_of_value(&line[value..])?;
    let (before, after) = (&line[..start], &line[end..]);
    Some(if let Some(after) = after.strip_prefix(',') {
        format!("{before}{}", after.trim_start())
    } else {
        let before = before.trim_end();
        format!("{}{after}", before.strip_suffix(',').unwrap_or(before))
    })
}

/// Where an argument's value ends: at a comma, at the call's end, or with the line. `None` when
/// it goes on beyond the line.
fn end_of_value(text: &str) -> Option<usize> {
    let (mut open, mut quote) = (0_i32, None);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(mark), c) => quote = (c != mark).then_some(mark),
            (None, '\'' | '"') => quote = Some(character),
            (None, '(' | '[' | '{') => open += 1,
            (None, ')' | ']' | '}' | ',') if open == 0 => return Some(at),
            (None, ')' | ']' | '}') => open -= 1,
            _ => {}
        }
    }
    (open == 0 && quote.is_none()).then_some(text.len())
}

/// The quoted `path` on the failing line becomes `to`.
fn replace_path(
    tree: &FileTree,
    evidence: &Evidence<'_>,
    path: &str,
    to: &str,
) -> Option<Vec<Edit>> {
    let (file, first, lines) = statement(tree, evidence)?;
    ['"', '\''].iter().find_map(|quote| {
        let (from, to) = (
            format!("{quote}{path}{quote}"),
            format!("{quote}{to}{quote}"),
        );
        let (index, line) = lines
            .iter()
            .enumerate()
            .find(|(_, line)| line.contains(&from))?;
        Some(vec![at(
            file,
            first + index,
            line,
            Some(line.replacen(&from, &to, 1)),
        )?])
    })
}

fn path_in_source(tree: &FileTree, evidence: &Evidence<'_>, values: &Values) -> Option<Vec<Edit>> {
    let path = values.get("path")?;
    let wanted = path.trim_start_matches("./");
    let ending = format!("/{wanted}");
    let mut found = tree.names().filter(|name| name.ends_with(&ending));
    // Two of them, and which one is meant is not known.
    let (Some(only), None) = (found.next(), found.next()) else {
        return None;
    };
    replace_path(tree, evidence, path, only)
}

fn path_in_data(tree: &FileTree, evidence: &Evidence<'_>, values: &Values) -> Option<Vec<Edit>> {
    let path = values.get("path")?;
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    replace_path(tree, evidence, path, &format!("/data/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_dropped_wherever_they_stand() {
        let without = |line, name| without_argument(line, name).unwrap_or_default();
        assert_eq!(
            without(r#"F("x", host="0.0.0.0", port=1)"#, "host"),
            r#"F("x", port=1)"#
        );
        assert_eq!(without(r#"F("x", port=1)"#, "port"), r#"F("x")"#);
        assert_eq!(without("F(host=h(1, 2))", "host"), "F()");
        assert_eq!(without("    host='a,b',", "host"), "    ");
        assert_eq!(without_argument("F(ghost=1)", "host"), None);
        assert_eq!(without_argument("if host==1", "host"), None);
        assert_eq!(without_argument("F(host=[", "host"), None);
    }
}
