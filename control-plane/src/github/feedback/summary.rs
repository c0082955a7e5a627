//! What is said of a deployment in Markdown: on its check and in the comment.

use runner::protocol::{Diagnosis, Edit};

use super::annotations::words;
use super::facts::{Deployed, Facts};
use super::markdown::{Text, block, code, prose};
use crate::config::ServeConfig;
use crate::surface::{self, Change, Class};

/// Longest sentence of a diagnosis that is told, characters.
const MAX_SENTENCE: usize = 700;

/// Longest name of what changed.
const MAX_SUBJECT: usize = 120;

/// Changes of one class that are told; the page has all of them.
const MAX_CHANGES: usize = 40;

/// Where a diagnosis begins to quote the log, or what a command of a build printed, which is not told:
/// those who may read the repository need not be those who may read the log.
/// Each with what is told in its place.
const QUOTES: [(&str, &str); 3] = [
    ("; the last lines were: ", ""),
    (" failed: ", " failed"),
    (" could not be built: ", " could not be built"),
];

/// A cause without lines of the log.
pub fn without_log(cause: &str) -> String {
    let found = QUOTES
        .iter()
        .filter_map(|(quote, instead)| Some((cause.find(quote)?, *instead)));
    match found.min() {
        Some((at, instead)) => format!("{}{instead}; the log says what it printed.", &cause[..at]),
        None => cause.to_owned(),
    }
}

/// Everything that is known of a deployment, below what the caller said first.
pub fn add_all(text: &mut Text, config: &ServeConfig, facts: &Facts, deployed: &Deployed) {
    if let Some(diagnosis) = &deployed.diagnosis {
        add_diagnosis(text, config, diagnosis);
    }
    if let Some((with, changes)) = &deployed.changes {
        add_changes(text, *with, changes);
    }
    if !deployed.missing.is_empty() {
        add_missing(text, config, facts, deployed);
    }
    add_timings(text, deployed);
}

fn add_diagnosis(text: &mut Text, config: &ServeConfig, diagnosis: &Diagnosis) {
    text.paragraph("#### Why it failed");
    text.paragraph(&prose(&without_log(&diagnosis.cause), MAX_SENTENCE));
    if let Some(place) = &diagnosis.location {
        text.paragraph(&format!("At {}", code(place, MAX_SUBJECT)));
    }
    text.paragraph(&format!(
        "**Next step:** {}",
        prose(&diagnosis.fix, MAX_SENTENCE)
    ));
    for edit in &diagnosis.edits {
        add_edit(text, edit);
    }
    let name = words(&diagnosis.code);
    text.paragraph(&format!(
        "[More on “{name}”]({}/docs/errors#{})",
        config.issuer(),
        name.replace(' ', "_")
    ));
}

fn add_edit(text: &mut Text, edit: &Edit) {
    let line = edit.line.map(|line| format!(", line {line}"));
    let place = code(&edit.file, MAX_SUBJECT);
    let with = |sign: &str, lines: &Option<String>| -> Vec<String> {
        let lines = lines.iter().flat_map(|text| text.lines());
        lines.map(|line| format!("{sign}{line}")).collect()
    };
    let mut lines = with("-", &edit.old);
    lines.extend(with("+", &edit.new));
    text.add(&format!(
        "{place}{}\n\n{}\n",
        line.unwrap_or_default(),
        block("diff", &lines.join("\n"))
    ));
}

fn add_changes(text: &mut Text, with: i32, changes: &[Change]) {
    text.paragraph(&format!(
        "#### Changes for callers, compared with deployment {with}"
    ));
    if changes.is_empty() {
        text.paragraph("None: it offers exactly the same.");
        return;
    }
    for (class, title) in [
        (Class::Breaking, "Breaks callers"),
        (Class::Risky, "May mean something else"),
        (Class::Safe, "Nobody notices"),
    ] {
        let of_class: Vec<&Change> = changes.iter().filter(|it| it.class == class).collect();
        if of_class.is_empty() {
            continue;
        }
        text.paragraph(&format!("**{title}** ({})", of_class.len()));
        for change in of_class.iter().take(MAX_CHANGES) {
            text.add(&format!(
                "- {}: {}",
                code(&change.subject, MAX_SUBJECT),
                prose(&change.text, MAX_SENTENCE)
            ));
        }
        if of_class.len() > MAX_CHANGES {
            text.add(&format!("- and {} more", of_class.len() - MAX_CHANGES));
        }
        text.add("");
    }
}

/// How many changes there are of each class, in a few words.
pub fn counted(changes: &[Change]) -> String {
    let [breaking, risky, safe] = surface::counts(changes);
    let counted = [(breaking, "breaking"), (risky, "risky"), (safe, "safe")];
    let words = counted.into_iter().filter(|(count, _)| *count > 0);
    words
        .map(|(count, word)| format!("{count} {word}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn add_missing(text: &mut Text, config: &ServeConfig, facts: &Facts, deployed: &Deployed) {
    let names = deployed.missing.iter().take(MAX_CHANGES);
    let names: Vec<String> = names.map(|(name, _)| code(name, MAX_SUBJECT)).collect();
    text.paragraph("#### Variables that are not set");
    let place = match &facts.preview {
        Some(_) => "?scope=preview#set",
        None => "",
    };
    text.paragraph(&format!(
        "The code reads {} and does not go on without. [Fill in]({}/projects/{}/variables{place})",
        names.join(", "),
        config.issuer(),
        facts.project.name
    ));
}

fn add_timings(text: &mut Text, deployed: &Deployed) {
    if deployed.timings.is_empty() {
        return;
    }
    let steps = deployed
        .timings
        .iter()
        .take(MAX_CHANGES)
        .map(|it| format!("{} {}", words(&it.stage), took(it.duration_ms)));
    text.paragraph(&format!(
        "**Steps:** {}",
        steps.collect::<Vec<_>>().join(" · ")
    ));
}

/// A time for people: `950 ms`, `12.3 s`, `2 min 5 s`.
fn took(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_is_not_told() {
        for (cause, told) in [
            (
                "The script build failed: KEY=canary; the last lines were: canary.",
                "The script build failed; the log says what it printed.",
            ),
            (
                "The server ended by itself; the last lines were: canary.",
                "The server ended by itself; the log says what it printed.",
            ),
            (
                "lxml has no ready-made wheel for this Python and could not be built: canary.",
                "lxml has no ready-made wheel for this Python and could not be built; the log says what it printed.",
            ),
            (
                "The code imports pandas, which is not installed.",
                "The code imports pandas, which is not installed.",
            ),
        ] {
            assert_eq!(without_log(cause), told);
        }
    }
}
