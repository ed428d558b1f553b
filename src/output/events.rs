//! Decisions a run took by itself, with what they were taken on: the key `events` of `run.json`.
//!
//! Imports [`super::run_json`]. Start at [`Event`] and [`RunReport::event`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::run_json::RunReport;

/// The key in `run.json`.
pub const KEY: &str = "events";

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What was decided on: `ranks`, `threads`, `solver`, ...
    pub what: String,
    /// What was chosen.
    pub choice: String,
    /// Why.
    pub because: String,
    /// The figures it was decided on.
    #[serde(default)]
    pub inputs: BTreeMap<String, Value>,
    /// How often it was decided so in a row.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
}

fn once() -> u64 {
    1
}

fn is_once(times: &u64) -> bool {
    *times == 1
}

impl Event {
    /// A decision.
    pub fn new(what: &str, choice: impl ToString, because: impl Into<String>) -> Event {
        let (choice, because) = (choice.to_string(), because.into());
        Event { what: what.to_owned(), choice, because, inputs: BTreeMap::new(), times: 1 }
    }

    /// As it is serialised, with no copy of its texts.
    fn into_value(self) -> Value {
        let Event { what, choice, because, inputs, times } = self;
        let texts = [("what", what), ("choice", choice), ("because", because)];
        let mut value: Map<String, Value> =
            texts.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
        value.insert("inputs".to_owned(), inputs.into_iter().collect());
        if !is_once(&times) {
            value.insert("times".to_owned(), times.into());
        }
        value.into()
    }

    /// With a figure it was decided on.
    pub fn input(mut self, name: &str, value: impl Into<Value>) -> Event {
        self.inputs.insert(name.to_owned(), value.into());
        self
    }
}

impl RunReport {
    /// Adds a decision to `events`. One that was taken before with the same choice for the same reason, as on the
    /// next mesh of an adaptive loop, counts there and keeps the newest figures.
    pub fn event(&mut self, event: Event) {
        let known = self.extra.entry(KEY.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(events) = known else { return };
        let same = |known: &Value, key: &str, text: &str| known[key].as_str() == Some(text);
        match events.iter_mut().rev().find(|known| same(known, "what", &event.what)) {
            Some(known) if same(known, "choice", &event.choice) && same(known, "because", &event.because) => {
                known["times"] = Value::from(known["times"].as_u64().unwrap_or(1) + event.times);
                known["inputs"] = event.inputs.into_iter().collect();
            }
            _ => events.push(event.into_value()),
        }
    }

    /// The decisions so far.
    pub fn events(&self) -> Vec<Event> {
        self.extra.get(KEY).and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_decision_counts() {
        let mut report = RunReport::started("a", 1, 1);
        report.event(Event::new("solver", "cg+amg", "symmetric").input("unknowns", 10));
        report.event(Event::new("order", "curve", "memory"));
        report.event(Event::new("solver", "cg+amg", "symmetric").input("unknowns", 20));
        report.event(Event::new("solver", "direct", "small"));
        let events = report.events();
        assert_eq!(events.len(), 3);
        assert_eq!((events[0].times, events[0].inputs["unknowns"].as_u64()), (2, Some(20)));
        assert_eq!((events[2].choice.as_str(), events[2].times), ("direct", 1));
        for event in [Event::new("a", 1, "b"), Event { times: 3, ..Event::new("a", 1, "b").input("c", 2.5) }]
        {
            let value = serde_json::to_value(&event).expect("an event");
            assert_eq!(event.into_value(), value);
        }
        let text = serde_json::to_string(&report.extra[KEY][1]).expect("text");
        assert_eq!(text, r#"{"because":"memory","choice":"curve","inputs":{},"what":"order"}"#);
    }
}
