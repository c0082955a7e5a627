//! The plan of a source, in the language that it is written in or by its own Dockerfile. Pure.

use super::dockerfile::{self, DockerfilePlan, Offer};
use super::halt::Halt;
use super::node::{self, Asked, Language, NodePlan};
use super::plan::{self, BuildPlan};
use super::tree::FileTree;
use crate::diagnose::{Code, diagnosis};
use crate::protocol::{self, BuildSettings, Diagnosis};

/// A plan of either language.
#[derive(Debug)]
pub enum Planned {
    /// The launcher serves it, or a start command is run in its place.
    Python(BuildPlan),
    /// The bridge serves it.
    Node(NodePlan),
    /// The bridge serves it, in an image of its own.
    Dockerfile(Box<DockerfilePlan>),
}

impl Planned {
    /// The same for people.
    pub fn plan(&self) -> &protocol::Plan {
        match self {
            Self::Python(plan) => &plan.plan,
            Self::Node(plan) => &plan.plan,
            Self::Dockerfile(plan) => &plan.plan,
        }
    }
}

/// Plans a source. `entrypoint` and `settings` are what the user said, `offer` the runtime images
/// present and what else an image may stand on.
///
/// Many repositories hold a Dockerfile for other platforms beside a server that can be planned
/// without it, and better: so one is taken where the settings say so, or where nothing is found to
/// start. `halt` stops what takes long.
pub fn plan_source(
    tree: &FileTree,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    offer: Offer<'_>,
    halt: &Halt,
) -> Result<Planned, Diagnosis> {
    let (root, view) = plan::root_of(tree, settings)?;
    let by_dockerfile = |file: &str, why: String| {
        let asked = dockerfile::Asked {
            root: &root,
            view: &view,
            settings,
            offer,
            halt,
        };
        dockerfile::plan(&asked, file, why).map(|plan| Planned::Dockerfile(Box::new(plan)))
    };
    let is_written = entrypoint.is_some_and(|text| !text.trim().is_empty());
    if let Some(file) = dockerfile::set_file(settings)? {
        if is_written {
            return Err(both_set());
        }
        let why = format!("Dockerfile {file}: it was set.");
        return by_dockerfile(&file, why);
    }
    match plan_language(tree, &root, &view, entrypoint, settings, offer.images) {
        Err(found)
            if found.code == Code::NoEntrypoint.as_str()
                && !is_written
                && view.has(dockerfile::FILE) =>
        {
            let why = "Dockerfile: there is one, and nothing else to start was found.";
            by_dockerfile(dockerfile::FILE, why.to_owned())
        }
        planned => planned,
    }
}

fn both_set() -> Diagnosis {
    diagnosis(
        Code::ConfigurationInvalid,
        "The entrypoint and the Dockerfile are both set, and only one of them can say what is started.",
        "Clear the entrypoint, or clear the Dockerfile, in the project's settings.",
    )
}

