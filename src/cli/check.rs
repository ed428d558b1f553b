//! `femdd check`: is this case right, and what does it mean in full?

use super::CheckArgs;
use crate::case::Case;

/// Prints the resolved case, or what is wrong with it.
pub fn main(args: &CheckArgs) -> i32 {
    if let Err(error) = super::check_exists(&args.case) {
        eprint!("{}", error.text());
        return error.kind.exit_code();
    }
    match Case::load(&args.case, &args.sets) {
        Ok(case) => {
            if let Err(error) = crate::run::performance::check(&case) {
                eprint!("{}", error.text());
                return error.kind.exit_code();
            }
            print!("{}", case.resolved());
            0
        }
        Err(errors) => {
            eprint!("{}", errors.render());
            2
        }
    }
}
