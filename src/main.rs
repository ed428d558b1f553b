//! The femdd program.

/// Counts what is asked for, for the profile.
#[global_allocator]
static ALLOCATOR: cluster::profile::heap::Counting = cluster::profile::heap::Counting;

fn main() {
    std::process::exit(femdd::cli::main());
}
