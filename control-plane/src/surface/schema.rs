//! Two JSON Schemas compared: does the new one take less, or more? For what goes in, less breaks
//! callers; for what comes out, more surprises them.
//!
//! Schemas come from strangers, so the work is bounded. What cannot be decided is said to be so, as
//! a risk, and never as safe.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Class;

mod keywords;

/// Pairs of schemas looked at; a surface is at most a quarter of a mebibyte, but references can
/// make a small schema large.
const MAX_PAIRS: usize = 5_000;

/// References followed in a row.
const MAX_REFERENCES: usize = 16;

/// Nested schemas; deeper ones exist to be hard to read.
const MAX_DEPTH: usize = 32;

/// Whether callers write what the schema describes, or read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Arguments.
    In,
    /// Results.
    Out,
}

/// One difference.
#[derive(Debug)]
pub struct Finding {
    pub class: Class,
    pub code: &'static str,
    pub text: String,
}

/// The differences of two schemas.
pub fn compare(old: &Value, new: &Value, way: Way) -> Vec<Finding> {
    let mut comparison = Comparison {
        old_root: old,
        new_root: new,
        way,
        seen: BTreeSet::new(),
        left: MAX_PAIRS,
        findings: Vec::new(),
    };
    if old != new {
        comparison.pair("", old, new, 0);
    }
    comparison.findings
}

struct Comparison<'a> {
    old_root: &'a Value,
    new_root: &'a Value,
    way: Way,
    /// Pairs of references that are being, or were, looked at: schemas may hold themselves.
    seen: BTreeSet<(String, String)>,
    left: usize,
    findings: Vec<Finding>,
}

/// One form that a schema allows: its JSON type (`any` when it names none) and its keywords.
#[derive(Clone, Copy)]
struct Form<'a> {
    kind: &'a str,
    schema: &'a Value,
}

impl<'a> Comparison<'a> {
    fn pair(&mut self, path: &str, old: &'a Value, new: &'a Value, depth: usize) {
        if self.left == 0 || depth > MAX_DEPTH {
            if self.left > 0 {
                self.unclear(path, "its depth");
            }
            self.left = 0;
            return;
        }
        self.left -= 1;
        if let (Some(one), Some(other)) = (reference(old), reference(new))
            && !self.seen.insert((one.to_owned(), other.to_owned()))
        {
            return;
        }
        self.annotations(path, old, new);
        let olds = forms(self.old_root, old, 0);
        let news = forms(self.new_root, new, 0);
        self.kinds(path, &olds, &news);
        for form in &olds {
            let matching: Vec<&Form<'_>> = news
                .iter()
                .filter(|new| takes(new.kind, form.kind))
                .collect();
            match matching[..] {
                [] => {}
                [other] => self.keywords(path, form.schema, other.schema, depth),
                _ if matching.iter().any(|new| new.schema == form.schema) => {}
                _ => self.unclear(path, "its alternatives"),
            }
        }
    }

    /// What models read of it, and what stands in when a caller leaves it out.
    fn annotations(&mut self, path: &str, old: &Value, new: &Value) {
        // The description of all arguments together is the tool's own.
        if path.is_empty() {
            return;
        }
        if old["description"] != new["description"] {
            let text = format!("The description of {} changed.", self.name(path));
            self.add(Class::Risky, "argument_description_changed", text);
        }
        // Without one, it is required now, or the server knows what to do.
        if self.way == Way::In && !new["default"].is_null() && old["default"] != new["default"] {
            let text = format!("The default of {} changed.", self.name(path));
            self.add(Class::Risky, "default_changed", text);
        }
    }

