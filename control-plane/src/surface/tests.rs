//! Tables: what was, what is, and what is to be said of it.

use runner::protocol::{Surface, Transport};
use serde_json::{Value, json};

use super::{Class, breaks, counts, diff};

fn said(old: &Surface, new: &Surface) -> Vec<String> {
    diff(old, new)
        .into_iter()
        .map(|change| format!("{} {}", change.class.name(), change.code))
        .collect()
}

fn with_tools(tools: Vec<Value>) -> Surface {
    Surface {
        tools,
        ..Surface::default()
    }
}

/// One tool with these members, before and after.
fn tool(old: Value, new: Value) -> Vec<String> {
    let named = |mut members: Value| {
        members["name"] = json!("add");
        with_tools(vec![members])
    };
    said(&named(old), &named(new))
}

/// One tool with this schema of its arguments, before and after.
fn schema(old: &Value, new: &Value) -> Vec<String> {
    tool(json!({ "inputSchema": old }), json!({ "inputSchema": new }))
}

/// One tool with one argument of this schema.
fn argument(old: &Value, new: &Value) -> Vec<String> {
    let object = |argument: &Value| json!({ "type": "object", "properties": { "a": argument } });
    schema(&object(old), &object(new))
}

/// One tool with a result of one member of this schema.
fn result(old: &Value, new: &Value) -> Vec<String> {
    let object = |member: &Value| json!({ "outputSchema": { "type": "object", "properties": { "a": member } } });
    tool(object(old), object(new))
}

fn check(table: Vec<(&str, Vec<String>, &[&str])>) {
    for (name, said, expected) in table {
        assert_eq!(said, expected, "{name}");
    }
}

#[test]
fn tools_come_go_and_change_their_names() {
    let greet =
        json!({ "name": "greet", "description": "Greets.", "inputSchema": { "type": "object" } });
    let mut hello = greet.clone();
    hello["name"] = json!("hello");
    let silent = json!({ "name": "a", "inputSchema": {} });
    let other = json!({ "name": "b", "inputSchema": {} });
    let diff = |old: &[&Value], new: &[&Value]| {
        let surface = |tools: &[&Value]| with_tools(tools.iter().map(|t| (*t).clone()).collect());
        said(&surface(old), &surface(new))
    };
    check(vec![
        ("the same", diff(&[&greet], &[&greet]), &[]),
        (
            "in another order",
            diff(&[&greet, &silent], &[&silent, &greet]),
            &[],
        ),
        ("added", diff(&[], &[&greet]), &["safe tool_added"]),
        ("removed", diff(&[&greet], &[]), &["breaking tool_removed"]),
        (
            "renamed",
            diff(&[&greet], &[&hello]),
            &["breaking tool_renamed"],
        ),
        (
            "one that says nothing is not taken for another",
            diff(&[&silent], &[&other]),
            &["breaking tool_removed", "safe tool_added"],
        ),
    ]);
}

#[test]
fn what_models_read_is_a_risk() {
    let hints = |hints: Value| json!({ "annotations": hints });
    check(vec![
        (
            "description",
            tool(json!({ "description": "a" }), json!({ "description": "b" })),
            &["risky description_changed"],
        ),
        (
            "title",
            tool(
                json!({ "title": "a" }),
                json!({ "annotations": { "title": "b" } }),
            ),
            &["safe title_changed"],
        ),
        (
            "icons",
            tool(json!({}), json!({ "icons": [{ "src": "x" }] })),
            &["safe icons_changed"],
        ),
        (
            "no longer read-only",
            tool(hints(json!({ "readOnlyHint": true })), hints(json!({}))),
            &["risky annotation_changed"],
        ),
        (
            "a hint that says the default",
            tool(
                hints(json!({})),
                hints(json!({ "destructiveHint": true, "openWorldHint": true })),
            ),
            &[],
        ),
        (
            "has to be run as a task",
            tool(
                json!({}),
                json!({ "execution": { "taskSupport": "required" } }),
            ),
            &["breaking task_support_changed"],
        ),
        (
            "may be run as a task",
            tool(
                json!({}),
                json!({ "execution": { "taskSupport": "optional" } }),
            ),
            &["risky task_support_changed"],
        ),
        (
            "description of an argument",
            argument(
                &json!({ "description": "a" }),
                &json!({ "description": "b" }),
            ),
            &["risky argument_description_changed"],
        ),
        (
            "default of an argument",
            argument(&json!({ "default": 1 }), &json!({ "default": 2 })),
            &["risky default_changed"],
        ),
    ]);
}

