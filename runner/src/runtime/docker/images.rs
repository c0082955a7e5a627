//! Images that are made here: a runtime image with more files above it.

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::spec::{IMAGE_PREFIX, bare_body};
use super::{DockerRuntime, engine, of_installation};
use crate::runtime::{Image, LABEL_INSTALLATION, Owner, Role, Runtime, RuntimeError};

/// The repository of images that are made here, below the runtime images' prefix.
pub const DERIVED_PREFIX: &str = "system:";

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
        let made = self.commit(owner, &container, layer, name).await;
        self.remove(&container).await?;
        made
    }

    async fn commit(
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
        found.retain(|image| image.name.starts_with(DERIVED_PREFIX));
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
