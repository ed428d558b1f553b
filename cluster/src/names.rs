//! Lists of names that ranks nearly always have in common.
//!
//! Imports `comm` and `exchange`. Start at [`Comm::common_names`].

use crate::buckets::Buckets;
use crate::comm::Comm;

impl Comm {
    /// The names of all ranks, each once, the same list in the same order everywhere. Collective.
    ///
    /// Where all ranks bring the same list, which is the rule, only its hash is exchanged; otherwise lists meet pair by
    /// pair, so that nobody holds more than there are different names. Those of rank 0 come first, then what rank 1 has
    /// beside them, and so on.
    pub fn common_names(&self, names: &[&str]) -> Vec<String> {
        let mine: String = names.iter().flat_map(|name| [name, "\n"]).collect();
        let hash = hash(&mine);
        if self.min(hash) == self.max(hash) {
            return names.iter().map(|&name| name.to_owned()).collect();
        }
        let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (rank, size) = (self.rank(), self.size());
        let mut step = 1;
        while step < size {
            let gives = rank % (2 * step) == step;
            let text = if gives { names.join("\n") } else { String::new() };
            let to = vec![rank.saturating_sub(step) as u32; text.len()];
            let got = self.exchange(&Buckets::from_destinations(&to, text.as_bytes()));
            for name in String::from_utf8_lossy(&got.data).lines() {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
            step *= 2;
        }
        let mut all = names.join("\n").into_bytes();
        self.broadcast(0, &mut all);
        String::from_utf8_lossy(&all).lines().map(str::to_owned).collect()
    }
}

/// FNV-1a.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
