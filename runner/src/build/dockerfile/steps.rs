//! Does the steps of a Dockerfile, each in a container of the image that the step before it left,
//! and keeps what it leaves as an image.
//!
//! ```text
//! steps/<key>/text        the step that the image `step:<key>` was left by
//! ```
//! A key is the hash of project, the image before, the step, the content of the files that it
//! copies and the variables of builds, so a step that is as it was is not run again. Nothing is
//! shared between projects: a step runs what it likes, as the container's root.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::base::{Base, Offer};
use super::contained::Given;
use super::failed::{self, shown};
use super::official;
use super::stages::{Config, Known, Stage, Step};
use super::walk;
use super::{DockerfilePlan, environment, port, start_command};
use crate::agent::Agent;
use crate::build::container::{Failure, Site};
use crate::build::environment::Workplace;
use crate::build::halt;
use crate::build::pipeline::{self, Stop, elapsed_ms, platform};
use crate::diagnose::{Code, diagnosis};
use crate::hash::Hash;
use crate::launcher::bridge::Bridge;
use crate::protocol::Diagnosis;
use crate::record::{Built, OwnImage};
use crate::runtime::{Image, ImageConfig, Runtime};
use crate::store;

/// What such an image is called before its key.
pub const PREFIX: &str = "step:";
/// Most characters of a step in the log.
const SHOWN: usize = 160;
/// Raised when the programs make something else of the same step.
pub const RECIPE: &[u8] = b"1";

/// Opens the store below the runner's directory.
pub fn open(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("steps"))
}

/// Removes the images whose entry is gone: the store was cleaned of it.
pub async fn clean<R: Runtime>(directory: &Path, runtime: &R, installation: Uuid) {
    let images = match runtime.derived(installation).await {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(%error, "the images of Dockerfiles cannot be listed");
            return;
        }
    };
    for image in images {
        let Some(key) = image.name.strip_prefix(PREFIX) else {
            continue;
        };
        if directory.join("steps").join(key).exists() {
            continue;
        }
        if let Err(error) = runtime.remove_image(&image.name).await {
            // Its layers are another one's too, or it is just being left.
            tracing::debug!(%error, image = image.name, "an unused image stays for now");
        }
    }
}

/// Where and for whom a build is done.
pub struct Work<'a, R: Runtime> {
    /// The runner.
    pub agent: &'a Agent<R>,
    /// Whose build this is, and where it runs.
    pub site: &'a Site<'a>,
    /// Longest build, seconds, for people.
    pub seconds: u64,
}

/// Builds the image and says how it is started.
pub async fn build<R: Runtime>(
    work: &Work<'_, R>,
    source: &Path,
    mut plan: DockerfilePlan,
) -> Result<(Built, Vec<(String, u64)>), Stop> {
    let begun = Instant::now();
    let bridge = Bridge::install(&work.agent.directory)
        .context("preparing the steps' program")
        .map_err(|error| platform(&error))?;
    let mut making = Making {
        work,
        root: source.join(&plan.root),
        file: plan.file.clone(),
        bridge,
        known: BTreeMap::new(),
        done: 0,
        total: 0,
    };
    let configs = making.pull_all(&plan).await?;
    if !configs.is_empty() {
        plan = making.read_again(plan, configs).await?;
    }
    making.prepare_runtimes(&plan).await?;
    let image = making.all(&plan).await?;
    let last = plan.stages.all.last().expect("there is one");
    let start = start_command(&plan.file, &last.config, &plan.settings)?;
    let built = Built {
        source: source.to_owned(),
        environment: making.entry(&image),
        lock: String::new(),
        image: image.name,
        variables: BTreeMap::new(),
        entrypoint: String::new(),
        root: plan.root,
        start_command: Vec::new(),
        start: Some(start),
        own_image: Some(OwnImage {
            port: port(&last.config),
            environment: environment(&last.config),
        }),
    };
    Ok((built, vec![("steps".to_owned(), elapsed_ms(begun))]))
}

/// The images of one build.
pub struct Making<'a, R: Runtime> {
    /// Whose build it is.
    pub work: &'a Work<'a, R>,
    /// The root directory on this machine.
    pub root: PathBuf,
    file: String,
    /// The program that does the steps.
    pub bridge: Bridge,
    /// Bases that are ready, and their sizes.
    known: BTreeMap<String, Image>,
    done: usize,
    total: usize,
}

/// An image, and how large it was before the Dockerfile added to it.
#[derive(Clone)]
pub struct Made {
    /// It.
    pub image: Image,
    /// The size of what it stands on in the end.
    pub base_bytes: u64,
}

