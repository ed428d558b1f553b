//! Text of scripts that other programs run: every value is quoted.
//!
//! Imports nothing. Start at [`quote`].

/// A word of a POSIX shell that means exactly this text: in single quotes, unless no character of it means anything.
/// Null characters have no place in a shell and are left out.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\0', "").replace('\'', "'\\''"))
}

/// Words of a command, each quoted.
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Whether a value may stand in a line `#SBATCH --key=value`, which sbatch reads by rules of its own: letters, digits
/// and a few signs that mean nothing to it.
pub fn plain_directive(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:,+@%=*[]&|!".contains(c))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What a shell makes of the words.
    fn read_back(words: &[String]) -> Vec<u8> {
        let script = format!("printf '%s\\0' {}", join(words));
        Command::new("sh").args(["-c", &script]).output().expect("a shell").stdout
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words = [
            "",
            "plain/name-1.toml",
            "two words",
            "it's",
            "$(touch x)",
            "`id`",
            "a\nb",
            "\\",
            "!!",
            "*?[a]",
            "~",
            "#",
            "ä",
            "-x",
        ];
        let words = words.map(str::to_owned);
        let expected: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
        assert_eq!(read_back(&words), expected);
        assert_eq!(quote("plain/name-1.toml"), "plain/name-1.toml");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }

    #[test]
    fn directives_are_plain() {
        assert!(["short", "01:00:00", "a100:4", "cpu*2", "rack[1-4]"].iter().all(|v| plain_directive(v)));
        assert!(
            ["", "a b", "x\n#SBATCH --wrap=id", "$(id)", "`id`", "'", "\"", "a;b"]
                .iter()
                .all(|v| !plain_directive(v))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_survives(words in proptest::collection::vec("[^\0]{0,12}", 1..6)) {
            let expected: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
            prop_assert_eq!(read_back(&words), expected);
        }
    }
}