#[test]
fn arguments_come_go_and_become_required() {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required });
    let none = json!([]);
    let a = json!({ "a": {} });
    let ab = json!({ "a": {}, "b": {} });
    let strict = |mut schema: Value| {
        schema["additionalProperties"] = json!(false);
        schema
    };
    let (only_a, both) = (
        object(a.clone(), none.clone()),
        object(ab.clone(), none.clone()),
    );
    check(vec![
        (
            "added, optional",
            schema(&only_a, &both),
            &["safe argument_added"],
        ),
        (
            "added, required",
            schema(&only_a, &object(ab, json!(["b"]))),
            &["breaking argument_added"],
        ),
        (
            "required now",
            schema(&only_a, &object(a.clone(), json!(["a"]))),
            &["breaking argument_required"],
        ),
        (
            "optional now",
            schema(&object(a, json!(["a"])), &only_a),
            &["safe argument_optional"],
        ),
        (
            "removed",
            schema(&both, &only_a),
            &["risky argument_removed"],
        ),
        (
            "removed and refused",
            schema(&strict(both.clone()), &strict(only_a.clone())),
            &["breaking argument_removed"],
        ),
        (
            "no others any more",
            schema(&only_a, &strict(only_a.clone())),
            &["risky others_refused"],
        ),
        (
            "others too",
            schema(&strict(only_a.clone()), &only_a),
            &["safe others_taken"],
        ),
        (
            "deep inside",
            argument(
                &object(json!({ "x": { "type": "string" } }), none.clone()),
                &object(json!({ "x": { "type": "string" } }), json!(["x"])),
            ),
            &["breaking argument_required"],
        ),
    ]);
}

#[test]
fn narrower_arguments_break_and_wider_ones_do_not() {
    let nullable = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
    let kind = |name: &str| json!({ "type": name });
    let bound = |name: &str, value: i32| json!({ "type": "integer", name: value });
    let list = |items: Value| json!({ "type": "array", "items": items });
    check(vec![
        (
            "another type",
            argument(&kind("string"), &kind("integer")),
            &["breaking type_changed"],
        ),
        (
            "a wider number",
            argument(&kind("integer"), &kind("number")),
            &["safe type_widened"],
        ),
        (
            "a narrower number",
            argument(&kind("number"), &kind("integer")),
            &["breaking type_changed"],
        ),
        (
            "null too",
            argument(&kind("string"), &nullable),
            &["safe type_widened"],
        ),
        (
            "null no more",
            argument(&nullable, &kind("string")),
            &["breaking type_narrowed"],
        ),
        (
            "the same in another spelling",
            argument(&nullable, &json!({ "type": ["string", "null"] })),
            &[],
        ),
        (
            "anything before",
            argument(&json!({}), &kind("string")),
            &["breaking type_narrowed"],
        ),
        (
            "anything now",
            argument(&kind("string"), &json!({})),
            &["safe type_widened"],
        ),
        (
            "a value less",
            argument(&json!({ "enum": ["a", "b"] }), &json!({ "enum": ["a"] })),
            &["breaking values_narrowed"],
        ),
        (
            "a value more",
            argument(&json!({ "enum": ["a"] }), &json!({ "enum": ["b", "a"] })),
            &["safe values_widened"],
        ),
        (
            "values listed",
            argument(&kind("string"), &json!({ "type": "string", "enum": ["a"] })),
            &["breaking values_narrowed"],
        ),
        (
            "one value",
            argument(
                &json!({ "type": "string", "enum": ["a", "b"] }),
                &json!({ "type": "string", "const": "a" }),
            ),
            &["breaking values_narrowed"],
        ),
        (
            "a greater minimum",
            argument(&bound("minimum", 1), &bound("minimum", 2)),
            &["breaking bounds_narrowed"],
        ),
        (
            "a smaller minimum",
            argument(&bound("minimum", 2), &bound("minimum", 1)),
            &["safe bounds_widened"],
        ),
        (
            "a smaller maximum",
            argument(&bound("maximum", 2), &bound("maximum", 1)),
            &["breaking bounds_narrowed"],
        ),
        (
            "a maximum",
            argument(&kind("integer"), &bound("maximum", 1)),
            &["breaking bounds_narrowed"],
        ),
        (
            "no maximum",
            argument(&bound("maximum", 1), &kind("integer")),
            &["safe bounds_widened"],
        ),
        (
            "a length of nothing",
            argument(
                &kind("string"),
                &json!({ "type": "string", "minLength": 0 }),
            ),
            &[],
        ),
        (
            "a pattern",
            argument(
                &kind("string"),
                &json!({ "type": "string", "pattern": "^a" }),
            ),
            &["breaking limit_added"],
        ),
        (
            "another pattern",
            argument(
                &json!({ "type": "string", "pattern": "^a" }),
                &json!({ "type": "string", "pattern": "^b" }),
            ),
            &["risky schema_changed"],
        ),
        (
            "entries of another type",
            argument(&list(kind("string")), &list(kind("integer"))),
            &["breaking type_changed"],
        ),
        (
            "entries limited",
            argument(&kind("array"), &list(kind("string"))),
            &["breaking items_narrowed"],
        ),
        (
            "what cannot be compared",
            argument(
                &json!({ "not": { "type": "null" } }),
                &json!({ "not": { "type": "string" } }),
            ),
            &["risky schema_changed"],
        ),
        (
            "a title",
            argument(&json!({ "title": "A" }), &json!({ "title": "B" })),
            &[],
        ),
    ]);
}

