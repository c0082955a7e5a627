//! `[tool.poetry.dependencies]` as requirements (PEP 508).
//!
//! uv reads `[project]` alone. Poetry's own table says the same in other words, and its build
//! backend would only tell it of a package whose files are there, which a server need not have.

use toml::Value;

use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Poetry's operators that PEP 440 has too, the longer ones first.
const OPERATORS: &[&str] = &["===", "==", "~=", "!=", ">=", "<=", ">", "<"];

/// The requirements that a pyproject's `[tool.poetry.dependencies]` stands for; empty when there
/// is no such table. `file` is for the diagnosis.
pub fn requirements(table: &toml::Table, file: &str) -> Result<Vec<String>, Diagnosis> {
    let dependencies = table
        .get("tool")
        .and_then(|tool| tool.get("poetry")?.get("dependencies")?.as_table());
    let mut lines = Vec::new();
    for (name, value) in dependencies.into_iter().flatten() {
        if name == "python" {
            continue;
        }
        // Several tables for one package: one for each marker.
        let alternatives = match value {
            Value::Array(several) => several.as_slice(),
            one => std::slice::from_ref(one),
        };
        for alternative in alternatives {
            let line = one(name, alternative).map_err(|why| not_understood(file, name, &why))?;
            lines.extend(line);
        }
    }
    Ok(lines)
}

fn not_understood(file: &str, name: &str, why: &str) -> Diagnosis {
    let mut found = diagnosis(
        Code::ConfigurationInvalid,
        format!("{file} asks for {name} in a way that cannot be translated: {why}."),
        "Write the dependencies as a list in [project] (PEP 621), which Poetry 2 reads too, or add a requirements.txt.",
    );
    found.location = Some(file.to_owned());
    found
}

