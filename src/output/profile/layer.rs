//! A layer for programs that have a registry of `tracing` already.
//!
//! Start at [`layer`].

use cluster::profile::{self, Token};
use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

struct Spans;

/// Records femdd's spans, beside whatever other layers do with them.
///
/// ```no_run
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// tracing_subscriber::registry().with(femdd::output::profile::layer()).init();
/// cluster::profile::start(cluster::profile::Settings::default());
/// ```
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Spans.with_filter(filter_fn(profile::recorded))
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let (true, Some(span)) = (profile::is_on(), context.span(id)) {
            span.extensions_mut().insert(profile::open(attributes));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(token) = token(id, &context) {
            profile::enter(token);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(token) = token(id, &context) {
            profile::exit(token);
        }
    }
}

fn token<S: Subscriber + for<'a> LookupSpan<'a>>(id: &Id, context: &Context<'_, S>) -> Option<Token> {
    context.span(id)?.extensions().get::<Token>().copied()
}
