//! A strict reader of Prometheus' text format, as node_exporter's textfile collector takes it.
//!
//! Imports nothing. Start at [`parse`]. Stricter than the format in that every sample has a family with HELP and TYPE,
//! and labels, and that counters and nothing else end in `_total`: what femdd writes is to be so.

/// Samples by name and labels, in their order.
///
/// # Errors
/// What a strict reader refuses.
pub fn parse(text: &str) -> Result<Vec<(String, f64)>, String> {
    let name_ok = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let (mut samples, mut family): (Vec<(String, f64)>, Option<String>) = (Vec::new(), None);
    let (mut helped, mut done): (Option<String>, Vec<String>) = (None, Vec::new());
    for line in text.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without text")?;
            if !name_ok(name) || help.is_empty() || done.iter().any(|n| n == name) {
                return wrong("a bad or repeated HELP");
            }
            helped = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without kind")?;
            if helped.as_deref() != Some(name) || !["gauge", "counter"].contains(&kind) {
                return wrong("a bad TYPE");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return wrong("counters, and nothing else, end in _total");
            }
            done.push(name.to_owned());
            family = Some(name.to_owned());
        } else {
            let Some((name, rest)) = line.split_once('{') else { return wrong("no labels") };
            if Some(name) != family.as_deref() {
                return wrong("a sample outside its family");
            }
            let Some((labels, value)) = rest.rsplit_once("} ") else { return wrong("no value") };
            let mut chars = labels.chars().peekable();
            let mut names = Vec::new();
            while chars.peek().is_some() {
                let name: String = chars.by_ref().take_while(|&c| c != '=').collect();
                if !name_ok(&name) || names.contains(&name) || chars.next() != Some('"') {
                    return wrong("a bad label");
                }
                names.push(name);
                loop {
                    match chars.next() {
                        Some('\\') if matches!(chars.next(), Some('\\' | '"' | 'n')) => {}
                        Some('"') => break,
                        Some('\\') | None => return wrong("a bad value of a label"),
                        Some(_) => {}
                    }
                }
                if !matches!(chars.next(), None | Some(',')) {
                    return wrong("no comma between labels");
                }
            }
            let value: f64 = value.parse().map_err(|_| format!("not a number: {line}"))?;
            let key = format!("{name}{{{labels}}}");
            if samples.iter().any(|sample| sample.0 == key) {
                return wrong("a sample twice");
            }
            samples.push((key, value));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_refused() {
        let good = "# HELP a_total b\n# TYPE a_total counter\na_total{c=\"d\\\"}\",e=\"f\"} 1.5\na_total{c=\"g\"} NaN\n";
        let samples = parse(good).expect("parses");
        assert_eq!(samples[0], ("a_total{c=\"d\\\"}\",e=\"f\"}".to_owned(), 1.5));
        assert!(samples.len() == 2 && samples[1].1.is_nan());
        for (what, text) in [
            ("no end of the line", good.trim_end().to_owned()),
            ("no family", "a{b=\"c\"} 1\n".to_owned()),
            ("no quote", good.replace("c=\"g\"", "c=\"g")),
            ("no comma", good.replace("\",e", "\"e")),
            ("a label twice", good.replace("e=", "c=")),
            ("a sample twice", good.to_owned() + "a_total{c=\"g\"} 2\n"),
            ("a family twice", good.to_owned() + good),
            ("no number", good.replace("1.5", "much")),
            ("no value", good.replace(" 1.5", "")),
            ("an escape that is none", good.replace("d\\", "\\x")),
            ("a gauge that ends so", good.replace("counter", "gauge")),
            ("a kind that is none", good.replace("counter", "number")),
        ] {
            assert!(parse(&text).is_err(), "{what}: {text}");
        }
    }
}
