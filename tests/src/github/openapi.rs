//! Holds requests and answers to GitHub's published OpenAPI description, and webhooks to its JSON
//! schemas: the packages `@octokit/openapi`, `@octokit/webhooks-schemas` and
//! `@octokit/webhooks-examples`, which `tests/run` installs into the cache.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use super::schema;

/// Answers that every request may get; the description names them for some only (GitHub's
/// documentation, "Troubleshooting the REST API" and "Best practices for using the REST API").
const GENERAL: &[u16] = &[301, 307, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503];

/// What GitHub answers and its description leaves out, and the schema that stands for it. Redirects of
/// renamed repositories lead there.
const UNDESCRIBED: &[(&str, &str, &str)] =
    &[("GET", "/repositories/{repository_id}", "full-repository")];

/// Where the description contradicts itself, and the schema that holds there.
///
/// The list of an App's installations wants every account to be a person and an enterprise at once
/// (`allOf`), where a single installation wants one of them (`anyOf`), as GitHub answers.
const CORRECTED: &[(&str, &str)] = &[(
    "/paths/~1app~1installations/get/responses/200/content/application~1json/schema/items",
    "installation",
)];

/// A file of one of the packages.
pub fn file(path: &str) -> Result<Value> {
    let path = crate::cache()
        .join("github/node_modules/@octokit")
        .join(path);
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "{} is missing; run ./tests/run, which installs it",
            path.display()
        )
    })?;
    Ok(serde_json::from_slice(&text)?)
}

/// The description with the validators that were needed so far.
pub struct Description {
    api: Value,
    webhooks: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl std::fmt::Debug for Description {
    /// It has millions of lines.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Description")
    }
}

/// Reads the description once for all tests.
pub fn description() -> Result<&'static Description> {
    static READ: OnceLock<Result<Description, String>> = OnceLock::new();
    let read = || -> Result<Description> {
        let mut api = file("openapi/generated/api.github.com.json")?;
        for (pointer, schema) in CORRECTED {
            let wrong = api
                .pointer_mut(pointer)
                .context("a known mistake is gone")?;
            *wrong = json!({ "$ref": format!("#/components/schemas/{schema}") });
        }
        Ok(Description {
            api,
            webhooks: file("webhooks-schemas/schema.json")?,
            validators: Mutex::default(),
        })
    };
    READ.get_or_init(|| read().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

/// One request, as it is compared.
pub struct Asked<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With its parameters in braces.
    pub route: &'a str,
    /// Those in the path.
    pub path: &'a [(String, String)],
    /// Those after the question mark.
    pub query: &'a [(String, String)],
    /// None where there is none.
    pub body: Option<&'a Value>,
}

impl Description {
    fn operation(&self, method: &str, route: &str) -> Option<&Value> {
        self.api["paths"]
            .get(route)?
            .get(method.to_ascii_lowercase())
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => self
                .api
                .pointer(pointer.trim_start_matches('#'))
                .unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// Whether a route is described, or known to be left out.
    pub fn knows(&self, method: &str, route: &str) -> bool {
        let left_out = |one: &(&str, &str, &str)| (one.0, one.1) == (method, route);
        self.operation(method, route).is_some() || UNDESCRIBED.iter().any(left_out)
    }

    /// What is wrong with a request.
    pub fn check_request(&self, asked: &Asked<'_>) -> Vec<String> {
        let Some(operation) = self.operation(asked.method, asked.route) else {
            if self.knows(asked.method, asked.route) {
                return Vec::new();
            }
            return vec!["the route is not described".to_owned()];
        };
        let mut wrong = self.check_parameters(operation, asked);
        let described = &operation["requestBody"];
        let schema = &described["content"]["application/json"]["schema"];
        match asked.body {
            Some(_) if schema.is_null() => wrong.push("no body is described".to_owned()),
            Some(body) => {
                let key = format!("{} {} request", asked.method, asked.route);
                wrong.extend(self.check(&key, schema, body, "request"));
            }
            None if described["required"] == true => wrong.push("the body is missing".to_owned()),
            None => {}
        }
        wrong
    }

    fn check_parameters(&self, operation: &Value, asked: &Asked<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        let described: Vec<&Value> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| self.resolve(parameter))
            .collect();
        for (place, given) in [("path", asked.path), ("query", asked.query)] {
            for (name, value) in given {
                let parameter = described
                    .iter()
                    .find(|one| one["in"] == place && one["name"] == name.as_str());
                let Some(parameter) = parameter else {
                    wrong.push(format!("the {place} parameter {name} is not described"));
                    continue;
                };
                let schema = self.resolve(&parameter["schema"]);
                let typed = typed(schema, value);
                let key = format!("{} {} {place} {name}", asked.method, asked.route);
                wrong.extend(self.check(&key, schema, &typed, &format!("parameter {name}")));
            }
        }
        let missing = described.iter().filter(|one| {
            one["in"] == "query"
                && one["required"] == true
                && !asked
                    .query
                    .iter()
                    .any(|(name, _)| one["name"] == name.as_str())
        });
        wrong.extend(missing.map(|one| format!("the parameter {} is missing", one["name"])));
        wrong
    }

