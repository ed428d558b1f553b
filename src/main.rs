//! The femdd program.

fn main() {
    std::process::exit(femdd::cli::main());
}
