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
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::base::{Base, Offer};
use super::failed::{self, shown};
use super::mount::Mounts;
use super::stages::{self, Config, Copy, From, Known, Run, Stage, Step};
use super::{DockerfilePlan, context, environment, port, start_command};
use crate::agent::Agent;
use crate::build::container::{
    Failure, Site, VARIABLES_FILE, mount, read_tenant_file, run_kept, tenant_directory,
};
use crate::build::environment::Workplace;
use crate::build::pipeline::{self, Stop, elapsed_ms, platform};
use crate::diagnose::{Code, diagnosis};
use crate::hash::Hash;
use crate::launcher::bridge::Bridge;
use crate::limits;
use crate::record::{Built, OwnImage};
use crate::runtime::{Image, ImageConfig, Runtime};
use crate::store;

/// What such an image is called before its key.
pub const PREFIX: &str = "step:";
/// Most bytes of the list of what a step takes out of another image.
const MAX_LIST_BYTES: u64 = 1024 * 1024;
/// Most characters of a step in the log.
const SHOWN: usize = 160;
/// Raised when the programs make something else of the same step.
const RECIPE: &[u8] = b"1";

/// Makes a runtime of the platform look like the official image that it answers: programs where
/// they are there, pip, which may install into the whole, and the directory of packages under its
/// usual name.
const LIKE_OFFICIAL: &str = r#"
set -e
rm -f /node_modules
minor=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do
  [ -e "/usr/local/bin/$name" ] || ln -s "/usr/bin/python$minor" "/usr/local/bin/$name"
done
if [ -d "/usr/lib/python3/dist-packages" ] && [ ! -e "/usr/local/lib/python$minor/site-packages" ]; then
  mkdir -p "/usr/local/lib/python$minor/dist-packages"
  ln -s dist-packages "/usr/local/lib/python$minor/site-packages"
fi
if ! command -v pip >/dev/null; then
  wheels=/usr/share/python-wheels
  PYTHONDONTWRITEBYTECODE=1 python3 "$(ls -d $wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check \
    --root-user-action=ignore --no-index --find-links "$wheels" pip setuptools
fi
if [ ! -e /usr/local/bin/uvx ]; then
  printf '#!/bin/sh\nexec /usr/local/bin/uv tool run "$@"\n' >/usr/local/bin/uvx
  chmod 755 /usr/local/bin/uvx
fi
"#;

/// What made every image of a project must find of this machine's trust, by the names programs know.
const TRUST: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
];
/// Where its certificates are: not in their usual place, so that a package may write there.
const TRUSTED: &str = "/run/berth/ca-certificates.crt";
/// pip's names for what uv calls otherwise.
const PIP_NAMES: [(&str, &[&str]); 2] = [
    ("PIP_INDEX_URL", &["UV_DEFAULT_INDEX", "UV_INDEX_URL"]),
    ("PIP_EXTRA_INDEX_URL", &["UV_INDEX", "UV_EXTRA_INDEX_URL"]),
];

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
        let images = work.agent.image_names().await;
        let offer = Offer {
            images: &images,
            pull: &work.agent.settings.pull_images,
        };
        plan.stages = stages::interpret(&plan.file, &plan.parsed, &plan.context, &offer, &configs)?;
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
struct Making<'a, R: Runtime> {
    work: &'a Work<'a, R>,
    /// The root directory on this machine.
    root: PathBuf,
    file: String,
    bridge: Bridge,
    /// Bases that are ready, and their sizes.
    known: BTreeMap<String, Image>,
    done: usize,
    total: usize,
}

/// An image, and how large it was before the Dockerfile added to it.
#[derive(Clone)]
struct Made {
    image: Image,
    base_bytes: u64,
}

