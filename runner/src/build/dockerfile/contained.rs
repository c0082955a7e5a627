//! One step in its container: what it is given, what it leaves, and by which key that is found
//! again.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::context::{self, Selected};
use super::failed;
use super::official::{self, TRUSTED};
use super::stages::{Copy, From, Run, Step, Work};
use super::steps::{Made, Making, PREFIX, RECIPE};
use crate::build::container::{
    Failure, VARIABLES_FILE, mount, read_tenant_file, run_kept, tenant_directory,
};
use crate::build::halt::{self, Halt};
use crate::build::taken;
use crate::hash::Hash;
use crate::limits;
use crate::runtime::{ContainerSpec, Image, Runtime};

/// Most bytes of the list of what a step takes out of another image.
const MAX_LIST_BYTES: u64 = 1024 * 1024;

/// What a container is given beside its plan.
#[derive(Default)]
pub struct Given {
    /// An archive.
    pub files: Option<PathBuf>,
    /// A directory to write to.
    pub out: Option<PathBuf>,
}

impl<R: Runtime> Making<'_, R> {
    /// Nothing of a variable's value is in it but that it was set anew.
    pub(super) async fn key(
        &self,
        parent: &Image,
        step: &Step,
        sources: &[Image],
    ) -> Result<String, Failure> {
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
            Work::Run(run) => {
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
                let lent = Lent::by(run);
                for (number, target) in &lent.places {
                    hash = hash.part(&number.to_be_bytes()).part(target.as_bytes());
                }
                hash.part(self.context_hash(&lent.files).await?.as_bytes())
            }
            Work::Copy(copy) => {
                let how = json!([copy.to, copy.owner, copy.mode]).to_string();
                self.files_key(hash.part(b"copy").part(how.as_bytes()), &copy.from)
                    .await?
            }
        };
        Ok(hash.hex())
    }

    async fn files_key(&self, hash: Hash, from: &From) -> Result<Hash, Failure> {
        Ok(match from {
            From::Context(selected) => hash.part(self.context_hash(selected).await?.as_bytes()),
            From::Image(_, paths) => paths
                .iter()
                .fold(hash, |hash, path| hash.part(path.as_bytes())),
        })
    }

    /// It reads every file, once it is known how much that is.
    async fn context_hash(&self, selected: &[Selected]) -> Result<String, Failure> {
        let (root, selected) = (self.root.clone(), selected.to_vec());
        self.bounded(move |halt| {
            if context::size(&root, &selected, halt)? > failed::MAX_COPIED_BYTES {
                return Err(Failure::Said(json!({"code": failed::COPIED_TOO_MUCH})));
            }
            Ok(context::hash(&root, &selected, halt)?)
        })
        .await
    }

    /// Work with files on another thread, as long as the build lasts.
    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Halt) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let site = self.work.site;
        halt::bounded(site.deadline, site.canceled, work).await?
    }

    /// Does a step; what it leaves is kept under its key.
    pub(super) async fn carry_out(
        &self,
        parent: &Made,
        step: &Step,
        sources: &[Image],
        place: &Path,
        key: &str,
    ) -> Result<Image, Failure> {
        let mut given = Given::default();
        let plan = match &step.work {
            Work::Run(run) => {
                let (binds, files) = self.binds(run, place).await?;
                given.files = files;
                self.run_plan(run, &binds, step.line > 0)
            }
            Work::Copy(copy) => {
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
        let mut environment = official::surroundings(&self.work.agent.build_host);
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

    /// What a command is lent, in one archive.
    async fn binds(
        &self,
        run: &Run,
        place: &Path,
    ) -> Result<(Vec<Value>, Option<PathBuf>), Failure> {
        let lent = Lent::by(run);
        let binds = lent.places.iter().map(|(number, target)| {
            let source = source_json(*number, &lent.files[*number]);
            json!({"source": source, "target": target})
        });
        let binds = binds.collect();
        if lent.files.is_empty() {
            return Ok((binds, None));
        }
        let files = place.join("files.tar");
        self.write_context(&lent.files, &files).await?;
        Ok((binds, Some(files)))
    }

    async fn write_context(&self, selected: &[Selected], files: &Path) -> Result<(), Failure> {
        let (root, selected, files) = (self.root.clone(), selected.to_vec(), files.to_owned());
        self.bounded(move |halt| Ok(context::write(&root, &selected, &files, halt)?))
            .await
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
                self.take(&out, files).await?;
                let list = read_tenant_file(&out.join("sources.json"), MAX_LIST_BYTES)?;
                serde_json::from_slice(&list).map_err(|error| Failure::Platform(error.into()))
            }
            (From::Image(..), None) => {
                Err(Failure::Platform(anyhow::anyhow!("no image to copy from")))
            }
        }
    }

    /// Takes the archive that a container packed. It is mounted into the next one, so it must be
    /// the runner's own file.
    async fn take(&self, out: &Path, files: &Path) -> Result<(), Failure> {
        let (packed, files) = (out.join("files.tar"), files.to_owned());
        self.bounded(move |halt| {
            taken::take(&packed, &files, limits::IMAGE_BYTES, halt)?;
            // The disk has it twice otherwise. What is removed is the name, also of a link.
            Ok(fs::remove_file(&packed)?)
        })
        .await
    }

    /// Runs a step's container and keeps what it leaves.
    pub(super) async fn contain(
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
            Ok(written) if written > left => Err(Failure::TooLarge(limits::IMAGE_BYTES)),
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
    ) -> Result<ContainerSpec, Failure> {
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
}

/// What binds lend: each file or directory once in the archive, wherever it is to stand.
struct Lent {
    files: Vec<Selected>,
    /// The number of each source, and where it stands.
    places: Vec<(usize, String)>,
}

impl Lent {
    fn by(run: &Run) -> Self {
        let mut numbers = HashMap::new();
        let mut files = Vec::new();
        let mut places = Vec::new();
        for bind in &run.mounts.binds {
            for source in &bind.files {
                let number = *numbers.entry(&source.path).or_insert_with(|| {
                    files.push(source.clone());
                    files.len() - 1
                });
                places.push((number, bind.target.clone()));
            }
        }
        Self { files, places }
    }
}

fn source_json(number: usize, source: &Selected) -> Value {
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
