//! The plan of a source, in the language that it is written in. Pure.

use super::node::{self, Asked, Language, NodePlan};
use super::plan::{self, BuildPlan};
use super::tree::FileTree;
use crate::protocol::{self, BuildSettings, Diagnosis};

/// A plan of either language.
#[derive(Debug)]
pub enum Planned {
    /// The launcher serves it, or a start command is run in its place.
    Python(BuildPlan),
    /// The bridge serves it.
    Node(NodePlan),
}

impl Planned {
    /// The same for people.
    pub fn plan(&self) -> &protocol::Plan {
        match self {
            Self::Python(plan) => &plan.plan,
            Self::Node(plan) => &plan.plan,
        }
    }
}

/// Plans a source. `entrypoint` and `settings` are what the user said, `images` the runtime images
/// present.
pub fn plan_source(
    tree: &FileTree,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    images: &[String],
) -> Result<Planned, Diagnosis> {
    let (root, view) = plan::root_of(tree, settings)?;
    Ok(match node::language(&view, entrypoint, settings)? {
        Language::Node(directory, why) => {
            let asked = Asked {
                tree,
                root: &root,
                entrypoint,
                settings,
                images,
            };
            Planned::Node(node::plan(&asked, &view, &directory, why)?)
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
        plan_source(&tree, None, settings, &images)
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