    /// What is wrong with an answer; no body is `None`.
    pub fn check_answer(
        &self,
        method: &str,
        route: &str,
        status: u16,
        body: Option<&Value>,
    ) -> Vec<String> {
        let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let described = self
            .operation(method, route)
            .map(|operation| self.resolve(&operation["responses"][status.to_string()]))
            .filter(|described| !described.is_null());
        let undescribed = UNDESCRIBED
            .iter()
            .find(|one| (one.0, one.1) == (method, route));
        let schema = match (described, undescribed) {
            (Some(described), _) => described["content"]["application/json"]["schema"].clone(),
            (None, Some((_, _, name))) if status == 200 => named(name),
            (None, _) if GENERAL.contains(&status) => named("basic-error"),
            (None, _) => return vec![format!("the status {status} is not described")],
        };
        // Where the description says nothing of an error's body, GitHub sends the usual one.
        let schema = if schema.is_null() && status >= 400 {
            named("basic-error")
        } else {
            schema
        };
        match body {
            None if schema.is_null() || matches!(status, 204 | 302 | 304) => Vec::new(),
            None => vec![format!("an answer {status} without a body")],
            Some(_) if schema.is_null() => {
                vec![format!(
                    "an answer {status} with a body, which is not described"
                )]
            }
            Some(body) => {
                let key = format!("{method} {route} {status}");
                self.check(&key, &schema, body, &format!("answer {status}"))
            }
        }
    }

    /// What is wrong with a webhook's payload.
    pub fn check_webhook(&self, event: &str, action: Option<&str>, payload: &Value) -> Vec<String> {
        let name = format!("{event}${}", action.unwrap_or("event"));
        let key = format!("webhook {name}");
        if self.webhooks["definitions"].get(&name).is_none() {
            return vec![format!("no schema {name}")];
        }
        let validator = self.validator(&key, || {
            let document = json!({
                "$ref": format!("#/definitions/{name}"),
                "definitions": self.webhooks["definitions"],
            });
            build(&document, Draft::Draft7)
        });
        differences(validator, payload, &key)
    }

    fn check(&self, key: &str, schema: &Value, value: &Value, what: &str) -> Vec<String> {
        // Errors have members that the description leaves out: GitHub adds their status.
        let open = what.starts_with("answer 4") || what.starts_with("answer 5");
        let validator = self.validator(key, || {
            let document = schema::bundle(&self.api["components"]["schemas"], schema, open)?;
            build(&document, Draft::Draft4)
        });
        differences(validator, value, what)
    }

    fn validator(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<Validator>,
    ) -> Result<Arc<Validator>> {
        let mut all = self
            .validators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = all.get(key) {
            return Ok(validator.clone());
        }
        let validator = Arc::new(make()?);
        all.insert(key.to_owned(), validator.clone());
        Ok(validator)
    }
}

fn build(document: &Value, draft: Draft) -> Result<Validator> {
    jsonschema::options()
        .with_draft(draft)
        .should_validate_formats(true)
        .build(document)
        .map_err(|error| anyhow!("the schema cannot be used: {error}"))
}

fn differences(validator: Result<Arc<Validator>>, value: &Value, what: &str) -> Vec<String> {
    let validator = match validator {
        Ok(validator) => validator,
        Err(error) => return vec![format!("{what}: {error:#}")],
    };
    let all: BTreeSet<String> = validator
        .iter_errors(value)
        .map(|error| {
            let said: String = error.to_string().chars().take(300).collect();
            format!("{what} at {:?}: {said}", error.instance_path().as_str())
        })
        .collect();
    all.into_iter().collect()
}

/// A parameter's text as its schema means it.
fn typed(schema: &Value, text: &str) -> Value {
    let parsed = match schema["type"].as_str() {
        Some("integer" | "number" | "boolean") => serde_json::from_str(text).ok(),
        Some("array") => Some(text.split(',').map(Value::from).collect()),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

/// The events whose examples [`examples`] gives.
const HANDLED: &[&str] = &[
    "ping",
    "push",
    "pull_request",
    "installation",
    "installation_repositories",
    "repository",
    "delete",
    "create",
    "check_run",
    "check_suite",
];

/// Real payloads of the events that the platform handles: event, action, payload.
pub fn examples() -> Result<Vec<(String, Option<String>, Value)>> {
    let all = file("webhooks-examples/api.github.com/index.json")?;
    let mut found = Vec::new();
    let mut by_event: BTreeMap<&str, usize> = BTreeMap::new();
    for event in all.as_array().context("a list of events")? {
        let name = event["name"].as_str().context("an event's name")?;
        let Some(handled) = HANDLED.iter().find(|handled| **handled == name) else {
            continue;
        };
        for example in event["examples"].as_array().context("examples")? {
            let action = example["action"].as_str().map(str::to_owned);
            found.push((name.to_owned(), action, example.clone()));
            *by_event.entry(handled).or_default() += 1;
        }
    }
    for handled in HANDLED {
        anyhow::ensure!(
            by_event.contains_key(handled),
            "there is no example of {handled}"
        );
    }
    Ok(found)
}
