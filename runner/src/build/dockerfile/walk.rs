//! From instructions to steps, one after the other. Pure: nothing of the source runs, and no image
//! is asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{Base, Offer};
use super::context::Context;
use super::expand::expand;
use super::parse::{Line, Parsed, json_words, refused, words};
use super::stages::{Config, Known, SHELL, Stage, Stages, Step, Work, absolute, needed};
use crate::build::halt::Halt;
use crate::protocol::Diagnosis;

/// Most steps of one image: engines stack at most 127 layers, and a base has some.
const MAX_STEPS: usize = 100;
/// Most bytes of the variables of a stage, which each of its commands is given: Linux gives a program
/// hardly more.
const MAX_VARIABLES_BYTES: usize = 256 * 1024;
/// Most bytes of what all instructions take of the source, as names: a source of the most files that
/// there may be fits some thirty times.
const MAX_SELECTED_BYTES: usize = 64 << 20;
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

/// Makes the steps.
pub fn interpret(
    file: &str,
    parsed: &Parsed,
    context: &Context,
    offer: &Offer<'_>,
    known: &Known,
    halt: &Halt,
) -> Result<Stages, Diagnosis> {
    let mut walk = Walk {
        file,
        halt,
        selected_bytes: 0,
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

pub struct Walk<'a> {
    file: &'a str,
    /// What stands in few lines can take long.
    halt: &'a Halt,
    /// What was taken of the source so far.
    selected_bytes: usize,
    pub(super) escape: char,
    pub(super) context: &'a Context,
    pub(super) offer: &'a Offer<'a>,
    known: &'a Known,
    /// What is predefined.
    global: BTreeMap<String, String>,
    /// `ARG` in front of the first `FROM`.
    declared: BTreeMap<String, String>,
    /// `ARG` of the stage.
    arguments: BTreeMap<String, String>,
    pub(super) stages: Vec<Stage>,
    pub(super) says: Vec<String>,
    without_effect: BTreeSet<String>,
}

impl Walk<'_> {
    fn line(&mut self, line: &Line) -> Result<(), Diagnosis> {
        self.go_on(line)?;
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

    pub(super) fn refuse(
        &self,
        line: &Line,
        why: impl AsRef<str>,
        fix: impl AsRef<str>,
    ) -> Diagnosis {
        refused(self.file, line.number, why, fix)
    }

    /// Nobody reads this refusal: the build has ended.
    pub(super) fn go_on(&self, line: &Line) -> Result<(), Diagnosis> {
        if self.halt.is_set() {
            return Err(self.refuse(line, "the build has ended", "Deploy again."));
        }
        Ok(())
    }

    /// Counts what an instruction takes of the source.
    pub(super) fn count(&mut self, line: &Line, bytes: usize) -> Result<(), Diagnosis> {
        self.selected_bytes = self.selected_bytes.saturating_add(bytes);
        if self.selected_bytes > MAX_SELECTED_BYTES {
            let why = "it takes the same files of the source too many times";
            let fix = "Copy them once, and take them from there with COPY --from or FROM.";
            return Err(self.refuse(line, why, fix));
        }
        Ok(())
    }

    fn check_variables(&self, line: &Line) -> Result<(), Diagnosis> {
        let own = self.stages.last().map(|stage| &stage.config.environment);
        let all = [&self.declared, &self.arguments].into_iter().chain(own);
        let bytes: usize = all
            .flatten()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MAX_VARIABLES_BYTES {
            let kib = MAX_VARIABLES_BYTES / 1024;
            let why = format!("its variables have more than {kib} KiB together");
            return Err(self.refuse(line, why, "Write long values into files."));
        }
        Ok(())
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

    pub(super) fn config(&mut self) -> &mut Config {
        &mut self.stages.last_mut().expect("a FROM was read").config
    }

    /// `ENV` goes first, as the reference has it.
    pub(super) fn variables(&mut self) -> BTreeMap<String, String> {
        let mut variables = self.arguments.clone();
        if let Some(stage) = self.stages.last() {
            variables.extend(stage.config.environment.clone());
        }
        variables
    }

    pub(super) fn expanded(&mut self, line: &Line, text: &str) -> Result<String, Diagnosis> {
        let variables = self.variables();
        self.expanded_with(line, text, &variables)
    }

    fn expanded_with(
        &self,
        line: &Line,
        text: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<String, Diagnosis> {
        self.go_on(line)?;
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

    pub(super) fn find_base(
        &mut self,
        line: &Line,
        written: &str,
    ) -> Result<(Base, Config), Diagnosis> {
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

    pub(super) fn at(&self, line: &Line, mut found: Diagnosis) -> Diagnosis {
        found.location = Some(format!("{}:{}", self.file, line.number));
        found
    }

    pub(super) fn stage_named(&self, name: &str) -> Option<usize> {
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
                self.check_variables(line)?;
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
            self.check_variables(line)?;
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
    pub(super) fn command(&mut self, line: &Line) -> Vec<String> {
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

    pub(super) fn push(&mut self, line: &Line, work: Work) -> Result<(), Diagnosis> {
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
                "Without effect on the instance: {}. How it is run, checked and stopped is the platform's.",
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

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