/// One dependency; `None` for one that is optional.
fn one(name: &str, value: &Value) -> Result<Option<String>, String> {
    let plain = |text: &str| {
        let is_plain = !text.chars().any(char::is_control);
        is_plain
            .then(|| text.trim().to_owned())
            .ok_or_else(|| "it holds control characters".to_owned())
    };
    let name = plain(name)?;
    let table = match value {
        Value::String(version) => return Ok(Some(format!("{name}{}", specifier(version)?))),
        Value::Table(table) => table,
        _ => return Err("it is neither a version nor a table".to_owned()),
    };
    if table.get("optional").and_then(Value::as_bool) == Some(true) {
        return Ok(None);
    }
    let text = |key: &str| {
        table
            .get(key)
            .and_then(Value::as_str)
            .map(plain)
            .transpose()
    };
    let extras: Vec<&str> = match table.get("extras").and_then(Value::as_array) {
        Some(extras) => extras.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    let extras = if extras.is_empty() {
        String::new()
    } else {
        format!("[{}]", plain(&extras.join(","))?)
    };
    let place = if let Some(url) = text("url")? {
        format!(" @ {url}")
    } else if let Some(url) = text("git")? {
        let reference = ["rev", "tag", "branch"]
            .iter()
            .find_map(|key| text(key).transpose());
        let at = reference.transpose()?.map(|at| format!("@{at}"));
        format!(" @ git+{url}{}", at.unwrap_or_default())
    } else if let Some(path) = text("path")? {
        // A requirement of its own form: pip knows it by its path alone.
        return Ok(Some(format!("./{}{extras}", path.trim_start_matches("./"))));
    } else {
        specifier(&text("version")?.unwrap_or_default())?
    };
    let python = text("python")?
        .map(|python| python_marker(&python))
        .transpose()?;
    let markers: Vec<String> = text("markers")?.into_iter().chain(python).collect();
    let marker = match markers.as_slice() {
        [] => String::new(),
        [one] => format!(" ; {one}"),
        [first, second, ..] => format!(" ; ({first}) and {second}"),
    };
    Ok(Some(format!("{name}{extras}{place}{marker}")))
}

/// `python = ">=3.11,<4"` beside a dependency, as a marker.
fn python_marker(wish: &str) -> Result<String, String> {
    let clauses = specifier(wish)?;
    let marker = |clause: &str| {
        let end = clause.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (operator, version) = clause.split_at(end);
        format!("python_full_version {operator} '{version}'")
    };
    let clauses: Vec<String> = clauses
        .split(',')
        .filter(|clause| !clause.is_empty())
        .map(marker)
        .collect();
    Ok(clauses.join(" and "))
}

/// Poetry's version constraint as PEP 440 writes it; empty for any version.
fn specifier(constraint: &str) -> Result<String, String> {
    if constraint.contains('|') {
        return Err(format!("{constraint:?} are alternatives"));
    }
    if constraint.chars().any(char::is_control) {
        return Err("it holds control characters".to_owned());
    }
    let mut clauses = Vec::new();
    for part in constraint.split(',') {
        let mut operator = "";
        for word in part.split_whitespace() {
            // `>= 1.0` with a blank between: the operator waits for its version.
            if OPERATORS.contains(&word) || matches!(word, "^" | "~") {
                operator = word;
            } else {
                let clause = clause(&format!("{operator}{word}"))?;
                operator = "";
                clauses.extend(clause);
            }
        }
        if !operator.is_empty() {
            return Err(format!("{constraint:?} is no version"));
        }
    }
    Ok(clauses.join(","))
}

fn clause(text: &str) -> Result<Option<String>, String> {
    if text == "*" {
        return Ok(None);
    }
    if OPERATORS.iter().any(|operator| text.starts_with(operator)) {
        return Ok(Some(text.to_owned()));
    }
    let numbers = |version: &str| -> Result<Vec<u64>, String> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u64> = release
            .split('.')
            .map_while(|part| {
                let end = part
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(part.len());
                part[..end].parse().ok()
            })
            .collect();
        let is_one = version.starts_with(|c: char| c.is_ascii_digit()) && !numbers.is_empty();
        is_one
            .then_some(numbers)
            .ok_or_else(|| format!("{text:?} is no version"))
    };
    let below = |numbers: &[u64], raised: usize| {
        let mut next: Vec<u64> = numbers[..=raised].to_vec();
        next[raised] = next[raised].saturating_add(1);
        next.iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(".")
    };
    if let Some(version) = text.strip_prefix('^') {
        let numbers = numbers(version)?;
        // The first number that is not zero stays; of zeros alone, the last.
        let raised = numbers
            .iter()
            .position(|number| *number != 0)
            .unwrap_or(numbers.len() - 1);
        return Ok(Some(format!(">={version},<{}", below(&numbers, raised))));
    }
    if let Some(version) = text.strip_prefix('~') {
        let numbers = numbers(version)?;
        let raised = usize::from(numbers.len() > 1);
        return Ok(Some(format!(">={version},<{}", below(&numbers, raised))));
    }
    numbers(text)?;
    Ok(Some(format!("=={text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<String>, Diagnosis> {
        let text = format!("[tool.poetry.dependencies]\n{text}");
        requirements(&text.parse().expect("TOML"), "pyproject.toml")
    }

    #[test]
    fn r46_poetry_constraints_become_requirements() {
        for (written, expected) in [
            ("a = '^1.2.3'", "a>=1.2.3,<2"),
            ("a = '^0.2.3'", "a>=0.2.3,<0.3"),
            ("a = '^0.0.3'", "a>=0.0.3,<0.0.4"),
            ("a = '^0.0'", "a>=0.0,<0.1"),
            ("a = '^2'", "a>=2,<3"),
            ("a = '~1.2.3'", "a>=1.2.3,<1.3"),
            ("a = '~1'", "a>=1,<2"),
            ("a = '*'", "a"),
            ("a = '1.2.3'", "a==1.2.3"),
            ("a = '1.*'", "a==1.*"),
            ("a = '>= 1.0, <2'", "a>=1.0,<2"),
            ("a = '>=1 <2'", "a>=1,<2"),
            ("a = '^1.0.0b1'", "a>=1.0.0b1,<2"),
            ("a = {version = '^1', extras = ['x', 'y']}", "a[x,y]>=1,<2"),
            (
                "a = {version = '1', markers = \"sys_platform == 'linux'\"}",
                "a==1 ; sys_platform == 'linux'",
            ),
            (
                "a = {version = '1', python = '>=3.11'}",
                "a==1 ; python_full_version >= '3.11'",
            ),
            ("a = {url = 'https://x/y.whl'}", "a @ https://x/y.whl"),
            (
                "a = {git = 'https://x/y', tag = 'v1'}",
                "a @ git+https://x/y@v1",
            ),
            ("a = {path = './libs/a'}", "./libs/a"),
        ] {
            assert_eq!(lines(written).expect(written), [expected], "{written}");
        }
        assert_eq!(
            lines("python = '^3.11'\na = {version = '1', optional = true}\nb = '2'").expect("two"),
            ["b==2"]
        );
        assert!(
            requirements(&toml::Table::new(), "x")
                .expect("none")
                .is_empty()
        );
    }

    #[test]
    fn what_has_no_translation_says_so() {
        for written in [
            "a = '^1 || ^2'",
            "a = 'latest'",
            "a = 1",
            "a = '>='",
            "a = \"1\\n--x\"",
        ] {
            let found = lines(written).expect_err(written);
            assert_eq!(found.code, "configuration_invalid", "{written}");
            assert!(
                found.cause.contains("pyproject.toml asks for a"),
                "{}",
                found.cause
            );
        }
    }
}
