//! The keywords of two schemas of one type.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Comparison, is_open, sentence};

/// A greater value allows less.
const LOWER: &[&str] = &[
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
];

/// A smaller value allows less.
const UPPER: &[&str] = &[
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
];

/// To have it allows less; two of them cannot be compared.
const LIMITS: &[&str] = &["pattern", "multipleOf", "format", "uniqueItems", "contains"];

/// Looked at elsewhere, or nothing to a caller.
const OTHERS: &[&str] = &[
    "$ref",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// An object without members.
pub fn no_members() -> &'static Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    &NONE
}

/// The one JSON type of all values that a schema lists.
pub fn kind_of_values(schema: &Value) -> Option<&'static str> {
    let kinds: BTreeSet<&str> = values(schema)?.into_iter().map(kind).collect();
    match kinds.len() {
        1 => kinds.into_iter().next(),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The values of `enum` or `const`.
fn values(schema: &Value) -> Option<Vec<&Value>> {
    let constant = schema.get("const").map(|value| vec![value]);
    constant.or_else(|| Some(schema["enum"].as_array()?.iter().collect()))
}

impl<'a> Comparison<'a> {
    pub(super) fn keywords(&mut self, path: &str, old: &'a Value, new: &'a Value, depth: usize) {
        if old == new && self.old_root == self.new_root {
            return;
        }
        self.values(path, old, new);
        for keyword in LOWER {
            self.bound(path, keyword, old, new, false);
        }
        for keyword in UPPER {
            self.bound(path, keyword, old, new, true);
        }
        for keyword in LIMITS {
            self.limit(path, keyword, &old[keyword], &new[keyword]);
        }
        self.object(path, old, new, depth);
        self.items(path, old, new, depth);
        self.rest(path, old, new);
    }

    fn values(&mut self, path: &str, old: &Value, new: &Value) {
        let name = sentence(&self.name(path));
        match (values(old), values(new)) {
            (None, None) => {}
            (None, Some(_)) => self.narrowed(
                "values_narrowed",
                format!("{name} is limited to listed values."),
            ),
            (Some(_), None) => self.widened(
                "values_widened",
                format!("{name} is no longer limited to listed values."),
            ),
            (Some(was), Some(is)) => {
                let list = |some: &[&Value], others: &[&Value]| -> Vec<String> {
                    let missing = some.iter().filter(|value| !others.contains(value));
                    missing.map(|value| shown(value)).collect()
                };
                let (lost, gained) = (list(&was, &is), list(&is, &was));
                if !lost.is_empty() {
                    let text = format!("{name} is no longer {}.", lost.join(" or "));
                    self.narrowed("values_narrowed", text);
                }
                if !gained.is_empty() {
                    let text = format!("{name} may also be {}.", gained.join(" or "));
                    self.widened("values_widened", text);
                }
            }
        }
    }

    fn bound(&mut self, path: &str, keyword: &str, old: &Value, new: &Value, is_upper: bool) {
        let (was, is) = (&old[keyword], &new[keyword]);
        if was == is {
            return;
        }
        // Draft 4 had booleans here.
        if [was, is]
            .iter()
            .any(|value| !value.is_null() && !value.is_number())
        {
            return self.unclear(path, keyword);
        }
        let endless = if is_upper {
            f64::INFINITY
        } else {
            f64::NEG_INFINITY
        };
        let number = |value: &Value| value.as_f64().unwrap_or(endless);
        let text = format!(
            "{}: {keyword} is {} instead of {}.",
            sentence(&self.name(path)),
            shown(is),
            shown(was)
        );
        // `minLength: 0` says nothing.
        let counts = keyword.starts_with("min") && keyword != "minimum";
        let number = |value: &Value| match number(value) {
            count if counts => count.max(0.0),
            number => number,
        };
        match number(is).total_cmp(&number(was)) {
            std::cmp::Ordering::Equal => {}
            order if order.is_lt() == is_upper => self.narrowed("bounds_narrowed", text),
            _ => self.widened("bounds_widened", text),
        }
    }

    fn limit(&mut self, path: &str, keyword: &str, old: &Value, new: &Value) {
        let is_set = |value: &Value| !value.is_null() && *value != Value::Bool(false);
        let name = sentence(&self.name(path));
        match (is_set(old), is_set(new)) {
            _ if old == new => {}
            (false, true) => self.narrowed("limit_added", format!("{name} has to fit {keyword}.")),
            (true, false) => self.widened(
                "limit_removed",
                format!("{name} no longer has to fit {keyword}."),
            ),
            (true, true) => self.unclear(path, keyword),
            (false, false) => {}
        }
    }

    fn items(&mut self, path: &str, old: &'a Value, new: &'a Value, depth: usize) {
        let (was, is) = (&old["items"], &new["items"]);
        let name = sentence(&self.name(path));
        match (is_open(was), is_open(is)) {
            (true, true) => {}
            (false, false) => self.pair(&format!("{path}[]"), was, is, depth + 1),
            (true, false) => self.narrowed(
                "items_narrowed",
                format!("{name} is limited in its entries."),
            ),
            (false, true) => self.widened(
                "items_widened",
                format!("{name} is no longer limited in its entries."),
            ),
        }
    }

    /// Everything else is compared as it stands.
    fn rest(&mut self, path: &str, old: &Value, new: &Value) {
        let members = |schema: &'_ Value| -> BTreeSet<String> {
            let keys = schema.as_object().into_iter().flatten();
            keys.map(|(name, _)| name.clone()).collect()
        };
        let known = |name: &String| {
            let name = name.as_str();
            name.starts_with("x-")
                || [LOWER, UPPER, LIMITS, OTHERS]
                    .iter()
                    .any(|list| list.contains(&name))
        };
        for name in members(old).union(&members(new)) {
            if !known(name) && old[name.as_str()] != new[name.as_str()] {
                self.unclear(path, name);
            }
        }
    }
}

/// A value in a sentence.
fn shown(value: &Value) -> String {
    /// Longest text of a value.
    const MOST: usize = 40;
    if value.is_null() {
        return "none".into();
    }
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
