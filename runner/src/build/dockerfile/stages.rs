//! From instructions to steps: which images are made from which, what runs in each, and what the
//! last one is started with. Pure: nothing of the source runs, and no image is asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{Base, Offer};
use super::context::{Context, Missing, Selected};
use super::expand::{expand, expand_document};
use super::mount::{self, Mounts};
use super::parse::{Line, Parsed, json_words, refused, words};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Where programs are looked for in the images of Debian, Python and Node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs a command that is no list of words.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Most steps of one image: engines stack at most 127 layers, and a base has some.
const MAX_STEPS: usize = 100;
/// Instructions that say how an image is to be run or what it is called, of which nothing counts:
/// the platform decides that for every instance.
const WITHOUT_EFFECT: [&str; 6] = [
    "VOLUME",
    "HEALTHCHECK",
    "STOPSIGNAL",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
];

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
    alias: Option<String>,
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

/// Makes the steps.
pub fn interpret(
    file: &str,
    parsed: &Parsed,
    context: &Context,
    offer: &Offer<'_>,
    known: &Known,
) -> Result<Stages, Diagnosis> {
    let mut walk = Walk {
        file,
        escape: parsed.escape,
        context,
        offer,
        known,
        global: platform_arguments(),
        declared: BTreeMap::new(),
        arguments: BTreeMap::new(),
        stages: Vec::new(),
        says: Vec::new(),
        without_effect: BTreeSet::new(),
    };
    for line in &parsed.lines {
        walk.line(line)?;
    }
    walk.finish()
}

/// What is predefined: the platform that is built on and for.
fn platform_arguments() -> BTreeMap<String, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut arguments = BTreeMap::new();
    for side in ["BUILD", "TARGET"] {
        for (name, value) in [
            ("PLATFORM", format!("linux/{architecture}")),
            ("OS", "linux".to_owned()),
            ("ARCH", architecture.to_owned()),
        ] {
            arguments.insert(format!("{side}{name}"), value);
        }
    }
    arguments
}

struct Walk<'a> {
    file: &'a str,
    escape: char,
    context: &'a Context,
    offer: &'a Offer<'a>,
    known: &'a Known,
    /// What is predefined.
    global: BTreeMap<String, String>,
    /// `ARG` in front of the first `FROM`.
    declared: BTreeMap<String, String>,
    /// `ARG` of the stage.
    arguments: BTreeMap<String, String>,
    stages: Vec<Stage>,
    says: Vec<String>,
    without_effect: BTreeSet<String>,
}

