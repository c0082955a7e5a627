//! Fields of `class X(BaseSettings)` (pydantic-settings), where their names follow from the class
//! alone: `prefix + field`, in upper case.

use super::super::Found;
use super::super::tokens::{Token, begins, mark_at, name_at, text_at};
use crate::protocol::Need;

/// The variables that the settings classes of a file read.
pub fn fields(tokens: &[Token]) -> Vec<Found> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if name_at(tokens, at) == Some("class")
            && let Some(body) = body_of(tokens, at)
        {
            found.extend(fields_of(body));
        }
    }
    found
}

/// The tokens inside `class X(… BaseSettings …):`.
fn body_of(tokens: &[Token], at: usize) -> Option<&[Token]> {
    let class = tokens.get(at)?;
    if mark_at(tokens, at + 2) != Some('(') {
        return None;
    }
    let close = (at + 3..tokens.len()).find(|at| mark_at(tokens, *at) == Some(')'))?;
    let is_settings = (at + 3..close).any(|at| name_at(tokens, at) == Some("BaseSettings"));
    if !is_settings || mark_at(tokens, close + 1) != Some(':') {
        return None;
    }
    let start = close + 2;
    let end = (start..tokens.len())
        .find(|at| tokens[*at].line > class.line && tokens[*at].indent <= class.indent)
        .unwrap_or(tokens.len());
    Some(&tokens[start..end])
}

fn fields_of(body: &[Token]) -> Vec<Found> {
    let Some(indent) = body.first().map(|token| token.indent) else {
        return Vec::new();
    };
    let prefix = prefix(body).unwrap_or_default();
    let mut found = Vec::new();
    let mut depth = 0_usize;
    for at in 0..body.len() {
        match mark_at(body, at) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        let begins_line = at == 0 || body[at - 1].line < body[at].line;
        if depth == 0
            && begins_line
            && body[at].indent == indent
            && mark_at(body, at + 1) == Some(':')
            && let Some(field) = name_at(body, at)
            && let Some(read) = field_at(&body[at..], field, prefix)
        {
            found.push(read);
        }
    }
    found
}

/// `model_config = SettingsConfigDict(env_prefix="X_")`, or `env_prefix = "X_"` in `class Config`.
fn prefix(body: &[Token]) -> Option<&str> {
    (0..body.len()).find_map(|at| {
        begins(&body[at..], &["env_prefix", "="])
            .then(|| text_at(body, at + 2))
            .flatten()
    })
}

/// `field: type`, `field: type = …`.
fn field_at(tokens: &[Token], field: &str, prefix: &str) -> Option<Found> {
    if field.starts_with('_') || field == "model_config" || field == "class" || field == "else" {
        return None;
    }
    let indent = tokens[0].indent;
    let line = tokens[0].line;
    let end = (1..tokens.len())
        .find(|at| tokens[*at].line > line && tokens[*at].indent <= indent && closes(tokens, *at))
        .unwrap_or(tokens.len());
    let tokens = &tokens[..end];
    // Not a constant of the class.
    if name_at(tokens, 2) == Some("ClassVar") {
        return None;
    }
    let mut name = format!("{prefix}{field}").to_ascii_uppercase();
    let mut need = Need::Required;
    if let Some(at) = assigned(tokens) {
        need = Need::Default;
        if name_at(tokens, at) == Some("Field") {
            (name, need) = field_call(&tokens[at..], name);
        }
    }
    Some(Found { name, need, line })
}

/// Whether every bracket before this place is closed.
fn closes(tokens: &[Token], at: usize) -> bool {
    let mut depth = 0_i32;
    for token in 0..at {
        match mark_at(tokens, token) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
    }
    depth <= 0
}

/// What follows the `=` of a field.
fn assigned(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0_i32;
    for at in 0..tokens.len() {
        match mark_at(tokens, at) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => depth -= 1,
            Some('=') if depth == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `Field(…, default=…, alias="X", validation_alias="X")`; `...` means that there is no default.
fn field_call(tokens: &[Token], name: String) -> (String, Need) {
    let is_ellipsis = |at| (at..at + 3).all(|at| mark_at(tokens, at) == Some('.'));
    let mut need = Need::Required;
    let mut named = name;
    let first = name_at(tokens, 2).is_none_or(|_| mark_at(tokens, 3) != Some('='));
    if first && !is_ellipsis(2) && mark_at(tokens, 2) != Some(')') {
        need = Need::Default;
    }
    for at in 2..tokens.len() {
        let value = at + 2;
        match name_at(tokens, at) {
            Some("default" | "default_factory")
                if mark_at(tokens, at + 1) == Some('=') && !is_ellipsis(value) =>
            {
                need = Need::Default;
            }
            Some("alias" | "validation_alias" | "env") if mark_at(tokens, at + 1) == Some('=') => {
                if let Some(alias) = text_at(tokens, value) {
                    named = alias.to_ascii_uppercase();
                }
            }
            _ => {}
        }
    }
    (named, need)
}

#[cfg(test)]
mod tests {
    use super::super::reads;
    use crate::protocol::Need;

    #[test]
    fn simple_settings_are_read() {
        let text = r#"
from pydantic_settings import BaseSettings, SettingsConfigDict

class Settings(BaseSettings):
    """os.environ['NOT_THIS']"""
    model_config = SettingsConfigDict(env_prefix="app_", env_file=".env")
    LEVELS: ClassVar[list[str]] = []
    token: str
    limits: dict[str, int]
    region: str = "north"
    maybe: str | None = None
    other: str = Field(
        ...,
        description="x: y",
    )
    aliased: str = Field(validation_alias="API_KEY")
    late: int = Field(default=3)
    made: list[str] = Field(default_factory=list)

    def method(self, a: int) -> str:
        value: str = "no"
        return value

class Unrelated(BaseModel):
    name: str

def after(x: int): ...
"#;
        let found: Vec<(String, Need)> = reads(text)
            .into_iter()
            .map(|read| (read.name, read.need))
            .collect();
        let expected = [
            ("APP_TOKEN", Need::Required),
            ("APP_LIMITS", Need::Required),
            ("APP_REGION", Need::Default),
            ("APP_MAYBE", Need::Default),
            ("APP_OTHER", Need::Required),
            ("API_KEY", Need::Required),
            ("APP_LATE", Need::Default),
            ("APP_MADE", Need::Default),
        ];
        assert_eq!(found, expected.map(|(name, need)| (name.to_owned(), need)));
    }

    #[test]
    fn without_a_prefix_the_field_names_the_variable() {
        let text = "class S(BaseSettings):\n    api_key: str\n";
        let found = reads(text);
        assert_eq!((found[0].name.as_str(), found[0].line), ("API_KEY", 2));
    }
}
