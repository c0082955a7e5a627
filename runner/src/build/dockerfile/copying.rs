//! `RUN`, `COPY` and `ADD`: what changes files, and where it takes them from.

use super::base::{Base, Offer};
use super::context::{Missing, Selected};
use super::expand::expand_document;
use super::mount::{self, Mounts};
use super::parse::{Line, json_words, words};
use super::stages::{Copy, From, Run, Work, absolute, absolute_as_written};
use super::walk::Walk;
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The sources of an instruction, each once. One that is named again counts at its last place, since
/// what is copied later lies above.
#[derive(Default)]
struct Sources {
    found: BTreeMap<usize, Selected>,
    /// Where each path of the source stands among them.
    places: HashMap<String, usize>,
    next: usize,
    weight: usize,
}

impl Sources {
    fn add(&mut self, source: Selected) {
        if let Some(path) = &source.path
            && let Some(before) = self.places.insert(path.clone(), self.next)
            && let Some(same) = self.found.remove(&before)
        {
            self.weight -= same.weight();
        }
        self.weight += source.weight();
        self.found.insert(self.next, source);
        self.next += 1;
    }
}

impl Walk<'_> {
    pub(super) fn run(&mut self, line: &Line) -> Result<(), Diagnosis> {
        let mut mounts = Mounts::default();
        for (_, value) in line.flags.iter().filter(|(flag, _)| flag == "mount") {
            let value = self.expanded(line, value)?;
            let added = mounts.add(&value, &self.config().working_dir.clone());
            let bind = added.map_err(|(why, fix)| self.refuse(line, why, fix))?;
            if let Some(bind) = bind {
                mounts.binds.extend(self.bind(line, bind)?);
            }
        }
        let mut command = json_words(&line.rest).unwrap_or_else(|| {
            let mut command = self.config().shell.clone();
            command.push(shell_text(line));
            command
        });
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

    /// What a bind mount brings: files of the source. uv's program is in the runtime already.
    fn bind(&mut self, line: &Line, bind: mount::Asked) -> Result<Option<mount::Bind>, Diagnosis> {
        if let Some(name) = &bind.from {
            let own = self.stages.len() - 1;
            if Offer::is_uv(name) && matches!(self.root_of(own), Base::Runtime(_)) {
                return Ok(None);
            }
            let why = format!("--mount=type=bind,from={name} lends files of another image");
            let fix = "COPY --from the files in a step before.";
            return Err(self.refuse(line, why, fix));
        }
        let source = if bind.source.is_empty() {
            "."
        } else {
            &bind.source
        };
        let files = self.selected(line, source)?;
        self.count(line, files.iter().map(Selected::weight).sum())?;
        Ok(Some(mount::Bind {
            files,
            target: bind.target,
        }))
    }

    fn selected(&self, line: &Line, written: &str) -> Result<Vec<Selected>, Diagnosis> {
        self.go_on(line)?;
        self.context
            .select(written)
            .map_err(|missing| self.at(line, not_there(missing)))
    }

    pub(super) fn copy(&mut self, line: &Line) -> Result<(), Diagnosis> {
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
        let mut found = Sources::default();
        let mut documents = line.documents.iter();
        for source in last_ones(written) {
            if source.starts_with("<<")
                && let Some(document) = documents.next()
            {
                let text = if document.expands {
                    let variables = self.variables();
                    self.document(line, &document.text, &variables)?
                } else {
                    document.text.clone()
                };
                self.count(line, text.len())?;
                found.add(Selected::text(&document.name, text));
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
            for selected in self.selected(line, &source)? {
                found.add(selected);
            }
        }
        self.count(line, found.weight)?;
        Ok(found.found.into_values().collect())
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
}

/// Words without those that stand there once more behind; each document is one of its own.
fn last_ones(written: &[String]) -> Vec<&String> {
    let mut seen = HashSet::new();
    let mut last: Vec<&String> = written
        .iter()
        .rev()
        .filter(|word| word.starts_with("<<") || seen.insert(*word))
        .collect();
    last.reverse();
    last
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
