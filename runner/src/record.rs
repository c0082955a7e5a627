//! What must survive a restart of the runner, one small file per deployment: enough to report it
//! again and to start it again, nothing that the engine or the control plane knows better.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::protocol::{HostHeader, Phase, Report, Timing};
use crate::variables::PORT;

/// What a build left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The source tree.
    pub source: PathBuf,
    /// The environment.
    pub environment: PathBuf,
    /// The SHA-256 of the environment's lock, lower-case hex.
    #[serde(default)]
    pub lock: String,
    /// The image, for example `python:3.11`, or one with system packages.
    pub image: String,
    /// Environment variables the plan asks for.
    pub variables: BTreeMap<String, String>,
    /// The entrypoint the launcher is given.
    pub entrypoint: String,
    /// The root directory, relative to the source.
    #[serde(default)]
    pub root: String,
    /// What is run in place of an entrypoint.
    #[serde(default)]
    pub start_command: Vec<String>,
    /// What is started in place of the launcher: a server that is no Python object.
    #[serde(default)]
    pub start: Option<Start>,
    /// What an image of the repository's own Dockerfile says, if it runs in one.
    #[serde(default)]
    pub own_image: Option<OwnImage>,
}

/// What a Dockerfile says of its server, beside how it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnImage {
    /// The port it listens on.
    pub port: u16,
    /// `ENV`. It is handed over with the project's variables and is not the container's: what a
    /// source sets must not reach the programs that start its server.
    pub environment: BTreeMap<String, String>,
}

/// A command that is a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
}

impl Built {
    /// The port that the server listens on.
    pub fn port(&self) -> u16 {
        self.own_image.as_ref().map_or(PORT, |image| image.port)
    }

    /// Whether it is all still there.
    pub fn is_there(&self) -> bool {
        self.source.is_dir() && self.environment.is_dir()
    }
}

/// One deployment as the runner remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its project.
    pub project: Uuid,
    /// What was last reported.
    pub report: Report,
    /// What was built, once it is.
    pub built: Option<Built>,
    /// Whether it has been healthy since it was last started on purpose.
    pub was_live: bool,
}

impl Record {
    /// A deployment of which nothing is there yet.
    pub fn new(deployment: Uuid, project: Uuid) -> Self {
        Self {
            project,
            report: Report {
                deployment,
                phase: Phase::Building,
                commit: None,
                upstream: None,
                host_header: HostHeader::Public,
                plan: None,
                lock: None,
                surface: None,
                diagnosis: None,
                timings: Vec::new(),
            },
            built: None,
            was_live: false,
        }
    }

    /// Notes how long a stage took, in place of an earlier figure.
    pub fn timing(&mut self, stage: &str, duration_ms: u64) {
        let timings = &mut self.report.timings;
        timings.retain(|timing| timing.stage != stage);
        timings.push(Timing {
            stage: stage.to_owned(),
            duration_ms,
        });
    }
}

/// The directory of records.
pub struct Records {
    directory: PathBuf,
}

impl Records {
    /// Opens the directory, making it.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// All records. One that cannot be read is left out and said: its deployment is then built
    /// again, which the content-addressed stores make cheap.
    pub fn load(&self) -> io::Result<BTreeMap<Uuid, Record>> {
        let mut records = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(deployment) = name
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| name.parse::<Uuid>().ok())
            else {
                continue;
            };
            match read(&path) {
                Ok(record) => {
                    records.insert(deployment, record);
                }
                Err(error) => {
                    tracing::warn!(deployment.id = %deployment, %error, "a deployment's record cannot be read");
                }
            }
        }
        Ok(records)
    }

    /// Saves a record whole.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        replace(&self.path(record.report.deployment), &bytes)
    }

    /// Removes a record; one that is not there is no error.
    pub fn remove(&self, deployment: Uuid) -> io::Result<()> {
        match fs::remove_file(self.path(deployment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, deployment: Uuid) -> PathBuf {
        self.directory.join(format!("{deployment}.json"))
    }
}

fn read(path: &Path) -> anyhow::Result<Record> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a file whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_broken_ones_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path().join("deployments")).unwrap();
        let record = Record::new(Uuid::from_u128(1), Uuid::from_u128(2));
        records.save(&record).unwrap();
        let broken = Uuid::from_u128(3);
        fs::write(records.path(broken), "{").unwrap();
        fs::write(records.directory.join("other.new"), "").unwrap();
        let loaded = records.load().unwrap();
        assert_eq!(loaded, BTreeMap::from([(Uuid::from_u128(1), record)]));
        records.remove(Uuid::from_u128(1)).unwrap();
        records.remove(Uuid::from_u128(1)).unwrap();
        assert!(records.load().unwrap().is_empty());
    }
}