#[test]
fn results_are_read_the_other_way_round() {
    let kind = |name: &str| json!({ "type": name });
    let nullable = json!({ "type": ["string", "null"] });
    let object = |required: Value| json!({ "outputSchema": { "type": "object", "properties": { "a": {} }, "required": required } });
    check(vec![
        (
            "null too",
            result(&kind("string"), &nullable),
            &["risky type_widened"],
        ),
        (
            "null no more",
            result(&nullable, &kind("string")),
            &["safe type_narrowed"],
        ),
        (
            "another type",
            result(&kind("string"), &kind("integer")),
            &["breaking type_changed"],
        ),
        (
            "gone",
            tool(
                object(json!(["a"])),
                json!({ "outputSchema": { "type": "object" } }),
            ),
            &["breaking result_removed"],
        ),
        (
            "may be missing",
            tool(object(json!(["a"])), object(json!([]))),
            &["risky result_optional"],
        ),
        (
            "declared",
            tool(json!({}), object(json!([]))),
            &["safe output_declared"],
        ),
        (
            "undeclared",
            tool(object(json!([])), json!({})),
            &["breaking output_undeclared"],
        ),
    ]);
}

#[test]
fn references_are_followed_and_circles_end() {
    let model = |kind: &str| {
        json!({
            "type": "object",
            "properties": { "node": { "$ref": "#/$defs/Node" } },
            "$defs": { "Node": {
                "type": "object",
                "properties": { "value": { "type": kind }, "next": { "$ref": "#/$defs/Node" } },
            } },
        })
    };
    let inline = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let referring = json!({
        "type": "object", "properties": { "a": { "$ref": "#/$defs/A" } },
        "$defs": { "A": { "type": "string" } },
    });
    let endless = json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/A" } } });
    check(vec![
        ("the same", schema(&model("string"), &model("string")), &[]),
        (
            "changed behind one",
            schema(&model("string"), &model("integer")),
            &["breaking type_changed"],
        ),
        ("inline or not", schema(&inline, &referring), &[]),
        (
            "to itself",
            schema(&endless, &inline),
            &["breaking type_narrowed"],
        ),
    ]);
}

#[test]
fn schemas_that_are_made_to_be_large_end_in_a_doubt() {
    let mut defs = serde_json::Map::new();
    for level in 0..30 {
        let inner = json!({ "$ref": format!("#/$defs/L{}", level + 1) });
        defs.insert(
            format!("L{level}"),
            json!({ "type": "object", "properties": { "a": inner, "b": { "type": "array", "items": inner } } }),
        );
    }
    let make = |kind: &str| {
        let mut defs = defs.clone();
        defs.insert("L30".into(), json!({ "type": kind }));
        json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/L0" } }, "$defs": defs })
    };
    assert!(breaks(&diff(
        &with_tools(vec![json!({ "name": "t", "inputSchema": make("string") })]),
        &with_tools(vec![json!({ "name": "t", "inputSchema": make("integer") })]),
    )));
    let mut deep = json!({ "type": "string" });
    for _ in 0..100 {
        deep = json!({ "type": "array", "items": deep });
    }
    let mut other = deep.clone();
    *other.pointer_mut(&"/items".repeat(100)).unwrap() = json!({ "type": "integer" });
    assert_eq!(argument(&deep, &other), ["risky schema_changed"]);
}

