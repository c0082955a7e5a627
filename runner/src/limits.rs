//! Bounds of what runs in containers: numbers only, each with its reason.

use crate::protocol::Limits;

/// One mebibyte, in bytes.
pub const MIB: i64 = 1024 * 1024;

/// Memory of a build, bytes: resolving and compiling large sets of wheels stays well below it.
pub const BUILD_MEMORY_BYTES: i64 = 2048 * MIB;
/// Processes and threads of a build: uv's workers and a compiler's children fit, a fork bomb ends.
pub const BUILD_PIDS: i64 = 256;
/// Thousandths of a core for a build: installing is mostly parallel unpacking and compiling.
pub const BUILD_CPU_MILLIS: i64 = 2_000;
/// `/tmp` of a build, bytes: source distributions are unpacked there.
pub const BUILD_TMP_BYTES: i64 = 512 * MIB;
/// Largest file that a build may write, in bytes. Those of the largest frameworks have some 2 GiB.
pub const BUILD_FILE_BYTES: i64 = 4096 * MIB;
/// What a Dockerfile's steps may add to an image, bytes: the largest sets of Python packages for
/// machine learning stay below it.
pub const IMAGE_BYTES: u64 = 4 << 30;
/// `/tmp` of an instance, bytes. Counts towards the instance's memory.
pub const INSTANCE_TMP_BYTES: i64 = 64 * MIB;
/// `/home/app`, bytes. Counts towards the container's memory.
pub const HOME_BYTES: i64 = 64 * MIB;
/// `/dev/shm`, bytes.
pub const SHM_BYTES: i64 = 16 * MIB;
/// Open files: one per client stream, plus the server's own.
pub const OPEN_FILES: i64 = 4096;
/// An engine refuses less than 6 MiB, and no Python starts in less than this.
pub const MIN_MEMORY_BYTES: i64 = 32 * MIB;
/// Below a hundredth of a core an engine refuses the container.
pub const MIN_CPU_MILLIS: i64 = 10;
/// The interpreter, its threads and the init process.
pub const MIN_PIDS: i64 = 16;

/// What a project's Redis may keep in memory, bytes: queues and sessions, not a database.
pub const REDIS_VALUES_BYTES: i64 = 64 * MIB;
/// Memory of its process, bytes: its values twice, since it rewrites its file in a child while
/// the values change, and buffers of its clients.
pub const REDIS_MEMORY_BYTES: i64 = 2 * REDIS_VALUES_BYTES + 64 * MIB;
/// Its volume, bytes: its file grows to twice the values before it is rewritten beside itself.
pub const REDIS_DATA_BYTES: u64 = 512 << 20;
/// Thousandths of a core: one thread serves tens of thousands of commands a second with less.
pub const REDIS_CPU_MILLIS: i64 = 500;
/// Its threads and the child that rewrites its file.
pub const REDIS_PIDS: i64 = 32;
/// `/tmp` of a Redis, bytes: it writes nothing there.
const REDIS_TMP_BYTES: i64 = MIB;

/// What one container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory without swap, bytes.
    pub memory_bytes: i64,
    /// Thousandths of a core.
    pub cpu_millis: i64,
    /// Processes and threads.
    pub pids: i64,
    /// `/tmp`, bytes.
    pub tmp_bytes: i64,
}

impl Bounds {
    /// The bounds of every build.
    pub fn build() -> Self {
        Self {
            memory_bytes: BUILD_MEMORY_BYTES,
            cpu_millis: BUILD_CPU_MILLIS,
            pids: BUILD_PIDS,
            tmp_bytes: BUILD_TMP_BYTES,
        }
    }

    /// The bounds of a project's Redis.
    pub fn redis() -> Self {
        Self {
            memory_bytes: REDIS_MEMORY_BYTES,
            cpu_millis: REDIS_CPU_MILLIS,
            pids: REDIS_PIDS,
            tmp_bytes: REDIS_TMP_BYTES,
        }
    }

    /// The bounds of an instance. Values below what an engine accepts, zero ("unlimited")
    /// included, are raised to the least that works: nothing runs without bounds.
    pub fn instance(limits: &Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes.max(MIN_MEMORY_BYTES),
            cpu_millis: limits.cpu_millis.max(MIN_CPU_MILLIS),
            pids: limits.pids.max(MIN_PIDS),
            tmp_bytes: INSTANCE_TMP_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_never_means_unlimited() {
        let bounds = Bounds::instance(&Limits {
            memory_bytes: 0,
            cpu_millis: -1,
            pids: 0,
            build_seconds: 1,
            start_seconds: 1,
            data_bytes: 0,
        });
        assert_eq!(bounds.memory_bytes, MIN_MEMORY_BYTES);
        assert_eq!(bounds.cpu_millis, MIN_CPU_MILLIS);
        assert_eq!(bounds.pids, MIN_PIDS);
    }
}
