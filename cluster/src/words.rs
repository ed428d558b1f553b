//! Sizes, times and counts as people read them: one wording wherever they are printed.
//!
//! Imports nothing of femdd. Start at [`bytes`] and [`seconds`].

/// Memory or a file's size in a unit that reads well.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time that was measured.
pub fn seconds(s: f64) -> String {
    let whole = s.round() as u64;
    match s {
        _ if s < 100.0 => format!("{s:.2} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A time that is expected, which nobody knows to the second.
pub fn about_seconds(s: f64) -> String {
    match s {
        _ if s < 1.0 => format!("{s:.2} s"),
        _ if s < 120.0 => format!("{s:.1} s"),
        _ if s < 7200.0 => format!("{:.1} min", s / 60.0),
        _ => format!("{:.1} h", s / 3600.0),
    }
}

/// So many of something, as `1 rank` or `2 ranks`.
pub fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Digits in groups of three.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_reads_well() {
        let text = [0, 1023, 1024, 300 << 20, 3 << 29, u64::MAX].map(bytes);
        assert_eq!(text, ["0 B", "1023 B", "1.0 KiB", "300 MiB", "1.5 GiB", "16777216 TiB"]);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.5, 99.0, 3599.0, 3600.0, 7265.0].map(seconds),
            ["0.50 s", "99.00 s", "59 min 59 s", "1 h 00 min", "2 h 01 min"]
        );
        assert_eq!([0.5, 99.0, 3599.0, 7265.0].map(about_seconds), ["0.50 s", "99.0 s", "60.0 min", "2.0 h"]);
        assert_eq!([1, 2].map(|n| plural(n, "rank")), ["1 rank", "2 ranks"]);
    }
}
