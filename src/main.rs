//! The femdd program.

/// Counts what is asked for, for the profile, and has large arrays on huge pages.
#[global_allocator]
static ALLOCATOR: cluster::profile::heap::Counting = cluster::profile::heap::Counting;

fn main() {
    cluster::pages::keep_freed();
    std::process::exit(femdd::cli::main());
}