fn plan_language(
    tree: &FileTree,
    root: &str,
    view: &FileTree,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    images: &[String],
) -> Result<Planned, Diagnosis> {
    Ok(match node::language(view, entrypoint, settings)? {
        Language::Node(directory, why) => {
            let asked = Asked {
                tree,
                root,
                entrypoint,
                settings,
                images,
            };
            Planned::Node(node::plan(&asked, view, &directory, why)?)
        }
        Language::Python(why) => {
            let mut planned = plan::plan(tree, entrypoint, settings, images)?;
            planned.plan.reasons.extend(why);
            Planned::Python(planned)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: (&str, &str) = (
        "api/main.py",
        "import os\nfrom fastmcp import FastMCP\nmcp = FastMCP(os.environ['NAME'])\n",
    );
    const MANIFEST: (&str, &str) = (
        "web/package.json",
        r#"{"scripts": {"start": "node server.js"}}"#,
    );
    const JS: (&str, &str) = ("web/server.js", "const key = process.env.API_KEY;\n");

    fn planned(settings: &BuildSettings) -> Result<Planned, Diagnosis> {
        let images = ["node:22", "python:3.11"].map(str::to_owned);
        let packages = ("apt.txt", "libmagic1\n");
        let tree = FileTree::from_files([SERVER, MANIFEST, JS, packages]);
        plan_source(&tree, None, settings, offer(&images), &Halt::default())
    }

    fn offer(images: &[String]) -> Offer<'_> {
        Offer { images, pull: &[] }
    }

    #[test]
    fn a_dockerfile_is_taken_when_it_is_set_or_when_nothing_else_is_there() {
        let images = ["python:3.11".to_owned()];
        let own = ("Dockerfile", "FROM python:3.11-slim\nCMD [\"serve\"]\n");
        let server = (
            "main.py",
            "from fastmcp import FastMCP\nmcp = FastMCP('x')\n",
        );
        let two = [("a.py", server.1), ("b.py", server.1)];
        let plan = |files: &[(&str, &str)], entrypoint, settings: &BuildSettings| {
            let tree = FileTree::from_files(files.iter().copied());
            plan_source(
                &tree,
                entrypoint,
                settings,
                offer(&images),
                &Halt::default(),
            )
        };
        let usual = BuildSettings::default();
        let set = BuildSettings {
            dockerfile: Some("./Dockerfile".to_owned()),
            ..BuildSettings::default()
        };
        let is_python = |planned| matches!(planned, Ok(Planned::Python(_)));
        let is_own = |planned| matches!(planned, Ok(Planned::Dockerfile(_)));
        assert!(is_python(plan(&[server, own], None, &usual)));
        assert!(is_own(plan(&[server, own], None, &set)));
        assert!(is_own(plan(&[("main.go", ""), own], None, &usual)));
        assert!(is_own(plan(&[two[0], two[1], own], None, &usual)));
        assert!(is_python(plan(
            &[two[0], two[1], own],
            Some("a.py"),
            &usual
        )));
        // What the user named and is not there is said, and no Dockerfile is tried instead.
        let gone = plan(&[("main.go", ""), own], Some("gone.py"), &usual);
        assert_eq!(gone.expect_err("gone").code, "entrypoint_not_found");
        let nested = plan(
            &[("main.go", ""), ("deploy/Dockerfile", own.1)],
            None,
            &usual,
        );
        assert_eq!(nested.expect_err("not in the root").code, "no_entrypoint");
        let both = plan(&[server, own], Some("main.py"), &set);
        assert_eq!(both.expect_err("both").code, "configuration_invalid");
    }

    #[test]
    fn a_dockerfiles_path_stays_inside_the_root_directory() {
        let images = ["python:3.11".to_owned()];
        let own = "FROM python:3.11\nCMD [\"serve\"]\n";
        let tree = FileTree::from_files([("Dockerfile", own), ("a/b/x.Dockerfile", own)]);
        let plan = |file: &str| {
            let settings = BuildSettings {
                dockerfile: Some(file.to_owned()),
                ..below("a")
            };
            plan_source(&tree, None, &settings, offer(&images), &Halt::default())
        };
        assert!(plan("b/x.Dockerfile").is_ok());
        for bad in [
            "../Dockerfile",
            "/Dockerfile",
            "b/../../Dockerfile",
            "~/Dockerfile",
            "Dockerfile",
            "b",
            "",
            ".",
            "a\\b",
            "b/x\u{0}",
            "/proc/self/root/etc/passwd",
        ] {
            assert_eq!(
                plan(bad).expect_err(bad).code,
                "configuration_invalid",
                "{bad}"
            );
        }
    }

    fn below(root: &str) -> BuildSettings {
        BuildSettings {
            root_directory: Some(root.to_owned()),
            ..BuildSettings::default()
        }
    }

    #[test]
    fn each_root_directory_has_its_language() {
        let Ok(Planned::Python(python)) = planned(&below("api")) else {
            panic!("it is Python");
        };
        assert_eq!(python.plan.runtime, "python:3.11");
        assert_eq!(python.plan.reads[0].places, ["main.py:3"]);
        let Ok(Planned::Node(node)) = planned(&below("web")) else {
            panic!("it is Node");
        };
        assert_eq!(node.plan.runtime, "node:22");
        assert_eq!(node.start.working_dir, "/app/web");
        assert_eq!(node.packages.stage("app", None)["directory"], "web");
        assert_eq!(node.plan.system_packages, ["libmagic1"]);
        assert_eq!(node.plan.reads[0].name, "API_KEY");
    }

    #[test]
    fn what_is_set_holds_for_node_too() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let settings = BuildSettings {
            start_command: words("npx server --port $PORT --host=${HOST}"),
            build_command: words("npx tsc -p ."),
            ..below("web")
        };
        let Ok(Planned::Node(node)) = planned(&settings) else {
            panic!("it is Node");
        };
        assert_eq!(
            node.start.command,
            ["server", "--port", "8080", "--host=0.0.0.0"]
        );
        assert_eq!(node.plan.start_command, settings.start_command);
        let app = node.packages.stage("app", None);
        assert_eq!(app["command"][1], "tsc");
        assert!(app["script"].is_null());
        let dependencies = node.packages.stage("dependencies", None);
        assert!(dependencies["command"].as_array().unwrap().is_empty());
        assert_eq!(dependencies["builds"], true);
    }

    #[test]
    fn a_set_dependency_file_is_for_python() {
        let settings = BuildSettings {
            dependency_file: Some("requirements.txt".to_owned()),
            start_command: vec!["node".to_owned(), "server.js".to_owned()],
            ..below("web")
        };
        let refused = planned(&settings).expect_err("two languages");
        assert_eq!(refused.code, "configuration_invalid");
        assert!(refused.fix.contains("dependency file"));
    }
}
