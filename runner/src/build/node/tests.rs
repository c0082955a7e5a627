use super::*;

const LOCK: (&str, &str) = ("package-lock.json", "{\"lockfileVersion\": 3}");

fn images() -> Vec<String> {
    ["node:20", "node:22", "python:3.11"]
        .map(str::to_owned)
        .to_vec()
}

fn planned(files: &[(&str, &str)], written: Option<&str>) -> Result<NodePlan, Diagnosis> {
    let tree = FileTree::from_files(files.iter().copied());
    let settings = BuildSettings::default();
    let asked = Asked {
        tree: &tree,
        root: "",
        entrypoint: written,
        settings: &settings,
        images: &images(),
    };
    match language(&tree, written, &settings)? {
        Language::Node(directory, why) => plan(&asked, &tree, &directory, why),
        Language::Python(why) => panic!("it is taken for Python: {why:?}"),
    }
}

fn ok(manifest: &str, more: &[(&str, &str)]) -> NodePlan {
    let files: Vec<_> = [("package.json", manifest)]
        .iter()
        .chain(more)
        .copied()
        .collect();
    planned(&files, None).expect("a plan")
}

fn command(plan: &NodePlan) -> String {
    plan.start.command.join(" ")
}

fn is_python(files: &[(&str, &str)], written: Option<&str>) -> bool {
    let tree = FileTree::from_files(files.iter().copied());
    matches!(
        language(&tree, written, &BuildSettings::default()),
        Ok(Language::Python(_))
    )
}