/// What a container is given beside its plan.
#[derive(Default)]
struct Given {
    files: Option<PathBuf>,
    out: Option<PathBuf>,
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
        self.remember(&key, &format!("FROM {name}"))?;
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
        let command = ["/bin/sh", "-c", LIKE_OFFICIAL].map(str::to_owned);
        let step = Step {
            line: 0,
            text: format!("The platform's {name}, made to look like the official image"),
            work: stages::Work::Run(Run {
                command: command.to_vec(),
                environment: Config::default().environment,
                working_dir: "/".to_owned(),
                user: None,
                mounts: Mounts::default(),
            }),
        };
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
        let key = self
            .key(&parent.image, step, &sources)
            .map_err(|error| platform(&error.into()))?;
        if let Some(image) = self.find(&key).await? {
            log.line(format!(
                "{count}{text}: unchanged, so what it left is used again."
            ));
            return Ok(image);
        }
        log.line(format!("{count}{text}"));
        let place = Workplace::new(&self.work.agent.directory, self.work.site)
            .map_err(|error| platform(&error.into()))?;
        let carried = self.carry_out(parent, step, &sources, &place.0, &key).await;
        let image = carried
            .map_err(|failure| failed::step(failure, &self.file, step, self.work.seconds))?;
        self.remember(&key, &step.text)?;
        Ok(image)
    }

    /// The images that a step takes files from, ready.
    async fn sources(&self, step: &Step, made: &BTreeMap<usize, Made>) -> Result<Vec<Image>, Stop> {
        let mut images = Vec::new();
        for base in step.work.images() {
            images.push(self.base(base, made).await?.image);
        }
        Ok(images)
    }

    /// Nothing of a variable's value is in it but that it was set anew.
    fn key(&self, parent: &Image, step: &Step, sources: &[Image]) -> std::io::Result<String> {
        let site = self.work.site;
        let mut hash = Hash::new()
            .part(RECIPE)
            .part(site.owner.installation.as_bytes())
            .part(site.owner.project.as_bytes())
            .part(parent.id.as_bytes());
        for image in sources {
            hash = hash.part(image.id.as_bytes());
        }
        let hash = match &step.work {
            stages::Work::Run(run) => {
                // The platform's own needs none of the project's variables.
                let mark = if step.line == 0 {
                    &[][..]
                } else {
                    site.variables_mark
                };
                let mut hash = hash.part(b"run").part(mark).part(
                    json!([
                        run.command,
                        run.environment,
                        run.working_dir,
                        run.user,
                        run.mounts.scratch
                    ])
                    .to_string()
                    .as_bytes(),
                );
                for bind in &run.mounts.binds {
                    hash = self.from_key(hash.part(bind.target.as_bytes()), &bind.from)?;
                }
                hash
            }
            stages::Work::Copy(copy) => {
                let how = json!([copy.to, copy.owner, copy.mode]).to_string();
                self.from_key(hash.part(b"copy").part(how.as_bytes()), &copy.from)?
            }
        };
        Ok(hash.hex())
    }

    fn from_key(&self, hash: Hash, from: &From) -> std::io::Result<Hash> {
        Ok(match from {
            From::Context(selected) => hash.part(context::hash(&self.root, selected)?.as_bytes()),
            From::Image(_, paths) => paths
                .iter()
                .fold(hash, |hash, path| hash.part(path.as_bytes())),
        })
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

    async fn carry_out(
        &self,
        parent: &Made,
        step: &Step,
        sources: &[Image],
        place: &Path,
        key: &str,
    ) -> Result<Image, Failure> {
        let mut given = Given::default();
        let plan = match &step.work {
            stages::Work::Run(run) => {
                let (binds, files) = self.binds(run, sources, place).await?;
                given.files = files;
                self.run_plan(run, &binds, step.line > 0)
            }
            stages::Work::Copy(copy) => {
                let files = place.join("files.tar");
                let list = self
                    .files(&copy.from, sources.first(), place, &files)
                    .await?;
                given.files = Some(files);
                copy_plan(copy, &list)
            }
        };
        self.contain(parent, &plan, &given, place, key).await
    }

    fn run_plan(&self, run: &Run, binds: &[Value], is_tenants: bool) -> Value {
        let mut environment = self.surroundings();
        environment.extend(run.environment.clone());
        let variables = self.work.site.variables_file.filter(|_| is_tenants);
        json!({
            "kind": "run",
            "command": run.command,
            "environment": environment,
            "variables": variables.map(|_| VARIABLES_FILE),
            "working_dir": run.working_dir,
            "user": run.user,
            "binds": binds,
            "scratch": run.mounts.scratch,
        })
    }

    /// How a step reaches the machine's package registries. It is in no container's environment,
    /// which would become the image's.
    fn surroundings(&self) -> BTreeMap<String, String> {
        let host = &self.work.agent.build_host;
        let mut environment = host.variables().clone();
        for (name, others) in PIP_NAMES {
            if let Some(value) = others
                .iter()
                .find_map(|other| environment.get(*other))
                .cloned()
            {
                environment.entry(name.to_owned()).or_insert(value);
            }
        }
        if host.ca_bundle().is_some() {
            for name in TRUST {
                environment.insert((*name).to_owned(), TRUSTED.to_owned());
            }
        }
        environment.insert("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned());
        environment
    }

    /// What a command is lent, in one archive. Each bind's numbers follow those of the one before.
    async fn binds(
        &self,
        run: &Run,
        sources: &[Image],
        place: &Path,
    ) -> Result<(Vec<Value>, Option<PathBuf>), Failure> {
        let mut selected = Vec::new();
        let mut binds = Vec::new();
        if !sources.is_empty() {
            // One archive holds either; nobody needs both, and it is said.
            return Err(Failure::Said(json!({
                "code": "command_failed",
                "message": "--mount=type=bind,from= is not for builds here; COPY --from the files in a step before",
            })));
        }
        for bind in &run.mounts.binds {
            if let From::Context(found) = &bind.from {
                for source in found {
                    let mut source_plan = source_json(selected.len(), source);
                    source_plan = json!({"source": source_plan, "target": bind.target});
                    binds.push(source_plan);
                    selected.push(source.clone());
                }
            }
        }
        if selected.is_empty() {
            return Ok((binds, None));
        }
        let files = place.join("files.tar");
        self.write_context(&selected, &files).await?;
        Ok((binds, Some(files)))
    }

    async fn write_context(
        &self,
        selected: &[context::Selected],
        files: &Path,
    ) -> Result<(), Failure> {
        let (root, selected, files) = (self.root.clone(), selected.to_vec(), files.to_owned());
        let written = tokio::task::spawn_blocking(move || context::write(&root, &selected, &files));
        let written = written
            .await
            .map_err(|error| Failure::Platform(error.into()))?;
        Ok(written?)
    }

    /// Brings the files of a `COPY` into an archive; gives their list.
    async fn files(
        &self,
        from: &From,
        image: Option<&Image>,
        place: &Path,
        files: &Path,
    ) -> Result<Value, Failure> {
        match (from, image) {
            (From::Context(selected), _) => {
                self.write_context(selected, files).await?;
                let list = selected.iter().enumerate();
                Ok(list
                    .map(|(number, source)| source_json(number, source))
                    .collect())
            }
            (From::Image(_, paths), Some(image)) => {
                let out = place.join("out");
                tenant_directory(&out)?;
                let plan =
                    json!({"kind": "pack", "paths": paths, "most_bytes": limits::IMAGE_BYTES});
                let given = Given {
                    out: Some(out.clone()),
                    ..Given::default()
                };
                let spec = self.container(image, &plan, &given, &place.join("pack.json"))?;
                let runtime = &self.work.agent.runtime;
                let (container, _) =
                    run_kept(runtime, self.work.site, &spec, limits::IMAGE_BYTES).await?;
                runtime.remove(&container).await?;
                fs::rename(out.join("files.tar"), files)?;
                fs::set_permissions(files, fs::Permissions::from_mode(0o644))?;
                let list = read_tenant_file(&out.join("sources.json"), MAX_LIST_BYTES)?;
                serde_json::from_slice(&list).map_err(|error| Failure::Platform(error.into()))
            }
            (From::Image(..), None) => {
                Err(Failure::Platform(anyhow::anyhow!("no image to copy from")))
            }
        }
    }

    /// Runs a step's container and keeps what it leaves.
    async fn contain(
        &self,
        parent: &Made,
        plan: &Value,
        given: &Given,
        place: &Path,
        key: &str,
    ) -> Result<Image, Failure> {
        let runtime = &self.work.agent.runtime;
        let size = runtime.image_size(&parent.image.name).await?;
        let left = limits::IMAGE_BYTES.saturating_sub(size.saturating_sub(parent.base_bytes));
        let spec = self.container(&parent.image, plan, given, &place.join("step.json"))?;
        let (container, _) = run_kept(runtime, self.work.site, &spec, left).await?;
        // It may have ended before it was looked at.
        let kept = match runtime.written(&container).await {
            Ok(written) if written > left => Err(Failure::TooLarge),
            _ => runtime
                .keep(&self.work.site.owner, &container, &format!("{PREFIX}{key}"))
                .await
                .map_err(Failure::from),
        };
        runtime.discard(container);
        kept
    }

    fn container(
        &self,
        image: &Image,
        plan: &Value,
        given: &Given,
        plan_file: &Path,
    ) -> Result<crate::runtime::ContainerSpec, Failure> {
        fs::write(plan_file, plan.to_string())?;
        fs::set_permissions(plan_file, fs::Permissions::from_mode(0o644))?;
        let mut mounts = vec![mount(plan_file, "/run/berth/step.json", true)];
        if let Some(files) = &given.files {
            mounts.push(mount(files, "/run/berth/files.tar", true));
        }
        if let Some(out) = &given.out {
            mounts.push(mount(out, "/out", false));
        }
        if plan["kind"] == "run" {
            if let Some(bundle) = self.work.agent.build_host.ca_bundle() {
                mounts.push(mount(bundle, TRUSTED, true));
            }
            if let Some(file) = self
                .work
                .site
                .variables_file
                .filter(|_| !plan["variables"].is_null())
            {
                mounts.push(mount(file, VARIABLES_FILE, true));
            }
        }
        let host = &self.work.agent.build_host;
        Ok(host.step(self.work.site, &image.name, &self.bridge, mounts))
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
        let opened = self
            .contain(made, &plan, &Given::default(), &place.0, &key)
            .await;
        let image = opened.map_err(|failure| self.stop(failure))?;
        self.remember(&key, "The image is ready")?;
        Ok(image)
    }

    fn stop(&self, failure: Failure) -> Stop {
        pipeline::stop(failure, self.work.seconds, |failed| {
            let tail = match failed {
                Ok(account) => vec![account["message"].as_str().unwrap_or_default().to_owned()],
                Err((_, tail)) => tail,
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

fn source_json(number: usize, source: &context::Selected) -> Value {
    json!({"number": number, "name": source.name, "is_directory": source.files.is_some()})
}

fn copy_plan(copy: &Copy, sources: &Value) -> Value {
    json!({
        "kind": "copy",
        "sources": sources,
        "to": copy.to,
        "owner": copy.owner,
        "mode": copy.mode,
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