impl Walk<'_> {
    fn line(&mut self, line: &Line) -> Result<(), Diagnosis> {
        if self.stages.is_empty() && !matches!(line.name.as_str(), "FROM" | "ARG") {
            let why = format!("{} stands in front of the first FROM", line.name);
            return Err(self.refuse(
                line,
                why,
                "Begin with FROM, for example FROM python:3.12-slim.",
            ));
        }
        self.check_flags(line)?;
        match line.name.as_str() {
            "FROM" => self.from(line),
            "ARG" => self.argument(line),
            "RUN" => self.run(line),
            "COPY" | "ADD" => self.copy(line),
            "ENV" => self.environment(line),
            "WORKDIR" => {
                let path = self.expanded(line, &line.rest)?;
                let path = absolute(&self.config().working_dir, &path);
                self.config().working_dir = path;
                Ok(())
            }
            "CMD" => {
                let command = self.command(line);
                self.config().command = command;
                Ok(())
            }
            "ENTRYPOINT" => {
                let command = self.command(line);
                let config = self.config();
                config.entrypoint = command;
                // As the reference has it: it takes the base's CMD away.
                config.command = Vec::new();
                Ok(())
            }
            "SHELL" => match json_words(&line.rest) {
                Some(words) if !words.is_empty() => {
                    self.config().shell = words;
                    Ok(())
                }
                _ => Err(self.refuse(
                    line,
                    "SHELL is no list of words",
                    "Write it as SHELL [\"/bin/bash\", \"-c\"].",
                )),
            },
            "EXPOSE" => self.expose(line),
            "USER" => {
                let user = self.expanded(line, &line.rest)?;
                self.without_effect.insert("USER".to_owned());
                self.config().user = Some(user).filter(|user| !user.is_empty());
                Ok(())
            }
            name if WITHOUT_EFFECT.contains(&name) => {
                self.without_effect.insert(name.to_owned());
                Ok(())
            }
            name => Err(self.refuse(
                line,
                format!("there is no instruction {name}"),
                "Correct its name; a line that goes on ends with a backslash.",
            )),
        }
    }

    fn refuse(&self, line: &Line, why: impl AsRef<str>, fix: impl AsRef<str>) -> Diagnosis {
        refused(self.file, line.number, why, fix)
    }

    /// Flags that mean something here, or that nothing is lost without.
    fn check_flags(&self, line: &Line) -> Result<(), Diagnosis> {
        for (flag, value) in &line.flags {
            let fits = match (line.name.as_str(), flag.as_str()) {
                ("FROM", "platform")
                | ("RUN", "mount")
                | ("COPY", "from")
                | ("COPY" | "ADD", "chown" | "chmod" | "link")
                | ("HEALTHCHECK", _) => true,
                ("RUN", "network") => value != "host",
                ("RUN", "security") => value == "sandbox",
                _ => false,
            };
            if !fits {
                let why = format!("{} --{flag} is not for builds here", line.name);
                return Err(self.refuse(
                    line,
                    why,
                    format!("Remove --{flag}, or do the same with other instructions."),
                ));
            }
        }
        Ok(())
    }

    fn config(&mut self) -> &mut Config {
        &mut self.stages.last_mut().expect("a FROM was read").config
    }

    /// `ENV` goes first, as the reference has it.
    fn variables(&mut self) -> BTreeMap<String, String> {
        let mut variables = self.arguments.clone();
        if let Some(stage) = self.stages.last() {
            variables.extend(stage.config.environment.clone());
        }
        variables
    }

    fn expanded(&mut self, line: &Line, text: &str) -> Result<String, Diagnosis> {
        let variables = self.variables();
        self.expanded_with(line, text, &variables)
    }

    fn expanded_with(
        &self,
        line: &Line,
        text: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<String, Diagnosis> {
        expand(text, variables, self.escape)
            .map_err(|why| self.refuse(line, why, "Correct what is written there."))
    }

    fn from(&mut self, line: &Line) -> Result<(), Diagnosis> {
        let mut variables = self.global.clone();
        variables.extend(self.declared.clone());
        let words = words(&line.rest, self.escape);
        let (image, alias) = match words[..] {
            [image] => (image, None),
            [image, keyword, alias] if keyword.eq_ignore_ascii_case("as") => (image, Some(alias)),
            _ => {
                let why = "FROM names no image, or more than one";
                return Err(self.refuse(
                    line,
                    why,
                    "Write it as FROM python:3.12-slim, or FROM python:3.12-slim AS name.",
                ));
            }
        };
        let written = self.expanded_with(line, image, &variables)?;
        let earlier = self.stage_named(&written);
        let (base, config) = match earlier {
            Some(number) => {
                let mut config = self.stages[number].config.clone();
                config.shell = SHELL.map(str::to_owned).to_vec();
                (Base::Stage(number), config)
            }
            None => self.find_base(line, &written)?,
        };
        self.arguments.clear();
        self.stages.push(Stage {
            base,
            steps: Vec::new(),
            config,
            alias: alias.map(str::to_ascii_lowercase),
        });
        Ok(())
    }

    fn find_base(&mut self, line: &Line, written: &str) -> Result<(Base, Config), Diagnosis> {
        let (base, says) = self
            .offer
            .find(written)
            .map_err(|found| self.at(line, found))?;
        if let Some(says) = says
            && !self.says.contains(&says)
        {
            self.says.push(says);
        }
        let config = match &base {
            Base::Pulled(name) => self.known.get(name).cloned().unwrap_or_default(),
            _ => Config::default(),
        };
        Ok((base, config))
    }

    fn at(&self, line: &Line, mut found: Diagnosis) -> Diagnosis {
        found.location = Some(format!("{}:{}", self.file, line.number));
        found
    }

    fn stage_named(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        self.stages
            .iter()
            .rposition(|stage| stage.alias.as_deref() == Some(&name))
    }

    fn argument(&mut self, line: &Line) -> Result<(), Diagnosis> {
        for word in words(&line.rest, self.escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word, None),
            };
            let default = match (default, self.stages.is_empty()) {
                (None, _) => None,
                (Some(default), true) => {
                    let variables = self.declared.clone();
                    Some(self.expanded_with(line, default, &variables)?)
                }
                (Some(default), false) => Some(self.expanded(line, default)?),
            };
            let (target, inherited) = if self.stages.is_empty() {
                (&mut self.declared, None)
            } else {
                let inherited = self.declared.get(name).or_else(|| self.global.get(name));
                (&mut self.arguments, inherited.cloned())
            };
            if let Some(value) = default.or(inherited) {
                target.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn environment(&mut self, line: &Line) -> Result<(), Diagnosis> {
        let words = words(&line.rest, self.escape);
        let variables = self.variables();
        let pairs: Vec<(&str, &str)> = match words.first() {
            // The old form has one name, and the rest of the line is its value.
            Some(first) if !first.contains('=') => {
                vec![(first, line.rest[first.len()..].trim())]
            }
            _ => words
                .iter()
                .filter_map(|word| word.split_once('='))
                .collect(),
        };
        if pairs.is_empty() || pairs.len() < words.len() && words[0].contains('=') {
            return Err(self.refuse(
                line,
                "ENV is no list of NAME=value",
                "Quote values that hold spaces.",
            ));
        }
        for (name, value) in pairs {
            let value = self.expanded_with(line, value, &variables)?;
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                return Err(self.refuse(
                    line,
                    "ENV has a name or value that no program can be given",
                    "Correct it.",
                ));
            }
            self.config().environment.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn expose(&mut self, line: &Line) -> Result<(), Diagnosis> {
        for word in words(&line.rest, self.escape) {
            let word = self.expanded(line, word)?;
            let (port, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
            // A range, or a variable that is not set: it says nothing, and does no harm.
            if let (Ok(port), "tcp") = (port.parse(), protocol) {
                self.config().ports.insert(port);
            }
        }
        Ok(())
    }

    /// Words as they are, or what the shell is given.
    fn command(&mut self, line: &Line) -> Vec<String> {
        match json_words(&line.rest) {
            Some(words) => words,
            None if line.rest.is_empty() => Vec::new(),
            None => {
                let mut command = self.config().shell.clone();
                command.push(line.rest.clone());
                command
            }
        }
    }

    fn run(&mut self, line: &Line) -> Result<(), Diagnosis> {
        let mut mounts = Mounts::default();
        for (_, value) in line.flags.iter().filter(|(flag, _)| flag == "mount") {
            let value = self.expanded(line, value)?;
            let added = mounts.add(&value, &self.config().working_dir.clone());
            let bind = added.map_err(|(why, fix)| self.refuse(line, why, fix))?;
            if let Some(bind) = bind {
                let bind = self.bind(line, bind)?;
                mounts.binds.push(bind);
            }
        }
        let mut command = match json_words(&line.rest) {
            Some(words) => words,
            None => {
                let mut command = self.config().shell.clone();
                command.push(shell_text(line));
                command
            }
        };
        // A document alone that begins like a script is one.
        if let [document] = &line.documents[..]
            && let Some(interpreter) = document.text.strip_prefix("#!")
            && is_only_a_document(line)
        {
            let first = interpreter.lines().next().unwrap_or_default();
            command = first.split_whitespace().map(str::to_owned).collect();
            command.extend(["-c".to_owned(), document.text.clone()]);
        }
        if command.is_empty() || line.rest.is_empty() {
            return Err(self.refuse(
                line,
                "RUN names no command",
                "Name one, or remove the line.",
            ));
        }
        let environment = self.variables();
        let config = self.config().clone();
        self.push(
            line,
            Work::Run(Run {
                command,
                environment,
                working_dir: config.working_dir,
                user: config.user,
                mounts,
            }),
        )
    }

    /// What a bind mount brings: files of the source, or of another image.
    fn bind(&mut self, line: &Line, bind: mount::Asked) -> Result<mount::Bind, Diagnosis> {
        let from = match &bind.from {
            None => {
                let source = if bind.source.is_empty() {
                    "."
                } else {
                    &bind.source
                };
                From::Context(self.selected(line, source)?)
            }
            Some(name) => {
                let path = absolute("/", &bind.source);
                let (base, paths) = self.image(line, name, vec![path])?;
                From::Image(base, paths)
            }
        };
        Ok(mount::Bind {
            from,
            target: bind.target,
        })
    }

    fn selected(&self, line: &Line, written: &str) -> Result<Vec<Selected>, Diagnosis> {
        self.context
            .select(written)
            .map_err(|missing| self.at(line, not_there(missing)))
    }

    fn copy(&mut self, line: &Line) -> Result<(), Diagnosis> {
        let written = match json_words(&line.rest) {
            Some(words) => words,
            None => words(&line.rest, self.escape)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        let Some((to, sources)) = written
            .split_last()
            .filter(|(_, sources)| !sources.is_empty())
        else {
            let why = format!("{} needs a source and a destination", line.name);
            return Err(self.refuse(line, why, "Write it as COPY file /where/to/."));
        };
        let to = self.expanded(line, to)?;
        let mut to = absolute_as_written(&self.config().working_dir.clone(), &to);
        if sources.len() > 1 && !to.ends_with('/') {
            to.push('/');
        }
        let flag = |name: &str| {
            let found = line.flags.iter().find(|(flag, _)| flag == name);
            found.map(|(_, value)| value.clone())
        };
        let owner = flag("chown")
            .map(|value| self.expanded(line, &value))
            .transpose()?;
        let mode = flag("chmod")
            .map(|value| self.mode(line, &value))
            .transpose()?;
        let from = match flag("from") {
            Some(name) => {
                let name = self.expanded(line, &name)?;
                let mut paths = Vec::new();
                for source in sources {
                    let source = self.expanded(line, source)?;
                    paths.push(absolute("/", &source));
                }
                let (base, paths) = self.image(line, &name, paths)?;
                From::Image(base, paths)
            }
            None => From::Context(self.sources(line, sources)?),
        };
        self.push(
            line,
            Work::Copy(Copy {
                from,
                to,
                owner,
                mode,
            }),
        )
    }

    fn mode(&mut self, line: &Line, value: &str) -> Result<u32, Diagnosis> {
        let value = self.expanded(line, value)?;
        let mode = u32::from_str_radix(&value, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777);
        mode.map(|mode| mode & 0o777).ok_or_else(|| {
            self.refuse(
                line,
                format!("--chmod={value} is no number"),
                "Write it like --chmod=755.",
            )
        })
    }

    fn sources(&mut self, line: &Line, written: &[String]) -> Result<Vec<Selected>, Diagnosis> {
        let mut found = Vec::new();
        let mut documents = line.documents.iter();
        for source in written {
            if source.starts_with("<<")
                && let Some(document) = documents.next()
            {
                let text = if document.expands {
                    let variables = self.variables();
                    self.document(line, &document.text, &variables)?
                } else {
                    document.text.clone()
                };
                found.push(Selected::text(&document.name, text));
                continue;
            }
            let source = self.expanded(line, source)?;
            if line.name == "ADD" && is_remote(&source) {
                let why = format!("ADD {source} would be fetched by the builder");
                return Err(self.refuse(line, why, "Fetch it in a step: RUN curl -fsSLO and the address, with curl installed before."));
            }
            if line.name == "ADD" && is_archive(&source) {
                let why = format!("ADD {source} would be unpacked by the builder");
                return Err(self.refuse(line, why, "COPY it and unpack it with RUN tar."));
            }
            found.extend(self.selected(line, &source)?);
        }
        Ok(found)
    }

    /// Quotes are text in a document, and variables are replaced.
    fn document(
        &self,
        line: &Line,
        text: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<String, Diagnosis> {
        expand_document(text, variables).map_err(|why| {
            let fix = "Correct what is written there, or quote the name behind <<.";
            self.refuse(line, why, fix)
        })
    }

    /// The image that `--from` names, and the paths in it.
    fn image(
        &mut self,
        line: &Line,
        name: &str,
        paths: Vec<String>,
    ) -> Result<(Base, Vec<String>), Diagnosis> {
        let own = self.stages.len() - 1;
        let number = name.parse::<usize>().ok().filter(|number| *number < own);
        if let Some(number) =
            number.or_else(|| self.stage_named(name).filter(|number| *number < own))
        {
            return Ok((Base::Stage(number), paths));
        }
        if Offer::is_uv(name) {
            let says = format!("{name} is answered by the uv of this platform's own runtime.");
            if !self.says.contains(&says) {
                self.says.push(says);
            }
            // The same runtime as the stage's, so that one image is enough.
            let base = match self.root_of(own) {
                Base::Runtime(runtime) => Base::Runtime(runtime),
                _ => self.offer.with_uv().map_err(|found| self.at(line, found))?,
            };
            let paths = paths.into_iter().map(|path| match path.as_str() {
                "/uv" | "/uvx" => format!("/usr/local/bin{path}"),
                _ => path,
            });
            return Ok((base, paths.collect()));
        }
        let (base, _) = self.find_base(line, name)?;
        Ok((base, paths))
    }

    /// What a stage stands on in the end.
    fn root_of(&self, mut number: usize) -> Base {
        loop {
            match &self.stages[number].base {
                Base::Stage(below) => number = *below,
                base => return base.clone(),
            }
        }
    }

    fn push(&mut self, line: &Line, work: Work) -> Result<(), Diagnosis> {
        let text = format!("{} {}", line.name, line.rest);
        let stage = self.stages.last_mut().expect("a FROM was read");
        stage.steps.push(Step {
            line: line.number,
            text,
            work,
        });
        if stage.steps.len() > MAX_STEPS {
            let why = format!("an image has more than {MAX_STEPS} steps");
            return Err(self.refuse(line, why, "Join commands with &&."));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Stages, Diagnosis> {
        if self.stages.is_empty() {
            return Err(refused(
                self.file,
                1,
                "it has no FROM",
                "Begin it with FROM, for example FROM python:3.12-slim.",
            ));
        }
        if !self.without_effect.is_empty() {
            let names: Vec<&str> = self.without_effect.iter().map(String::as_str).collect();
            self.says.push(format!(
                "{} have no effect on the instance: how it is run, checked and stopped is the platform's.",
                names.join(", ")
            ));
        }
        let needed = needed(&self.stages);
        let layers = self.layers(self.stages.len() - 1);
        if layers > MAX_STEPS {
            let why = format!("its image has more than {MAX_STEPS} steps");
            return Err(refused(self.file, 1, why, "Join commands with &&."));
        }
        Ok(Stages {
            all: self.stages,
            needed,
            says: self.says,
        })
    }

    /// The steps that lie above each other in an image.
    fn layers(&self, mut number: usize) -> usize {
        let mut count = 0;
        loop {
            count += self.stages[number].steps.len();
            match self.stages[number].base {
                Base::Stage(below) => number = below,
                _ => return count,
            }
        }
    }
}

/// The stages that the last one needs.
fn needed(stages: &[Stage]) -> BTreeSet<usize> {
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
        let froms: Vec<&From> = match self {
            Self::Copy(copy) => vec![&copy.from],
            Self::Run(run) => run.mounts.binds.iter().map(|bind| &bind.from).collect(),
        };
        let images = froms.into_iter().filter_map(|from| match from {
            From::Image(base, _) => Some(base),
            From::Context(_) => None,
        });
        images.collect()
    }
}

/// The text for a shell, with the documents that it reads.
fn shell_text(line: &Line) -> String {
    if is_only_a_document(line) {
        return line.documents[0].text.clone();
    }
    let mut text = line.rest.clone();
    for document in &line.documents {
        text.push('\n');
        text.push_str(&document.text);
        text.push_str(&document.name);
    }
    text
}

fn is_only_a_document(line: &Line) -> bool {
    line.documents.len() == 1
        && line.rest.split_whitespace().count() == 1
        && line.rest.starts_with("<<")
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "ftp://", "git@", "ssh://", "git://"]
        .iter()
        .any(|scheme| source.starts_with(scheme))
}

fn is_archive(source: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz"]
        .iter()
        .any(|end| source.ends_with(end))
}

fn not_there(missing: Missing) -> Diagnosis {
    match missing {
        Missing::Nowhere(path) => diagnosis(
            Code::CopySourceMissing,
            format!("The Dockerfile copies {path}, which is not in the source."),
            "Correct the path, which begins at the project's root directory, or add the file.",
        ),
        Missing::Ignored(path, file) => diagnosis(
            Code::CopySourceMissing,
            format!("The Dockerfile copies {path}, which {file} leaves out."),
            format!("Take the line out of {file}, or add `!{path}` at its end."),
        ),
        Missing::Outside(path) => diagnosis(
            Code::CopySourceMissing,
            format!("The Dockerfile copies {path}, which is outside of the source."),
            "Copy what is in the source; set the root directory higher if the files stand above it.",
        ),
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
fn absolute_as_written(directory: &str, path: &str) -> String {
    let mut found = absolute(directory, path);
    let is_directory = path.ends_with('/') || path == "." || path.ends_with("/.");
    if is_directory && !found.ends_with('/') {
        found.push('/');
    }
    found
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
