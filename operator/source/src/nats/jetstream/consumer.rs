//! Finds the consumer of a stream, or makes it, and refuses one by which events would be lost.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{Context, ErrorCode};

use crate::failure::Failure;
use crate::nats::settings::{Start, Stream};

/// Messages that a consumer hands out before the first is acknowledged. What the Function may run
/// bounds them; this only keeps the server's own bound, 1,000, out of the way.
const MOST_PENDING: i64 = 20_000;

/// The consumer, made where there is none. One that was there and is gone is not made again: it
/// would begin elsewhere, and skip or repeat in silence.
pub(super) async fn fetch(
    context: &Context,
    stream: &Stream,
    was_there: &mut bool,
) -> Result<PullConsumer, Failure> {
    let found = context.get_consumer_from_stream(&stream.consumer, &stream.name).await;
    let consumer = match found {
        Ok(consumer) => consumer,
        Err(error) if is(&error, ErrorCode::CONSUMER_NOT_FOUND) && *was_there => {
            return Err(Failure::Lost(format!(
                "the consumer {} of the stream {} is gone, and with it how far it was: make a \
                 consumer of this name that begins where it shall",
                stream.consumer, stream.name
            )));
        }
        Err(error) if is(&error, ErrorCode::CONSUMER_NOT_FOUND) => {
            let made = context.create_consumer_on_stream(config(stream)?, &stream.name).await;
            made.map_err(|error| failure_of("making the consumer", stream, error))?
        }
        Err(error) => return Err(failure_of("looking for the consumer", stream, error)),
    };
    check(stream, &consumer.cached_info().config)?;
    *was_there = true;
    Ok(consumer)
}

fn is(error: &ConsumerError, code: ErrorCode) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == code)
}

fn failure_of(doing: &'static str, stream: &Stream, error: ConsumerError) -> Failure {
    match error.kind() {
        _ if is(&error, ErrorCode::STREAM_NOT_FOUND) => {
            Failure::Missing { what: "stream of NATS", name: stream.name.clone() }
        }
        // What the server refuses stays refused; what it can't do now, it may later.
        ConsumerErrorKind::JetStream(said) if said.code() < 500 => {
            Failure::Invalid(format!("{doing}: {error}"))
        }
        ConsumerErrorKind::InvalidName | ConsumerErrorKind::InvalidConsumerType => {
            Failure::Invalid(format!("{doing}: {error}: it must be a durable pull consumer"))
        }
        _ => Failure::away(doing, error),
    }
}

fn config(stream: &Stream) -> Result<Config, Failure> {
    let deliver_policy = match stream.start {
        Start::Earliest => DeliverPolicy::All,
        Start::Latest => DeliverPolicy::New,
        Start::At(time) => {
            let nanos = time.as_nanosecond();
            let start_time = async_nats::datetime::from_nanos(nanos);
            let start_time = start_time.map_err(|error| Failure::Invalid(error.to_string()))?;
            DeliverPolicy::ByStartTime { start_time }
        }
    };
    Ok(Config {
        durable_name: Some(stream.consumer.clone()),
        description: Some("A Trigger of Rouse".into()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: stream.ack_wait,
        max_ack_pending: MOST_PENDING,
        filter_subjects: stream.subjects.clone(),
        ..Config::default()
    })
}

/// Refuses a consumer that loses events, or brings others than those that were asked for.
fn check(stream: &Stream, config: &async_nats::jetstream::consumer::Config) -> Result<(), Failure> {
    let name = &stream.consumer;
    let refuse = |why: String| Err(Failure::Invalid(format!("the consumer {name} {why}")));
    if config.deliver_subject.is_some() {
        return refuse("is pushed to: it must be a pull consumer".into());
    }
    if config.ack_policy != AckPolicy::Explicit {
        return refuse("does not want each message acknowledged: events would be lost".into());
    }
    if config.max_deliver > 0 {
        return refuse(
            "has maxDeliver: events would be lost; spec.delivery bounds attempts".into(),
        );
    }
    let waits = config.backoff.iter().copied().chain([config.ack_wait]).min();
    if waits.is_some_and(|waits| waits != Duration::ZERO && waits < stream.ack_wait) {
        return refuse("waits for less than ackWait before it hands messages out again".into());
    }
    let mut theirs = config.filter_subjects.clone();
    theirs.extend((!config.filter_subject.is_empty()).then(|| config.filter_subject.clone()));
    let mut own = stream.subjects.clone();
    theirs.sort();
    own.sort();
    if !own.is_empty() && own != theirs {
        return refuse(format!("brings other subjects than asked for: {theirs:?}"));
    }
    Ok(())
}
