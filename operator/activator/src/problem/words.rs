//! What failures say, where it takes more than a format. Pure.

use std::time::Duration;

use rouse_crds::v1alpha1::HttpMethod;

use crate::admission::StartFailure;

pub(super) fn not_found(host: &str, path: &str, public: bool) -> String {
    if public {
        format!(
            "nothing outside the cluster may call host {host:?} with path {path:?}: see whether \
             the Function has spec.exposure Public, and whether a Trigger names that host and path"
        )
    } else {
        format!(
            "nothing answers to host {host:?} with path {path:?}: see whether there is a Function \
             NAME in NAMESPACE for the host NAME.NAMESPACE, or a Trigger for that host and path"
        )
    }
}

pub(super) fn cause_of_delay(delay: Option<&StartFailure>) -> &str {
    delay.map_or(
        "see the Function's status for a pod that does not start, or raise spec.scaling.max if its \
         pods are busy",
        |delay| &delay.message,
    )
}

pub(super) fn allow(methods: &[HttpMethod]) -> String {
    let names: Vec<&str> = methods.iter().copied().map(method_name).collect();
    names.join(", ")
}

pub(super) const fn method_name(method: HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Head => "HEAD",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Trace => "TRACE",
        HttpMethod::Connect => "CONNECT",
    }
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