impl<R: Runtime> Making<'_, R> {
    /// Pulls every image that is needed and not the platform's; gives what they say of themselves.
    async fn pull_all(&mut self, plan: &DockerfilePlan) -> Result<Known, Stop> {
        let mut configs = Known::new();
        for base in bases(plan) {
            if let Base::Pulled(name) = base
                && !configs.contains_key(name)
            {
                let (image, config) = self.pull(name).await?;
                configs.insert(name.clone(), known(&config));
                self.known.insert(name.clone(), image);
            }
        }
        Ok(configs)
    }

    /// Interprets the Dockerfile anew, now that it is known what its base images say of themselves.
    async fn read_again(
        &self,
        mut plan: DockerfilePlan,
        configs: Known,
    ) -> Result<DockerfilePlan, Stop> {
        let (agent, site) = (self.work.agent, self.work.site);
        let images = agent.image_names().await;
        let pull = agent.settings.pull_images.clone();
        let read = halt::bounded(site.deadline, site.canceled, move |halt| {
            let offer = Offer {
                images: &images,
                pull: &pull,
            };
            let (file, context) = (&plan.file, &plan.context);
            let stages = walk::interpret(file, &plan.parsed, context, &offer, &configs, halt)?;
            plan.stages = stages;
            Ok::<_, Diagnosis>(plan)
        });
        let read = read.await.map_err(|failure| self.stop(failure))?;
        Ok(read?)
    }

    /// Makes every runtime of the platform that is needed look like an official image.
    async fn prepare_runtimes(&mut self, plan: &DockerfilePlan) -> Result<(), Stop> {
        for base in bases(plan) {
            if let Base::Runtime(name) = base
                && !self.known.contains_key(name)
            {
                let image = self.runtime(name).await?;
                self.known.insert(name.clone(), image);
            }
        }
        Ok(())
    }

    async fn pull(&self, name: &str) -> Result<(Image, ImageConfig), Stop> {
        let site = self.work.site;
        site.log.line(format!("Pulling {name}."));
        let key = Hash::new()
            .part(b"pulled")
            .part(site.owner.project.as_bytes())
            .part(name.as_bytes())
            .hex();
        let own = format!("{PREFIX}{key}");
        self.remember(&key, &format!("FROM {name}"))?;
        let pull = self.work.agent.runtime.pull(&site.owner, name, &own);
        let pulled = tokio::select! {
            pulled = pull => pulled,
            () = tokio::time::sleep_until(site.deadline) => return Err(self.stop(Failure::TimedOut)),
            () = site.canceled.cancelled() => return Err(Stop::Canceled),
        };
        let pulled = pulled.map_err(|error| {
            // What the engine says names registries and addresses, and no secret: it has none.
            diagnosis(
                Code::BaseImageUnavailable,
                format!("The base image {name} could not be pulled: {error}."),
                "Correct its name, or begin with one of this platform's own, like python:3.12-slim; if it is right, ask the operator whether the container engine reaches its registry without credentials.",
            )
        })?;
        Ok(pulled)
    }

    /// Makes the stages that are needed, in order; gives the last one's image.
    async fn all(&mut self, plan: &DockerfilePlan) -> Result<Image, Stop> {
        let mut made: BTreeMap<usize, Made> = BTreeMap::new();
        let stages = &plan.stages;
        let needed = stages.needed.iter();
        self.total = needed.map(|number| stages.all[*number].steps.len()).sum();
        for number in &stages.needed {
            let stage = &stages.all[*number];
            let image = self.stage(stage, &made).await?;
            made.insert(*number, image);
        }
        let last = made.pop_last().expect("the last one is needed").1;
        self.opened(&last, &stages.all.last().expect("there is one").config)
            .await
    }

    async fn stage(&mut self, stage: &Stage, made: &BTreeMap<usize, Made>) -> Result<Made, Stop> {
        let mut image = self.base(&stage.base, made).await?;
        for step in &stage.steps {
            self.done += 1;
            image.image = self.step(&image, step, made).await?;
        }
        Ok(image)
    }

    /// The image of a base: a runtime of the platform is made to look like the official one.
    async fn base(&self, base: &Base, made: &BTreeMap<usize, Made>) -> Result<Made, Stop> {
        let image = match base {
            Base::Stage(number) => return Ok(made[number].clone()),
            Base::Pulled(name) | Base::Runtime(name) => self.known[name].clone(),
        };
        let base_bytes = self.size(&image).await?;
        Ok(Made { image, base_bytes })
    }

    async fn runtime(&self, name: &str) -> Result<Image, Stop> {
        let images = self.work.agent.images().await;
        let image = images.into_iter().find(|image| image.name == name);
        let image = image
            .with_context(|| format!("the runtime image {name} is gone"))
            .map_err(|error| platform(&error))?;
        let step = official::like_official(name);
        let base_bytes = self.size(&image).await?;
        let made = Made { image, base_bytes };
        self.step(&made, &step, &BTreeMap::new()).await
    }

    async fn size(&self, image: &Image) -> Result<u64, Stop> {
        let size = self.work.agent.runtime.image_size(&image.name).await;
        size.map_err(|error| platform(&error.into()))
    }

    /// Finds what a step left before, or does it.
    async fn step(
        &self,
        parent: &Made,
        step: &Step,
        made: &BTreeMap<usize, Made>,
    ) -> Result<Image, Stop> {
        let log = self.work.site.log;
        let count = if step.line == 0 {
            String::new()
        } else {
            format!("Step {}/{}: ", self.done, self.total)
        };
        let text = shown(&step.text, SHOWN);
        let sources = self.sources(step, made).await?;
        let key = self.key(&parent.image, step, &sources).await;
        let key = key.map_err(|failure| self.step_failed(failure, step))?;
        if let Some(image) = self.find(&key).await? {
            log.line(format!(
                "{count}{text}: unchanged, so what it left is used again."
            ));
            return Ok(image);
        }
        log.line(format!("{count}{text}"));
        // Before the image is there: one without an entry is cleaned away.
        self.remember(&key, &step.text)?;
        let place = Workplace::new(&self.work.agent.directory, self.work.site)
            .map_err(|error| platform(&error.into()))?;
        let carried = self.carry_out(parent, step, &sources, &place.0, &key).await;
        let image = carried.map_err(|failure| self.step_failed(failure, step))?;
        self.remember(&key, &step.text)?;
        Ok(image)
    }

    fn step_failed(&self, failure: Failure, step: &Step) -> Stop {
        failed::step(failure, &self.file, step, self.work.seconds)
    }

    /// The images that a step takes files from, ready.
    async fn sources(&self, step: &Step, made: &BTreeMap<usize, Made>) -> Result<Vec<Image>, Stop> {
        let mut images = Vec::new();
        for base in step.work.images() {
            images.push(self.base(base, made).await?.image);
        }
        Ok(images)
    }

    /// The store's entry of an image.
    fn entry(&self, image: &Image) -> PathBuf {
        let key = image.name.strip_prefix(PREFIX).unwrap_or(&image.name);
        self.work.agent.directory.join("steps").join(key)
    }

    async fn find(&self, key: &str) -> Result<Option<Image>, Stop> {
        let name = format!("{PREFIX}{key}");
        let entry = self.work.agent.directory.join("steps").join(key);
        if !entry.is_dir() {
            return Ok(None);
        }
        let installation = self.work.site.owner.installation;
        let there = self.work.agent.runtime.derived(installation).await;
        let there = there.map_err(|error| platform(&error.into()))?;
        let found = there.into_iter().find(|image| image.name == name);
        if found.is_some() {
            store::touch(&entry);
        }
        Ok(found)
    }

    fn remember(&self, key: &str, text: &str) -> Result<(), Stop> {
        let entry = self.work.agent.directory.join("steps").join(key);
        let written = DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&entry)
            .and_then(|()| fs::write(entry.join("text"), text));
        written.map_err(|error| platform(&error.into()))
    }

    /// The last step: what belongs to root or to a user of the image can be read by the instance's.
    async fn opened(&mut self, made: &Made, config: &Config) -> Result<Image, Stop> {
        let mut paths = vec!["/root".to_owned(), "/home".to_owned()];
        if config.working_dir != "/" {
            paths.push(config.working_dir.clone());
        }
        let plan = json!({"kind": "open", "paths": paths});
        let key = Hash::new()
            .part(RECIPE)
            .part(self.work.site.owner.project.as_bytes())
            .part(made.image.id.as_bytes())
            .part(plan.to_string().as_bytes())
            .hex();
        if let Some(image) = self.find(&key).await? {
            return Ok(image);
        }
        let place = Workplace::new(&self.work.agent.directory, self.work.site)
            .map_err(|error| platform(&error.into()))?;
        self.remember(&key, "The image is ready")?;
        let opened = self
            .contain(made, &plan, &Given::default(), &place.0, &key)
            .await;
        opened.map_err(|failure| self.stop(failure))
    }

    fn stop(&self, failure: Failure) -> Stop {
        pipeline::stop(failure, self.work.seconds, |failed| {
            let tail = match failed {
                Ok(account) => vec![account["message"].as_str().unwrap_or_default().to_owned()],
                Err((exit, mut tail)) => {
                    tail.push(format!("it ended with status {}", exit.code));
                    tail
                }
            };
            crate::diagnose::unknown_failure("Building the Dockerfile", &tail)
        })
    }
}

/// What the stages that are needed stand on and copy from.
fn bases(plan: &DockerfilePlan) -> impl Iterator<Item = &Base> {
    let stages = &plan.stages;
    let needed = stages.needed.iter().map(|number| &stages.all[*number]);
    needed.flat_map(|stage| {
        let copied = stage.steps.iter().flat_map(|step| step.work.images());
        copied.chain([&stage.base])
    })
}

/// What of an image's own word counts.
fn known(config: &ImageConfig) -> Config {
    let pairs = config
        .environment
        .iter()
        .filter_map(|pair| pair.split_once('='));
    let mut found = Config {
        entrypoint: config.entrypoint.clone(),
        command: config.command.clone(),
        ..Config::default()
    };
    let own = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    found.environment.extend(own);
    if !config.working_dir.is_empty() {
        found.working_dir.clone_from(&config.working_dir);
    }
    let ports = config
        .ports
        .iter()
        .filter_map(|port| port.strip_suffix("/tcp")?.parse().ok());
    found.ports = ports.collect();
    found
}