#[test]
fn a_source_is_what_it_names_to_start() {
    let server = (
        "main.py",
        "from fastmcp import FastMCP\nmcp = FastMCP('x')\n",
    );
    let tools = ("package.json", r#"{"devDependencies": {"prettier": "3"}}"#);
    let init = ("package.json", r#"{"main": "index.js"}"#);
    let start = (
        "package.json",
        r#"{"scripts": {"start": "node server.js"}}"#,
    );
    let js = ("server.js", "");
    assert!(is_python(&[server], None));
    assert!(is_python(&[server, tools], None), "tools for the front end");
    assert!(is_python(&[server, init], None), "a main that is not there");
    assert!(!is_python(&[server, start, js], None));
    assert!(is_python(&[server, start, js], Some("main.py:mcp")));
    assert!(is_python(&[server, ("package.json", "{")], None));
    assert!(!is_python(&[tools], None));
    assert!(!is_python(&[server, js], Some("server.js")));
    let both = planned(&[server, start, js], None).expect("a plan");
    assert_eq!(
        both.plan.reasons[0],
        "Node: package.json has a start script."
    );
}

#[test]
fn a_start_script_is_read_as_words() {
    for (script, expected) in [
        ("node server.js", "/usr/local/bin/node server.js"),
        (
            "node ./server.js --flag 'a b'",
            "/usr/local/bin/node server.js --flag a b",
        ),
        (
            "node --enable-source-maps server.js",
            "/usr/local/bin/node --enable-source-maps server.js",
        ),
        (
            "LOG=info cross-env X=1 node server.js",
            "/usr/local/bin/node server.js",
        ),
        (
            "npm run serve -- --port",
            "/usr/local/bin/node server.js --port",
        ),
        ("yarn serve", "/usr/local/bin/node server.js"),
        ("npx -y tsx server.ts", "tsx server.ts"),
        ("tsx src/main.ts", "tsx src/main.ts"),
        ("node server.js | tee log", "npm run --silent -- start"),
        ("echo $HOME", "npm run --silent -- start"),
        ("node 'unclosed", "npm run --silent -- start"),
        ("tsc && node server.js", "npm run --silent -- start"),
    ] {
        let manifest = json!({"scripts": {"start": script, "serve": "node server.js"}}).to_string();
        let found = ok(&manifest, &[("server.js", "")]);
        assert_eq!(command(&found), expected, "{script}");
    }
    let found = ok(
        r#"{"scripts": {"build": "tsc", "start": "npm run build && A=1 node dist/main.js"}}"#,
        &[],
    );
    assert_eq!(command(&found), "/usr/local/bin/node dist/main.js");
    assert_eq!(found.variables["A"], "1");
    assert_eq!(found.variables["NODE_ENV"], "production");
}

#[test]
fn without_a_script_it_is_main_then_bin_then_a_usual_file() {
    let file = ("lib/x.js", "");
    assert_eq!(
        command(&ok(r#"{"main": "./lib/x"}"#, &[file])),
        "/usr/local/bin/node lib/x.js"
    );
    let bin = r#"{"name": "@scope/tool", "bin": "lib/x.js", "main": "gone.js"}"#;
    assert_eq!(command(&ok(bin, &[file])), "/usr/local/bin/node lib/x.js");
    let several = r#"{"name": "tool", "bin": {"tool": "lib/x.js", "other": "o.js"}}"#;
    assert_eq!(
        command(&ok(several, &[file])),
        "/usr/local/bin/node lib/x.js"
    );
    assert_eq!(
        command(&ok("{}", &[("index.js", "")])),
        "/usr/local/bin/node index.js"
    );
    let built = r#"{"main": "dist/index.js", "scripts": {"build": "tsc"}}"#;
    assert_eq!(
        command(&ok(built, &[])),
        "/usr/local/bin/node dist/index.js"
    );
}

#[test]
fn an_entrypoint_names_a_file_a_program_or_a_script() {
    let manifest = (
        "packages/a/package.json",
        r#"{"scripts": {"serve": "node s.js"}, "bin": {"prog": "s.js"}}"#,
    );
    let files = [
        manifest,
        ("packages/a/s.js", ""),
        ("package.json", manifest.1),
        ("s.js", ""),
    ];
    let found = planned(&files, Some("packages/a/s.js --x 'y z'")).expect("a plan");
    assert_eq!(
        found.start.command,
        ["/usr/local/bin/node", "s.js", "--x", "y z"]
    );
    assert_eq!(found.start.working_dir, "/app/packages/a");
    for written in ["serve", "prog", "s.js"] {
        let found = planned(&files, Some(written)).expect("a plan");
        assert_eq!(command(&found), "/usr/local/bin/node s.js", "{written}");
    }
}

#[test]
fn the_lock_file_decides_the_installer() {
    let manifest = r#"{"main": "index.js"}"#;
    let index = ("index.js", "");
    for (lock, kind, version) in [
        (LOCK, "npm", None),
        (
            ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n"),
            "pnpm",
            Some("10"),
        ),
        (
            ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n"),
            "pnpm",
            Some("8"),
        ),
        (("yarn.lock", "# yarn lockfile v1\n"), "yarn", Some("1")),
        (
            ("yarn.lock", "__metadata:\n  version: 8\n"),
            "yarn-berry",
            Some("4"),
        ),
    ] {
        let found = ok(manifest, &[index, lock]);
        let stage = found.packages.stage("dependencies", None);
        assert_eq!(stage["installer"], kind);
        assert_eq!(stage["version"].as_str(), version);
        assert_eq!(found.plan.dependencies, lock.0);
    }
    let named = r#"{"main": "index.js", "packageManager": "pnpm@9.12.0+sha512.abc"}"#;
    let pnpm = ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n");
    let found = ok(named, &[index, LOCK, pnpm]);
    assert_eq!(found.packages.stage("app", None)["version"], "9.12.0");
    assert_eq!(ok(named, &[index]).plan.dependencies, "package.json");
}

#[test]
fn code_alone_changes_no_packages() {
    let manifest =
        r#"{"version": "1", "dependencies": {"x": "1"}, "scripts": {"start": "node a.js"}}"#;
    let first = ok(manifest, &[("a.js", "1"), LOCK]);
    let renamed = manifest.replace("a.js", "b.js");
    assert_eq!(
        first.packages.inputs(),
        ok(&renamed, &[("b.js", "2"), LOCK]).packages.inputs()
    );
    let other = manifest.replace("\"x\": \"1\"", "\"x\": \"2\"");
    assert_ne!(
        first.packages.inputs(),
        ok(&other, &[("a.js", "1"), LOCK]).packages.inputs()
    );
    let lock = ("package-lock.json", "{}");
    assert_ne!(
        first.packages.inputs(),
        ok(manifest, &[("a.js", "1"), lock]).packages.inputs()
    );
}

#[test]
fn packages_that_depend_on_the_code_are_installed_with_it() {
    for manifest in [
        r#"{"main": "i.js", "workspaces": ["packages/*"]}"#,
        r#"{"main": "i.js", "dependencies": {"x": "file:./x"}}"#,
        r#"{"main": "i.js", "scripts": {"postinstall": "patch-package"}}"#,
    ] {
        assert!(
            ok(manifest, &[("i.js", "")]).packages.in_place,
            "{manifest}"
        );
    }
    assert!(!ok(r#"{"main": "i.js"}"#, &[("i.js", "")]).packages.in_place);
}

#[test]
fn development_packages_stay_where_they_start_the_server() {
    let manifest = |start: &str| {
        json!({"scripts": {"start": start}, "devDependencies": {"tsx": "4", "typescript": "5"}})
            .to_string()
    };
    let server = [("server.ts", ""), ("server.js", "")];
    for (start, stays) in [
        ("tsx server.ts", true),
        ("node --import tsx/esm server.ts", true),
        ("node server.js", false),
        ("node server.js; true", true),
    ] {
        assert_eq!(
            ok(&manifest(start), &server).packages.keep_dev,
            stays,
            "{start}"
        );
    }
}

#[test]
fn the_wanted_node_is_taken_where_it_is() {
    let index = ("index.js", "");
    let with =
        |engine: &str| format!(r#"{{"engines": {{"node": "{engine}"}}, "main": "index.js"}}"#);
    for (engine, version) in [
        (">=18", "22"),
        ("20.x", "20"),
        ("^20.11.0 || >=24", "20"),
        (">=22.7.5", "22"),
        ("<22", "20"),
        ("*", "22"),
    ] {
        assert_eq!(ok(&with(engine), &[index]).version, version, "{engine}");
    }
    let plain = r#"{"main": "index.js"}"#;
    assert_eq!(ok(plain, &[index, (".nvmrc", "v20.1.0\n")]).version, "20");
    assert_eq!(ok(plain, &[index, (".nvmrc", "lts/*\n")]).version, "22");
    let absent = planned(&[("package.json", &with(">=23")), index], None).expect_err("absent");
    assert_eq!(absent.code, "node_version_unavailable");
    assert_eq!(
        absent.cause,
        "package.json asks for Node >=23, and this platform has 20 and 22."
    );
}

#[test]
fn bad_input_says_what_and_what_to_do() {
    let huge = format!(r#"{{"description": "{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let deep = "[".repeat(100_000);
    for (manifest, written, code, word) in [
        ("[]", None, "configuration_invalid", "not a JSON object"),
        ("{", None, "configuration_invalid", "EOF"),
        (deep.as_str(), None, "configuration_invalid", "recursion"),
        (
            huge.as_str(),
            None,
            "configuration_invalid",
            "larger than 1 MiB",
        ),
        ("{}", None, "no_entrypoint", "no start script"),
        (
            r#"{"scripts": {"start": ""}}"#,
            None,
            "no_entrypoint",
            "no start script",
        ),
        (
            r#"{"scripts": {"start": 5}}"#,
            None,
            "no_entrypoint",
            "no start script",
        ),
        (
            r#"{"scripts": {"start": "npm run start"}}"#,
            None,
            "entrypoint_not_found",
            "start",
        ),
        (
            r#"{"scripts": {"start": "npm run gone"}}"#,
            None,
            "entrypoint_not_found",
            "gone",
        ),
        (
            r#"{"scripts": {"start": "node gone.js"}}"#,
            None,
            "entrypoint_not_found",
            "gone.js",
        ),
        (
            r#"{"scripts": {"build": "x"}, "main": "../../etc/passwd"}"#,
            None,
            "entrypoint_invalid",
            "not inside",
        ),
        (
            r#"{"scripts": {"start": "node ../x.js"}}"#,
            None,
            "entrypoint_invalid",
            "not inside",
        ),
        (
            r#"{"scripts": {"build": "x"}, "bin": {"a": "a.js", "b": "b.js"}}"#,
            None,
            "no_entrypoint",
            "a and b",
        ),
        (
            r#"{"bin": {"a": "gone.js"}}"#,
            Some("a"),
            "entrypoint_not_found",
            "gone.js",
        ),
        ("{}", Some("gone.js"), "entrypoint_not_found", "gone.js"),
        ("{}", Some("x.js 'unclosed"), "entrypoint_invalid", "words"),
        (
            r#"{"scripts": {"start": "x"}, "engines": {"node": "latest please"}}"#,
            None,
            "configuration_invalid",
            "latest please",
        ),
        (
            r#"{"scripts": {"start": "x"}, "engines": {"node": ">=99"}}"#,
            None,
            "node_version_unavailable",
            ">=99",
        ),
        (
            r#"{"scripts": {"start": "x"}, "packageManager": "bun@1.1.0"}"#,
            None,
            "configuration_invalid",
            "bun",
        ),
        (
            r#"{"scripts": {"start": "x"}, "packageManager": "pnpm@9; rm -rf /"}"#,
            None,
            "configuration_invalid",
            "version",
        ),
    ] {
        let shown: String = manifest.chars().take(60).collect();
        let found = planned(&[("package.json", manifest)], written).expect_err(&shown);
        assert_eq!(found.code, code, "{shown}: {found:?}");
        assert!(found.cause.contains(word), "{shown}: {found:?}");
        assert!(found.fix.ends_with('.'), "{shown}: {found:?}");
    }
    let tree = FileTree::from_files([("package.json", "{}"), ("index.js", "")]);
    let asked = Asked {
        tree: &tree,
        root: "",
        entrypoint: None,
        settings: &BuildSettings::default(),
        images: &["python:3.11".to_owned()],
    };
    let none = plan(&asked, &tree, "", String::new());
    assert_eq!(none.expect_err("no image").code, "node_version_unavailable");
}
