//! Git repositories made for a test.

use std::path::Path;

use anyhow::Result;
use git2::{IndexAddOption, Repository as Git, Signature, Time};
use tempfile::TempDir;

/// A repository in a temporary directory; gone when dropped.
pub struct Repository {
    directory: TempDir,
    git: Git,
}

impl Repository {
    /// One commit with these files, on branch `main`.
    pub fn new(files: &[(&str, &str)]) -> Result<Self> {
        let directory = TempDir::new()?;
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main");
        let git = Git::init_opts(directory.path(), &options)?;
        let repository = Self { directory, git };
        repository.commit(files)?;
        Ok(repository)
    }

    /// Adds or replaces files and commits; answers the commit's id.
    pub fn commit(&self, files: &[(&str, &str)]) -> Result<String> {
        for (name, text) in files {
            let path = self.directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a file has a directory"))?;
            std::fs::write(path, text)?;
        }
        let mut index = self.git.index()?;
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = self.git.find_tree(index.write_tree()?)?;
        let author = Signature::new("Ada", "ada@example.com", &Time::new(1_700_000_000, 0))?;
        let parent = self
            .git
            .head()
            .ok()
            .and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        Ok(self
            .git
            .commit(
                Some("HEAD"),
                &author,
                &author,
                "Change the server",
                &tree,
                &parents,
            )?
            .to_string())
    }

    /// Its address for `berth deploy --git`.
    pub fn url(&self) -> String {
        format!("file://{}", self.directory.path().display())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}