    /// Types that are no longer taken, and new ones.
    fn kinds(&mut self, path: &str, olds: &[Form<'_>], news: &[Form<'_>]) {
        let list = |forms: &[Form<'_>]| {
            let kinds: BTreeSet<&str> = forms.iter().map(|form| form.kind).collect();
            kinds.into_iter().collect::<Vec<_>>().join(" or ")
        };
        let without = |some: &[Form<'_>], others: &[Form<'_>]| -> BTreeSet<String> {
            some.iter()
                .filter(|form| !others.iter().any(|other| takes(other.kind, form.kind)))
                .map(|form| form.kind.to_owned())
                .collect()
        };
        let (lost, gained) = (without(olds, news), without(news, olds));
        let join = |kinds: &BTreeSet<String>| {
            kinds
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let name = self.name(path);
        if !lost.is_empty() && olds.iter().all(|form| lost.contains(form.kind)) && !is_any(olds) {
            let text = format!(
                "The type of {name} is {} instead of {}.",
                list(news),
                list(olds)
            );
            self.add(Class::Breaking, "type_changed", text);
            return;
        }
        if !lost.is_empty() {
            let text = if is_any(olds) {
                format!("{} is limited to {}.", sentence(&name), list(news))
            } else {
                format!("{} is no longer {}.", sentence(&name), join(&lost))
            };
            self.narrowed("type_narrowed", text);
        }
        if !gained.is_empty() {
            let text = format!("{} may also be {}.", sentence(&name), join(&gained));
            self.widened("type_widened", text);
        }
    }

    fn object(&mut self, path: &str, old: &'a Value, new: &'a Value, depth: usize) {
        let empty: &'static Map<String, Value> = keywords::no_members();
        let was = old["properties"].as_object().unwrap_or(empty);
        let is = new["properties"].as_object().unwrap_or(empty);
        let (must, now_must) = (required(old), required(new));
        for (name, schema) in is {
            let inner = join(path, name);
            let Some(before) = was.get(name) else {
                self.property_added(&inner, now_must.contains(name.as_str()));
                continue;
            };
            match (
                must.contains(name.as_str()),
                now_must.contains(name.as_str()),
            ) {
                (false, true) => self.became_required(&inner),
                (true, false) => self.became_optional(&inner),
                _ => {}
            }
            self.pair(&inner, before, schema, depth + 1);
        }
        for name in was.keys().filter(|name| !is.contains_key(*name)) {
            let refused = new["additionalProperties"] == Value::Bool(false);
            self.property_removed(&join(path, name), refused, must.contains(name.as_str()));
        }
        self.additional(path, old, new, depth);
    }

    fn property_added(&mut self, path: &str, required: bool) {
        let name = sentence(&self.name(path));
        match (self.way, required) {
            (Way::In, true) => {
                let text = format!("{name} is new and required.");
                self.add(Class::Breaking, "argument_added", text);
            }
            (Way::In, false) => {
                self.add(
                    Class::Safe,
                    "argument_added",
                    format!("{name} is new and optional."),
                );
            }
            (Way::Out, _) => self.add(Class::Safe, "result_added", format!("{name} is new.")),
        }
    }

    fn property_removed(&mut self, path: &str, refused: bool, was_required: bool) {
        let name = sentence(&self.name(path));
        let (class, code, text) = match self.way {
            Way::In if refused => (Class::Breaking, "argument_removed", "is gone and refused"),
            Way::In => (
                Class::Risky,
                "argument_removed",
                "is gone; whoever sends it may go unheard",
            ),
            Way::Out if was_required => (Class::Breaking, "result_removed", "is gone"),
            Way::Out => (Class::Risky, "result_removed", "is gone"),
        };
        self.add(class, code, format!("{name} {text}."));
    }

    fn became_required(&mut self, path: &str) {
        let name = sentence(&self.name(path));
        match self.way {
            Way::In => {
                let text = format!("{name} is required now.");
                self.add(Class::Breaking, "argument_required", text);
            }
            Way::Out => self.add(
                Class::Safe,
                "result_required",
                format!("{name} is always there now."),
            ),
        }
    }

    fn became_optional(&mut self, path: &str) {
        let name = sentence(&self.name(path));
        match self.way {
            Way::In => self.add(
                Class::Safe,
                "argument_optional",
                format!("{name} is optional now."),
            ),
            Way::Out => {
                let text = format!("{name} may be missing now.");
                self.add(Class::Risky, "result_optional", text);
            }
        }
    }

    fn additional(&mut self, path: &str, old: &'a Value, new: &'a Value, depth: usize) {
        let (was, is) = (&old["additionalProperties"], &new["additionalProperties"]);
        let name = self.name(path);
        match (is_open(was), is_open(is)) {
            _ if was == is => {}
            // Whoever reads the schema sends no others; so it is a risk and no break.
            (true, false) if *is == Value::Bool(false) && self.way == Way::In => {
                let text = format!("{} takes no others any more.", sentence(&name));
                self.add(Class::Risky, "others_refused", text);
            }
            (false, true) if *was == Value::Bool(false) && self.way == Way::In => {
                let text = format!("{} takes others too.", sentence(&name));
                self.add(Class::Safe, "others_taken", text);
            }
            (true, true) => {}
            _ if was.is_object() && is.is_object() => {
                self.pair(&join(path, "*"), was, is, depth + 1);
            }
            _ if self.way == Way::Out => {}
            _ => self.unclear(path, "additionalProperties"),
        }
    }

    /// It allows less than it did.
    fn narrowed(&mut self, code: &'static str, text: String) {
        let class = match self.way {
            Way::In => Class::Breaking,
            Way::Out => Class::Safe,
        };
        self.add(class, code, text);
    }

    /// It allows more than it did.
    fn widened(&mut self, code: &'static str, text: String) {
        let class = match self.way {
            Way::In => Class::Safe,
            Way::Out => Class::Risky,
        };
        self.add(class, code, text);
    }

    fn unclear(&mut self, path: &str, what: &str) {
        let text = format!(
            "{} changed in {what}, which cannot be compared.",
            sentence(&self.name(path))
        );
        self.add(Class::Risky, "schema_changed", text);
    }

    fn add(&mut self, class: Class, code: &'static str, text: String) {
        self.findings.push(Finding { class, code, text });
    }

    fn name(&self, path: &str) -> String {
        match (self.way, path) {
            (Way::In, "") => "the set of arguments".into(),
            (Way::In, path) => format!("argument “{path}”"),
            (Way::Out, "") => "the result".into(),
            (Way::Out, path) => format!("result “{path}”"),
        }
    }
}

/// With its first letter large.
fn sentence(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn required(schema: &Value) -> BTreeSet<&str> {
    let list = schema["required"].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn is_open(additional: &Value) -> bool {
    additional.is_null()
        || *additional == Value::Bool(true)
        || additional.as_object().is_some_and(Map::is_empty)
}

fn is_any(forms: &[Form<'_>]) -> bool {
    forms.iter().any(|form| form.kind == "any")
}

/// Whether every value of one type is of the other.
fn takes(kind: &str, other: &str) -> bool {
    kind == "any" || kind == other || kind == "number" && other == "integer"
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()
}

/// The forms that a schema allows: those of its alternatives, or of its types.
fn forms<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> Vec<Form<'a>> {
    if depth > MAX_REFERENCES {
        return vec![Form {
            kind: "any",
            schema,
        }];
    }
    if let Some(target) = reference(schema).and_then(|text| root.pointer(text.strip_prefix('#')?)) {
        return forms(root, target, depth + 1);
    }
    if *schema == Value::Bool(false) {
        return Vec::new();
    }
    let says_more = ["type", "properties", "required", "enum", "const"]
        .iter()
        .any(|keyword| !schema[keyword].is_null());
    let choices = ["anyOf", "oneOf"]
        .iter()
        .find_map(|keyword| schema[keyword].as_array())
        .or_else(|| schema["allOf"].as_array().filter(|all| all.len() == 1));
    match choices {
        Some(choices) if !says_more => choices
            .iter()
            .flat_map(|choice| forms(root, choice, depth + 1))
            .collect(),
        _ => kinds_of(schema)
            .into_iter()
            .map(|kind| Form { kind, schema })
            .collect(),
    }
}

fn kinds_of(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![keywords::kind_of_values(schema).unwrap_or("any")],
    }
}
