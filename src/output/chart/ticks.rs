//! Where the ticks of an axis lie and what stands beside them.
//!
//! Imports nothing of femdd. Start at [`Scale::of`].

/// Ticks wanted on a linear axis.
const WANTED: f64 = 6.0;

/// Decades up to which each has its label.
const LABELLED_DECADES: i32 = 7;

/// Decades up to which 2 and 5 have labels as well.
const FEW_DECADES: f64 = 1.6;

/// A tick.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// Its value.
    pub(super) at: f64,
    /// What stands beside it; empty for a minor tick.
    pub(super) label: Label,
}

/// A number as it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Label {
    /// A minor tick has none.
    None,
    /// As it is.
    Plain(String),
    /// A power of ten.
    Power(i32),
}

/// Whether a value has a place on an axis. Those next to what numbers can be at all have none.
pub(super) fn fits(value: f64, log: bool) -> bool {
    if log { (1e-300..=1e300).contains(&value) } else { value.abs() <= 1e300 }
}

/// The range of an axis and its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    pub(super) ticks: Vec<Tick>,
}

impl Scale {
    /// An axis on which all of `values` lie; those that have no place on it are passed over.
    pub(super) fn of(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        let (low, high) = values
            .filter(|v| fits(*v, log))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (v.min(low), v.max(high)));
        match (low <= high, log) {
            (false, false) => Scale::linear(0.0, 1.0),
            (false, true) => Scale::log(1.0, 10.0),
            (true, false) => Scale::linear(low, high),
            (true, true) => Scale::log(low, high),
        }
    }

    /// An axis from 0 to the largest of `values`, as bars need.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        Scale::of(values.chain([0.0]), false)
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log {
            (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            // Halved, so that no difference of two finite numbers is infinite.
            (0.5 * value - 0.5 * self.low) / (0.5 * self.high - 0.5 * self.low)
        };
        place.is_finite().then_some(place)
    }

    fn linear(low: f64, high: f64) -> Scale {
        // Of rounding alone there is no range.
        let flat = 0.5 * high - 0.5 * low <= 1e-10 * low.abs().max(high.abs());
        let (low, high) = if flat { around(0.5 * low + 0.5 * high) } else { (low, high) };
        let (first, last, step) = steps(low, high);
        let ticks = (first..=last)
            .map(|k| Tick { at: k as f64 * step, label: Label::Plain(plain(k as f64 * step, step)) })
            .collect();
        Scale { log: false, low: first as f64 * step, high: last as f64 * step, ticks }
    }

    fn log(low: f64, high: f64) -> Scale {
        let (first, last) = (low.log10(), high.log10());
        if last - first > FEW_DECADES {
            return Scale::decades(first.floor() as i32, last.ceil() as i32);
        }
        // Of few decades 1, 2 and 5 are labelled, and the axis begins and ends at one of them.
        let mut ticks: Vec<Tick> = ((first.floor() as i32 - 1)..=(last.ceil() as i32))
            .flat_map(|decade| (1..10).map(move |m| (m, f64::from(m) * 10f64.powi(decade))))
            .map(|(m, at)| {
                let label = if [1, 2, 5].contains(&m) { Label::Plain(short(at)) } else { Label::None };
                Tick { at, label }
            })
            .collect();
        // Of rounding alone no value lies outside.
        let slack = 1.0 + 1e-9;
        let labelled = |t: &&Tick| t.label != Label::None;
        let from = ticks.iter().filter(labelled).rev().find(|t| t.at <= low * slack).map_or(low, |t| t.at);
        let to = ticks
            .iter()
            .filter(labelled)
            .find(|t| t.at * slack >= high && t.at > from * slack)
            .map_or(high, |t| t.at);
        ticks.retain(|t| t.at >= from / slack && t.at <= to * slack);
        Scale { log: true, low: from, high: to, ticks }
    }

    fn decades(first: i32, last: i32) -> Scale {
        let n = last - first;
        let every = n.div_euclid(LABELLED_DECADES) + i32::from(n % LABELLED_DECADES != 0);
        let every = every.max(1);
        let mut ticks = Vec::new();
        for decade in first..=last {
            let label = if (decade - first) % every == 0 { Label::Power(decade) } else { Label::None };
            ticks.push(Tick { at: 10f64.powi(decade), label });
            if every == 1 && decade < last {
                let minor = |m| Tick { at: f64::from(m) * 10f64.powi(decade), label: Label::None };
                ticks.extend((2..10).map(minor));
            }
        }
        Scale { log: true, low: 10f64.powi(first), high: 10f64.powi(last), ticks }
    }
}

