//! Lists of names that ranks nearly always have in common.
//!
//! Imports `comm`. Start at [`Comm::common_names`].

use crate::comm::Comm;

impl Comm {
    /// The names of all ranks, each once, the same list in the same order everywhere. Collective.
    ///
    /// Where all ranks bring the same list, which is the rule, only its hash is exchanged.
    pub fn common_names(&self, names: &[&str]) -> Vec<String> {
        let mine: String = names.iter().flat_map(|name| [name, "\n"]).collect();
        let hash = hash(&mine);
        if self.min(hash) == self.max(hash) {
            return names.iter().map(|&name| name.to_owned()).collect();
        }
        let (all, _) = self.all_gather_varied(mine.as_bytes());
        let mut names: Vec<String> = Vec::new();
        for name in String::from_utf8_lossy(&all).lines() {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// FNV-1a.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