#[test]
fn prompts_resources_and_templates_are_compared() {
    let prompts = |prompts: Value| Surface {
        prompts: prompts.as_array().unwrap().clone(),
        ..Surface::default()
    };
    let one = |arguments: Value| prompts(json!([{ "name": "review", "arguments": arguments }]));
    let resources = |resources: Value| Surface {
        resources: resources.as_array().unwrap().clone(),
        ..Surface::default()
    };
    let templates = |templates: Value| Surface {
        resource_templates: templates.as_array().unwrap().clone(),
        ..Surface::default()
    };
    let (none, optional) = (json!([]), json!([{ "name": "a" }]));
    let required = json!([{ "name": "a", "required": true }]);
    check(vec![
        (
            "prompt removed",
            said(&one(none.clone()), &prompts(json!([]))),
            &["breaking prompt_removed"],
        ),
        (
            "prompt added",
            said(&prompts(json!([])), &one(none.clone())),
            &["safe prompt_added"],
        ),
        (
            "required argument",
            said(&one(none.clone()), &one(required.clone())),
            &["breaking argument_added"],
        ),
        (
            "optional argument",
            said(&one(none.clone()), &one(optional.clone())),
            &["safe argument_added"],
        ),
        (
            "required now",
            said(&one(optional.clone()), &one(required.clone())),
            &["breaking argument_required"],
        ),
        (
            "argument removed",
            said(&one(required), &one(none)),
            &["risky argument_removed"],
        ),
        (
            "resource removed",
            said(&resources(json!([{ "uri": "a:b" }])), &resources(json!([]))),
            &["risky resource_removed"],
        ),
        (
            "another media type",
            said(
                &resources(json!([{ "uri": "a:b", "mimeType": "text/plain" }])),
                &resources(json!([{ "uri": "a:b", "mimeType": "text/html" }])),
            ),
            &["risky media_type_changed"],
        ),
        (
            "template removed",
            said(
                &templates(json!([{ "uriTemplate": "a:{b}" }])),
                &templates(json!([])),
            ),
            &["breaking template_removed"],
        ),
    ]);
}

#[test]
fn the_server_itself_is_compared() {
    let server = |version: &str, capabilities: Value, instructions: Option<&str>| Surface {
        protocol_version: version.into(),
        capabilities,
        instructions: instructions.map(str::to_owned),
        ..Surface::default()
    };
    let old = server(
        "2025-11-25",
        json!({ "tools": {}, "resources": { "subscribe": true } }),
        None,
    );
    let new = server(
        "2026-07-28",
        json!({ "tools": {}, "resources": { "subscribe": false }, "prompts": {} }),
        Some("Be kind."),
    );
    assert_eq!(
        said(&old, &new),
        [
            "breaking capability_removed",
            "risky protocol_changed",
            "risky instructions_changed",
            "safe capability_added",
        ]
    );
    let speaks = |versions: &[&str]| Surface {
        protocol_versions: versions.iter().map(|v| (*v).to_owned()).collect(),
        ..Surface::default()
    };
    assert_eq!(
        said(
            &speaks(&["2026-07-28", "2025-11-25"]),
            &speaks(&["2026-07-28"])
        ),
        ["breaking protocol_dropped"]
    );
    assert!(said(&speaks(&["2026-07-28"]), &speaks(&[])).is_empty());
    let over_sse = Surface {
        transport: Transport::Sse,
        ..Surface::default()
    };
    assert_eq!(
        said(&Surface::default(), &over_sse),
        ["breaking transport_changed"]
    );
    let named = |name: &str, version: &str| Surface {
        server_info: json!({ "name": name, "version": version }),
        ..Surface::default()
    };
    assert_eq!(
        said(&named("a", "1"), &named("b", "2")),
        ["risky name_changed", "safe version_changed"]
    );
}

#[test]
fn breaking_changes_come_first_and_are_counted() {
    let old = with_tools(vec![
        json!({ "name": "a" }),
        json!({ "name": "b", "description": "x" }),
    ]);
    let new = with_tools(vec![
        json!({ "name": "b", "description": "y" }),
        json!({ "name": "c" }),
    ]);
    let changes = diff(&old, &new);
    assert_eq!(changes[0].class, Class::Breaking);
    assert_eq!((breaks(&changes), counts(&changes)), (true, [1, 1, 1]));
    assert_eq!(changes[0].subject, "tool a");
    assert!(!breaks(&diff(&new, &new)));
}