/// A range with something in it around a single value.
fn around(value: f64) -> (f64, f64) {
    if value == 0.0 { (0.0, 1.0) } else { (value - 0.5 * value.abs(), value + 0.5 * value.abs()) }
}

/// The first and the last multiple of a step of 1, 2 or 5 times a power of ten that enclose a range.
fn steps(low: f64, high: f64) -> (i64, i64, f64) {
    let wide = (0.5 * high - 0.5 * low) / WANTED * 2.0;
    let rough = wide.max(low.abs().max(high.abs()) * 1e-12).clamp(1e-300, 1e300);
    let power = 10f64.powi(rough.log10().floor() as i32);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0) * power;
    // Of rounding alone no further step is taken.
    let first = (low / step + 1e-9).floor() as i64;
    let last = (high / step - 1e-9).ceil() as i64;
    (first, last.max(first + 1), step)
}

/// A multiple of a step, with as many digits as the step needs.
fn plain(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digit = step.log10().floor() as i32;
    if value.abs() >= 1e5 || step < 1e-4 {
        let digits = (value.abs().log10().floor() as i32 - digit).clamp(0, 12) as usize;
        return typographic(&trimmed(&format!("{value:.digits$e}")));
    }
    let digits = (-digit).clamp(0, 12) as usize;
    typographic(&format!("{value:.digits$}"))
}

/// A number of one digit.
fn short(value: f64) -> String {
    let text = if (1e-3..1e5).contains(&value) {
        // Rounding leaves 0.30000000000000004.
        let digits = (-value.log10().floor()).max(0.0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.0e}")
    };
    typographic(&text)
}

/// `1.200e5` as `1.2e5`.
fn trimmed(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, power)) if digits.contains('.') => {
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_owned(),
    }
}

/// A hyphen is no minus.
pub(super) fn typographic(number: &str) -> String {
    number.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale
            .ticks
            .iter()
            .filter_map(|t| match &t.label {
                Label::None => None,
                Label::Plain(text) => Some(text.clone()),
                Label::Power(p) => Some(format!("10^{p}")),
            })
            .collect()
    }

    #[test]
    fn linear_ticks_are_round_and_enclose() {
        assert_eq!(labels(&Scale::of([0.0, 10.0].into_iter(), false)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&Scale::of([0.13, 0.29].into_iter(), false)),
            ["0.10", "0.15", "0.20", "0.25", "0.30"]
        );
        assert_eq!(
            labels(&Scale::of([-3.0, 4.0].into_iter(), false)),
            ["\u{2212}4", "\u{2212}2", "0", "2", "4"]
        );
        assert_eq!(labels(&Scale::of([0.0, 3e6].into_iter(), false))[1], "5e5");
        assert_eq!(labels(&Scale::of([0.0, 3e-7].into_iter(), false))[1], "5e\u{2212}8");
    }

    #[test]
    fn log_ticks_are_decades_or_their_parts() {
        assert_eq!(
            labels(&Scale::of([3e-3, 40.0].into_iter(), true)),
            [-3, -2, -1, 0, 1, 2].map(|p| format!("10^{p}"))
        );
        assert_eq!(labels(&Scale::of([1.0, 16.0].into_iter(), true)), ["1", "2", "5", "10", "20"]);
        assert_eq!(labels(&Scale::of([0.3, 0.31].into_iter(), true)), ["0.2", "0.5"]);
        let long = Scale::of([1e-16, 1.0].into_iter(), true);
        assert!(labels(&long).len() <= 8, "{:?}", labels(&long));
        assert!(long.ticks.len() == 17, "no minor ticks");
    }

    #[test]
    fn every_value_lies_on_its_axis() {
        let sets: [&[f64]; 9] = [
            &[],
            &[0.0],
            &[5.0],
            &[-1e300, 1e300],
            &[1e-300, 2e-300],
            &[1.0, 1.0 + 1e-15],
            &[f64::NAN, 1.0, 3.0],
            &[f64::MAX, f64::MIN],
            &[0.1, 0.7, 123.0],
        ];
        for values in sets {
            for log in [false, true] {
                let scale = Scale::of(values.iter().copied(), log);
                assert!(scale.ticks.len() < 100, "{values:?} {log}");
                for &v in values.iter().filter(|v| fits(**v, log)) {
                    let place =
                        scale.place(v).unwrap_or_else(|| panic!("{v} of {values:?} {log}: {scale:?}"));
                    assert!(
                        (-1e-6..=1.0 + 1e-6).contains(&place),
                        "{v} of {values:?} {log}: {place} {scale:?}"
                    );
                }
            }
        }
    }
}
