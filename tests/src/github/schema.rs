//! OpenAPI 3.0's schemas as JSON Schema draft 4, of which they are a dialect (OpenAPI Specification
//! 3.0.3, "Schema Object").

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// Keywords that say something about values.
const KEPT: &[&str] = &[
    "type",
    "format",
    "enum",
    "required",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
];

/// A reference to a schema that may have more members than it says, which is the case inside `allOf`.
const OPEN: &str = "~open";

/// A schema with everything that it refers to, in one document.
///
/// The description says nothing about members that it does not name. Here an object has those that it
/// names and no others, so that neither side invents any, unless it may be `open`.
pub fn bundle(components: &Value, schema: &Value, open: bool) -> Result<Value> {
    let mut wanted = BTreeSet::new();
    let mut document = translate(schema, open, &mut wanted);
    let mut definitions = Map::new();
    while let Some(name) = wanted.pop_first() {
        if definitions.contains_key(&name) {
            continue;
        }
        let (plain, open) = match name.strip_suffix(OPEN) {
            Some(plain) => (plain, true),
            None => (&*name, false),
        };
        let component = components
            .get(plain)
            .with_context(|| format!("no schema {plain}"))?;
        let translated = translate(component, open, &mut wanted);
        definitions.insert(name, translated);
    }
    if document.get("$ref").is_some() {
        // Draft 4 ignores what stands beside a reference.
        document = json!({ "allOf": [document] });
    }
    document["definitions"] = Value::Object(definitions);
    Ok(document)
}

fn translate(schema: &Value, open: bool, wanted: &mut BTreeSet<String>) -> Value {
    let Some(members) = schema.as_object() else {
        return schema.clone();
    };
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|pointer| pointer.strip_prefix("#/components/schemas/"))
    {
        let name = format!("{name}{}", if open { OPEN } else { "" });
        wanted.insert(name.clone());
        return json!({ "$ref": format!("#/definitions/{name}") });
    }
    let mut made = Map::new();
    for keyword in KEPT {
        if let Some(value) = members.get(*keyword) {
            made.insert((*keyword).to_owned(), value.clone());
        }
    }
    let has_own = members.contains_key("properties");
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(all)) = members.get(keyword) {
            let open = open || keyword == "allOf" || has_own;
            let all = all.iter().map(|one| translate(one, open, wanted)).collect();
            made.insert(keyword.to_owned(), Value::Array(all));
        }
    }
    for keyword in ["not", "items"] {
        if let Some(value) = members.get(keyword) {
            made.insert(keyword.to_owned(), translate(value, false, wanted));
        }
    }
    if let Some(Value::Object(properties)) = members.get("properties") {
        let properties = properties
            .iter()
            .map(|(name, value)| (name.clone(), translate(value, false, wanted)))
            .collect();
        made.insert("properties".to_owned(), Value::Object(properties));
    }
    match members.get("additionalProperties") {
        Some(value) => {
            let value = translate(value, false, wanted);
            made.insert("additionalProperties".to_owned(), value);
        }
        None if has_own && !open && !members.contains_key("allOf") => {
            made.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        None => {}
    }
    let made = Value::Object(made);
    if members.get("nullable") == Some(&Value::Bool(true)) {
        return json!({ "anyOf": [{ "type": "null" }, made] });
    }
    made
}
