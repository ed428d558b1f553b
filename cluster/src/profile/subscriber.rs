//! A subscriber of `tracing` that records spans and leaves events to another.
//!
//! Start at [`Recording`]. A registry of layers costs a few hundred nanoseconds a span, this a few dozen: it is for
//! programs whose log shows no spans. Whoever has a registry gives it a layer that calls [`super::open`],
//! [`super::enter`] and [`super::exit`].

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::WAITS;
use super::thread::{self, Token};

/// Records spans of femdd; events go to the subscriber within, which sees no spans.
pub struct Recording<S>(pub S);

/// Whether a span is one of femdd's.
pub fn recorded(meta: &Metadata) -> bool {
    let target = meta.target();
    let root = target.split("::").next().unwrap_or(target);
    meta.is_span() && (matches!(root, "femdd" | "cluster" | "partition" | "petsc") || root == WAITS)
}

impl<S: Subscriber> Subscriber for Recording<S> {
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        match meta.is_span() {
            false => self.0.register_callsite(meta),
            true if !recorded(meta) => Interest::never(),
            true if thread::is_on() => Interest::always(),
            // Asked each time until recording begins, which asks for this again.
            true => Interest::sometimes(),
        }
    }

    fn enabled(&self, meta: &Metadata) -> bool {
        if meta.is_span() { thread::is_on() && recorded(meta) } else { self.0.enabled(meta) }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, attributes: &Attributes) -> Id {
        Id::from_u64(thread::open(attributes).number())
    }

    fn record(&self, _: &Id, _: &Record) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event) {
        self.0.event(event);
    }

    fn event_enabled(&self, event: &Event) -> bool {
        self.0.event_enabled(event)
    }

    fn enter(&self, span: &Id) {
        thread::enter(Token::from_number(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        thread::exit(Token::from_number(span.into_u64()));
    }
}
