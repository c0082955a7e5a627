//! Images that are made here: a runtime image with more files above it, the steps of a repository's
//! Dockerfile, and the files of an image that was pulled.

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveImageOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::spec::{IMAGE_PREFIX, bare_body};
use super::{DockerRuntime, engine, of_installation};
use crate::runtime::{Image, ImageConfig, LABEL_INSTALLATION, Owner, Role, Runtime, RuntimeError};

/// The repositories of images that are made here, below the runtime images' prefix.
const DERIVED_PREFIXES: [&str; 2] = ["system:", "step:"];

/// Whether an image was made here, by its name.
pub fn is_derived(name: &str) -> bool {
    DERIVED_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

impl DockerRuntime {
    /// Makes the image from a container that is never started, so that nothing of it runs.
    pub(super) async fn derive_image(
        &self,
        owner: &Owner,
        base: &str,
        layer: File,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let body = bare_body(owner, base);
        let container = self.create(owner, Role::Build, &body).await?;
        let made = self.fill(owner, &container, layer, name).await;
        self.remove(&container).await?;
        made
    }

    async fn fill(
        &self,
        owner: &Owner,
        container: &str,
        layer: File,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let files = bollard::body_try_stream(ReaderStream::new(layer));
        self.docker
            .upload_to_container(container, Some(options), files)
            .await
            .map_err(engine)?;
        self.commit(owner, container, name).await
    }

    /// Makes an image of a container's files. The container has no environment of its own, and its
    /// command is the platform's, so nothing else of the project comes with them.
    pub(super) async fn commit(
        &self,
        owner: &Owner,
        container: &str,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let options = CommitContainerOptionsBuilder::new()
            .container(container)
            .repo(&format!("{IMAGE_PREFIX}{repository}"))
            .tag(tag)
            .build();
        let config = ContainerConfig {
            labels: Some(
                [(
                    LABEL_INSTALLATION.to_owned(),
                    owner.installation.to_string(),
                )]
                .into(),
            ),
            ..ContainerConfig::default()
        };
        let committed = self
            .docker
            .commit_container(options, config)
            .await
            .map_err(engine)?;
        Ok(Image {
            name: name.to_owned(),
            id: committed.id,
        })
    }

    pub(super) async fn list_derived(
        &self,
        installation: Uuid,
    ) -> Result<Vec<Image>, RuntimeError> {
        let options = ListImagesOptionsBuilder::new()
            .filters(&of_installation(installation))
            .build();
        let mut found = self.tagged(options).await?;
        found.retain(|image| is_derived(&image.name));
        Ok(found)
    }

    /// The images below our prefix that a listing finds, by name.
    pub(super) async fn tagged(
        &self,
        options: bollard::query_parameters::ListImagesOptions,
    ) -> Result<Vec<Image>, RuntimeError> {
        let found = self
            .docker
            .list_images(Some(options))
            .await
            .map_err(engine)?;
        let mut images: Vec<Image> = found
            .into_iter()
            .flat_map(|image| {
                let id = image.id;
                image.repo_tags.into_iter().filter_map(move |tag| {
                    Some(Image {
                        name: tag.strip_prefix(IMAGE_PREFIX)?.to_owned(),
                        id: id.clone(),
                    })
                })
            })
            .collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The size of one of our images.
    pub(super) async fn size_of(&self, name: &str) -> Result<u64, RuntimeError> {
        let found = self
            .docker
            .inspect_image(&format!("{IMAGE_PREFIX}{name}"))
            .await;
        let size = found.map_err(engine)?.size.unwrap_or_default();
        Ok(size.cast_unsigned())
    }

    /// Pulls an image and makes one of its files alone. A volume that an image declares would be
    /// disk of the host for a container with a read-only root, and cannot be taken out of it
    /// otherwise.
    pub(super) async fn pull_bare(
        &self,
        owner: &Owner,
        reference: &str,
        name: &str,
    ) -> Result<(Image, ImageConfig), RuntimeError> {
        let was_here = self.docker.inspect_image(reference).await.is_ok();
        let options = CreateImageOptionsBuilder::new()
            .from_image(reference)
            .build();
        // No credentials: what only this machine may read is nobody's base.
        let mut pulled = self.docker.create_image(Some(options), None, None).boxed();
        while pulled.try_next().await.map_err(engine)?.is_some() {}
        let found = self.docker.inspect_image(reference).await.map_err(engine)?;
        let config = found.config.unwrap_or_default();
        let image = self.flatten(owner, reference, name).await?;
        // Its files are in ours now. One that the operator had stays, and so does one that another
        // project's build is copying at this moment.
        let options = RemoveImageOptionsBuilder::new().build();
        let remove = self.docker.remove_image(reference, Some(options), None);
        if !was_here && let Err(error) = remove.await {
            tracing::debug!(%error, reference, "a base image stays");
        }
        Ok((
            image,
            ImageConfig {
                environment: config.env.unwrap_or_default(),
                working_dir: config.working_dir.unwrap_or_default(),
                entrypoint: config.entrypoint.unwrap_or_default(),
                command: config.cmd.unwrap_or_default(),
                ports: config.exposed_ports.unwrap_or_default(),
            },
        ))
    }

    /// Makes an image of another one's files, by a container that is never started.
    async fn flatten(
        &self,
        owner: &Owner,
        reference: &str,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let body = ContainerCreateBody {
            image: Some(reference.to_owned()),
            // An image without a command could not be made a container of.
            cmd: Some(vec!["/".to_owned()]),
            ..bare_body(owner, name)
        };
        let container = self.create(owner, Role::Step, &body).await?;
        let files = self
            .docker
            .export_container(&container)
            .map_err(std::io::Error::other);
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let label = format!("LABEL {LABEL_INSTALLATION}={}", owner.installation);
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(&format!("{IMAGE_PREFIX}{repository}"))
            .tag(tag)
            .changes(vec![label])
            .build();
        let made = self
            .docker
            .create_image(Some(options), Some(bollard::body_try_stream(files)), None)
            .try_collect::<Vec<_>>()
            .await;
        self.remove(&container).await?;
        made.map_err(engine)?;
        let found = self
            .docker
            .inspect_image(&format!("{IMAGE_PREFIX}{name}"))
            .await;
        Ok(Image {
            name: name.to_owned(),
            id: found.map_err(engine)?.id.unwrap_or_default(),
        })
    }

    pub(super) async fn remove_derived(&self, name: &str) -> Result<(), RuntimeError> {
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        let removed = self
            .docker
            .remove_image(&format!("{IMAGE_PREFIX}{name}"), Some(options), None)
            .await;
        match removed.map_err(engine) {
            Ok(_) | Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
