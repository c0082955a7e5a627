//! What a Dockerfile comes to: which images are made from which, what is done in each, and what
//! the last one is started with.

use std::collections::{BTreeMap, BTreeSet};

use super::base::Base;
use super::context::Selected;
use super::mount::Mounts;

/// Where programs are looked for in the images of Debian, Python and Node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs a command that is no list of words.
pub const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// What an image says of itself that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `ENV`.
    pub environment: BTreeMap<String, String>,
    /// `WORKDIR`.
    pub working_dir: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `SHELL`.
    pub shell: Vec<String>,
    /// `EXPOSE`, as far as it is TCP.
    pub ports: BTreeSet<u16>,
    /// `USER`: of the commands that are run, never of the instance.
    pub user: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            environment: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
            working_dir: "/".to_owned(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            shell: SHELL.map(str::to_owned).to_vec(),
            ports: BTreeSet::new(),
            user: None,
        }
    }
}

/// One change of an image.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands.
    pub line: usize,
    /// As it is written, for people.
    pub text: String,
    /// What is done.
    pub work: Work,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Work {
    /// `RUN`.
    Run(Run),
    /// `COPY` and `ADD`.
    Copy(Copy),
}

/// A command.
#[derive(Debug, Clone)]
pub struct Run {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `ARG` and `ENV`.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub working_dir: String,
    /// As whom.
    pub user: Option<String>,
    /// What is there only while it runs.
    pub mounts: Mounts,
}

/// Files.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Where they come from.
    pub from: From,
    /// Where they go: absolute, with a slash at its end if it is a directory.
    pub to: String,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<u32>,
}

/// Where copied files come from.
#[derive(Debug, Clone)]
pub enum From {
    /// The source, and texts of the Dockerfile's own.
    Context(Vec<Selected>),
    /// Another image: absolute paths in it.
    Image(Base, Vec<String>),
}

/// One image in the making.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it stands on.
    pub base: Base,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What it says of itself at its end.
    pub config: Config,
    /// Its name.
    pub alias: Option<String>,
}

/// All of them; the last is the one that is started.
#[derive(Debug)]
pub struct Stages {
    /// In order; those that nothing needs are in it too.
    pub all: Vec<Stage>,
    /// The numbers of those that the last one needs, itself among them.
    pub needed: BTreeSet<usize>,
    /// Sentences for the log.
    pub says: Vec<String>,
}

/// What is known of images that are pulled, once they are.
pub type Known = BTreeMap<String, Config>;

/// The stages that the last one needs.
pub fn needed(stages: &[Stage]) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut ahead = vec![stages.len() - 1];
    while let Some(number) = ahead.pop() {
        if !needed.insert(number) {
            continue;
        }
        let stage = &stages[number];
        let copied = stage.steps.iter().flat_map(|step| step.work.images());
        ahead.extend(copied.chain([&stage.base]).filter_map(|base| match base {
            Base::Stage(number) => Some(*number),
            _ => None,
        }));
    }
    needed
}

impl Work {
    /// The images that it takes files from.
    pub fn images(&self) -> Vec<&Base> {
        match self {
            Self::Copy(Copy {
                from: From::Image(base, _),
                ..
            }) => vec![base],
            _ => Vec::new(),
        }
    }
}

/// `path` from `directory`, without dots and without a slash at its end.
pub fn absolute(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            // The root is above itself.
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The same, and a slash at its end stays, and so does a dot that means one.
pub fn absolute_as_written(directory: &str, path: &str) -> String {
    let mut found = absolute(directory, path);
    let is_directory = path.ends_with('/') || path == "." || path.ends_with("/.");
    if is_directory && !found.ends_with('/') {
        found.push('/');
    }
    found
}
