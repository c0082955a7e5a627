//! The pages that are made from the catalogue: `docs/errors.md`, and what `/docs/errors` shows.
//! They are kept in the repository, and a test holds them to the catalogue.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::catalogue::{self, NO_ERRORS};
use super::entry::{Entry, Exception, Match, Phase};
use super::text::NOISE;

/// How to make the pages anew.
const HOW: &str = "cargo test -p runner --lib write_the_pages -- --ignored";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Path from the root of the repository, and content.
fn pages() -> [(&'static str, String); 2] {
    [
        ("docs/errors.md", markdown()),
        ("web/templates/docs/errors.html", html()),
    ]
}

fn phases() -> Vec<(Phase, Vec<&'static Entry>)> {
    let mut phases: Vec<(Phase, Vec<&Entry>)> = Vec::new();
    for entry in catalogue::entries() {
        match phases.iter_mut().find(|(phase, _)| *phase == entry.phase) {
            Some((_, entries)) => entries.push(entry),
            None => phases.push((entry.phase, vec![entry])),
        }
    }
    phases
}

fn markdown() -> String {
    let mut page = format!(
        "<!-- Made from runner/src/diagnose/catalogue by `{HOW}`. -->\n# Errors\n\nWhy a deployment fails, how that is recognised, and what to do. A failed deployment never touches what is live. The diagnosis of a deployment names the file and the line, and the lines to change where they can be known; every code leads to its section here and to `/docs/errors#CODE` on the platform itself.\n\nA text is matched only where nothing structured tells, and the first entry of this page that matches is the diagnosis. A word in *italics* stands for what the failure names. The releases are those in which the text was seen and the fix was seen to work.\n"
    );
    for (phase, entries) in phases() {
        let _ = write!(page, "\n## {}\n", phase.title());
        for entry in entries {
            let _ = write!(page, "\n{}", section(entry));
        }
    }
    let _ = write!(
        page,
        "\n## What is not an error\n\n| | what | why there is no entry |\n|---|---|---|\n"
    );
    for (_, what, why) in NO_ERRORS {
        let _ = writeln!(page, "| | {what} | {why} |");
    }
    let _ = write!(
        page,
        "\n## What is only noise\n\nHealthy servers write these lines. No diagnosis quotes them or is made from them:\n\n"
    );
    for noise in NOISE.iter().filter(|noise| !noise.starts_with("@@")) {
        let _ = writeln!(page, "- `{noise}`");
    }
    page
}

fn section(entry: &Entry) -> String {
    let code = entry.code.as_str();
    let mut text = format!(
        "### {code}\n\n**{}.** {}\n\n**What to do:** {}\n\n",
        entry.title,
        italics(entry.cause),
        italics(entry.fix)
    );
    let _ = writeln!(
        text,
        "**Recognised by:** {}",
        recognised(entry).join(" Or: ")
    );
    if !entry.verified.is_empty() {
        let _ = writeln!(
            text,
            "\n**Verified with:** {}.",
            entry.verified.join(", ").replace("==", " ")
        );
    }
    text
}

/// One sentence for each way.
fn recognised(entry: &Entry) -> Vec<String> {
    entry
        .matches
        .iter()
        .map(|one| match one {
            Match::Found(sentence) => (*sentence).to_owned(),
            Match::Finding(step, text) => {
                format!("what the launcher finds (`{step}`): `{text}`.")
            }
            Match::Build(code, "") => format!("the build program's `{code}`."),
            Match::Build(code, text) => format!("the build program's `{code}`, and `{text}`."),
            Match::Exception(exception) => exception_words(exception),
        })
        .collect()
}

fn exception_words(exception: &Exception) -> String {
    let codes = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
        texts.join(" or ")
    };
    let class = if exception.classes.is_empty() {
        "an exception".to_owned()
    } else {
        codes(exception.classes)
    };
    let mut text = match exception.texts {
        [] => class,
        texts => format!("{class} with {}", codes(texts)),
    };
    if !exception.line.is_empty() {
        let _ = write!(
            text,
            ", at a line that begins with {}",
            codes(exception.line)
        );
    }
    if let Some(package) = exception.with {
        let _ = write!(text, ", with `{package}` installed");
    }
    text + "."
}

/// Holes as italics; what follows `in` a line of code is left out.
fn italics(text: &str) -> String {
    let mut text = text.replace("{code}", "").replace("{said}", "");
    for hole in super::pattern::holes(&text.clone()) {
        text = text.replace(
            &format!("{{{hole}}}"),
            &format!("*{}*", hole.replace('_', " ")),
        );
    }
    text
}

fn html() -> String {
    let mut page = format!(
        "{{# Made from runner/src/diagnose/catalogue by `{HOW}`. #}}\n{{% extends \"layout.html\" %}}\n{{% block title %}}Errors · Berth{{% endblock %}}\n{{% block main_class %}}medium{{% endblock %}}\n{{% block content %}}\n<h1>Errors</h1>\n<p class=\"muted\">Why a deployment fails, and what to do. A failed deployment never touches what is live.</p>\n<div class=\"stack\">\n"
    );
    for (_, entries) in phases() {
        for entry in entries {
            let code = entry.code.as_str();
            let _ = writeln!(
                page,
                "<section class=\"panel\" id=\"{code}\">\n<h2>{}</h2>\n<p>{}</p>\n<p><strong>What to do:</strong> {}</p>{}\n<p class=\"small muted\"><a href=\"#{code}\"><code>{code}</code></a></p>\n</section>",
                escaped(entry.title),
                marked_up(entry.cause),
                marked_up(entry.fix),
                releases(entry)
            );
        }
    }
    page.push_str("</div>\n{% endblock %}\n");
    page
}

fn releases(entry: &Entry) -> String {
    if entry.verified.is_empty() {
        return String::new();
    }
    let releases = entry.verified.join(", ").replace("==", " ");
    format!("\n<p class=\"small muted\">Verified with {releases}.</p>")
}

/// `code` and *italics* as elements, everything else escaped, and no braces of templates.
fn marked_up(text: &str) -> String {
    let text = escaped(&italics(text));
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        let (open, close) = if index % 2 == 1 {
            ("<code>", "</code>")
        } else {
            ("", "")
        };
        let _ = write!(out, "{open}{part}{close}");
    }
    let parts: Vec<&str> = out.split('*').collect();
    // An asterisk without its partner is text: *args.
    if parts.len().is_multiple_of(2) {
        return out;
    }
    let marked = parts.iter().enumerate().map(|(index, part)| {
        if index % 2 == 1 {
            format!("<var>{part}</var>")
        } else {
            (*part).to_owned()
        }
    });
    marked.collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('{', "&#123;")
        .replace('}', "&#125;")
}

#[test]
fn the_pages_are_made_from_the_catalogue() {
    for (path, expected) in pages() {
        let found = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(
            found == expected,
            "{path} is not what the catalogue says; make it anew with: {HOW}"
        );
    }
}

/// Not a test: makes the pages.
#[test]
#[ignore = "writes the pages"]
fn write_the_pages() {
    for (path, text) in pages() {
        std::fs::write(root().join(path), text).unwrap();
    }
}
