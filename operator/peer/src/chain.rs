//! Errors in one line.

use kube::core::Status;

/// An error with all its causes in one line, for logs.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = words(cause);
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What kube says of an answer repeats it three times; the API server's own words are enough.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let api = match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.as_ref()),
        _ => None,
    };
    let boxed = || error.downcast_ref::<Box<Status>>().map(AsRef::as_ref);
    let status = api.or_else(boxed);
    status.map_or_else(|| error.to_string(), |status| status.message.clone())
}
