//! Names an expression knows, and the nearest one to a misspelt name.
//!
//! May import: `graph` for the operations behind the names.

use super::graph::{Binary, Unary};

/// What a function name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// One argument.
    Unary(Unary),
    /// Exactly two arguments.
    Binary(Binary),
    /// Two arguments or more, taken from the left.
    Fold(Binary),
    /// `if(condition, a, b)`.
    If,
}

/// Every function, by name.
pub(super) const FUNCTIONS: [(&str, Function); 23] = [
    ("if", Function::If),
    ("min", Function::Fold(Binary::Min)),
    ("max", Function::Fold(Binary::Max)),
    ("abs", Function::Unary(Unary::Abs)),
    ("sqrt", Function::Unary(Unary::Sqrt)),
    ("exp", Function::Unary(Unary::Exp)),
    ("log", Function::Unary(Unary::Log)),
    ("log10", Function::Unary(Unary::Log10)),
    ("sin", Function::Unary(Unary::Sin)),
    ("cos", Function::Unary(Unary::Cos)),
    ("tan", Function::Unary(Unary::Tan)),
    ("asin", Function::Unary(Unary::Asin)),
    ("acos", Function::Unary(Unary::Acos)),
    ("atan", Function::Unary(Unary::Atan)),
    ("atan2", Function::Binary(Binary::Atan2)),
    ("sinh", Function::Unary(Unary::Sinh)),
    ("cosh", Function::Unary(Unary::Cosh)),
    ("tanh", Function::Unary(Unary::Tanh)),
    ("pow", Function::Binary(Binary::Pow)),
    ("sign", Function::Unary(Unary::Sign)),
    ("floor", Function::Unary(Unary::Floor)),
    ("ceil", Function::Unary(Unary::Ceil)),
    ("mod", Function::Binary(Binary::Mod)),
];

/// Named constants.
pub(super) const CONSTANTS: [(&str, f64); 2] = [("pi", std::f64::consts::PI), ("e", std::f64::consts::E)];

/// Words of the grammar that are neither functions nor values.
pub(super) const WORDS: [&str; 3] = ["and", "or", "not"];

/// Variables.
pub(super) const VARIABLES: [&str; 4] = ["x", "y", "z", "t"];

/// The function of that name.
pub(super) fn function(name: &str) -> Option<Function> {
    FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// True if a parameter may not have that name, since expressions already give it a meaning.
pub fn is_reserved(name: &str) -> bool {
    function(name).is_some()
        || CONSTANTS.iter().any(|(n, _)| *n == name)
        || WORDS.contains(&name)
        || VARIABLES.contains(&name)
}

/// The candidate nearest to `name`, if any is near enough to be what was meant.
///
/// Near: at most a third of its letters inserted, dropped, replaced or swapped with their
/// neighbour (at least one), letter case aside; or one name begins with the other. Of equals the
/// first wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        let longest = wanted.len().max(other.len());
        let distance = edit_distance(&wanted, &other);
        let shortest = wanted.len().min(other.len());
        let prefix = shortest >= 3 && wanted[..shortest] == other[..shortest];
        let near = distance <= (longest / 3).max(1) && distance < longest;
        if (near || prefix) && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_what_was_meant() {
        let names = ["young", "poisson_ratio", "density", "body_force"];
        assert_eq!(nearest("yuong", names), Some("young"));
        assert_eq!(nearest("Young", names), Some("young"));
        assert_eq!(nearest("poisson", names), Some("poisson_ratio"));
        assert_eq!(nearest("bodyforce", names), Some("body_force"));
        assert_eq!(nearest("pressure", names), None);
        assert_eq!(nearest("q", ["x", "y"]), None);
    }

    #[test]
    fn names_are_unique() {
        for (i, (name, _)) in FUNCTIONS.iter().enumerate() {
            assert!(FUNCTIONS[i + 1..].iter().all(|(other, _)| other != name), "{name}");
            assert!(is_reserved(name));
        }
        assert!(!is_reserved("load"));
    }
}
