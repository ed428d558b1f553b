//! Figures of a network on the command line, each with its unit, so that no two commands can mean different ones.
//!
//! Imports nothing. Start at [`latency`] and [`bandwidth`], which clap calls.

/// Splits `12 GB/s` into its number and its unit; `None` unless the number is finite and above 0.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    // An exponent's letter stands before a digit or a sign, a unit's does not.
    let bytes = text.as_bytes();
    let in_number = |k: usize| match bytes[k] {
        b'0'..=b'9' | b'.' | b'+' | b'-' => true,
        b'e' | b'E' => bytes.get(k + 1).is_some_and(|b| b.is_ascii_digit() || b"+-".contains(b)),
        _ => false,
    };
    let end = (0..bytes.len()).find(|&k| !in_number(k)).unwrap_or(bytes.len());
    let number = text[..end].parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0)?;
    Some((number, text[end..].trim()))
}

/// Seconds of a time on a network, such as `2us`.
///
/// # Errors
/// What to write instead.
pub fn latency(text: &str) -> Result<f64, String> {
    let factor = |unit: &str| match unit {
        "s" => Some(1.0),
        "ms" => Some(1e3),
        // The letter mu of Greek, and the sign of its own.
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1e6),
        "ns" => Some(1e9),
        _ => None,
    };
    // A quotient, so that 2us is the number nearest to 2e-6.
    split(text)
        .and_then(|(number, unit)| Some(number / factor(unit)?))
        .ok_or_else(|| "write a time above 0 with its unit (s, ms, us or ns), as 2us or 800ns".to_owned())
}

/// Bytes a second of a rate such as `12GB/s` or `100Gbit/s`.
///
/// # Errors
/// What to write instead.
pub fn bandwidth(text: &str) -> Result<f64, String> {
    let factor = |unit: &str| {
        let unit = unit.strip_suffix("/s")?;
        let (prefix, of) = match unit.strip_suffix("bit") {
            Some(prefix) => (prefix, 0.125),
            None => (unit.strip_suffix('B')?, 1.0),
        };
        let factor: f64 = match prefix {
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "Ki" => 1024.0,
            "Mi" => 1024f64.powi(2),
            "Gi" => 1024f64.powi(3),
            "Ti" => 1024f64.powi(4),
            _ => return None,
        };
        Some(of * factor)
    };
    split(text).and_then(|(number, unit)| Some(number * factor(unit)?)).ok_or_else(|| {
        "write a rate above 0 with its unit (bytes: GB/s, MB/s, GiB/s; bits: Gbit/s), as 12GB/s or 100Gbit/s"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_what_a_number_is() {
        for (text, seconds) in [
            ("2us", 2e-6),
            ("1.5 \u{b5}s", 1.5e-6),
            ("800ns", 8e-7),
            ("0.5ms", 5e-4),
            ("2e-6s", 2e-6),
            ("1E1 ns", 1e-8),
        ] {
            assert_eq!(latency(text), Ok(seconds), "{text}");
        }
        for (text, rate) in [
            ("12GB/s", 1.2e10),
            ("100Gbit/s", 1.25e10),
            ("1 GiB/s", 1073741824.0),
            ("500 MB/s", 5e8),
            ("2.5e9B/s", 2.5e9),
            ("64kB/s", 64e3),
        ] {
            assert_eq!(bandwidth(text), Ok(rate), "{text}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for text in
            ["2", "2e-6", "us", "-2us", "0us", "infs", "NaNs", "2 min", "2 u s", "", "2usus", "e3s", "2GB/s"]
        {
            assert!(latency(text).is_err_and(|e| e.contains("2us")), "{text}");
        }
        // Of bits or of bytes is not for the program to say.
        for text in
            ["10", "1e10", "10Gb/s", "10GB", "10gB/s", "-1GB/s", "0GB/s", "GB/s", "1GB/h", "1 G B/s", "2us"]
        {
            assert!(bandwidth(text).is_err_and(|e| e.contains("12GB/s")), "{text}");
        }
    }
}
