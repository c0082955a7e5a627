//! `berth`: every role of the platform, and its command line.

use std::process::ExitCode;

use clap::Parser as _;
use control_plane::cli::Program;
use tokio::runtime::Builder;

/// Every connection of the edge takes and gives back buffers of 8 KiB with each call; glibc has no
/// cache for these.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let program = Program::parse();
    // An instance may have few threads, and a machine many processors.
    let mut builder = if program.runs_in_an_instance() {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(program.run()),
        Err(error) => {
            eprintln!("berth: this machine gives no threads: {error}");
            ExitCode::FAILURE
        }
    }
}
