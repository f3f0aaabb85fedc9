//! The labels of what requests count: closed sets all but the names of Functions.

use std::sync::Arc;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use rouse_core::routing::Listener;

use crate::seats::Farewell;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Entry {
    /// The port for callers in the cluster.
    cluster,
    /// The port for callers outside.
    public,
    /// The port for other activators.
    peer,
}

impl From<Listener> for Entry {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Cluster => Self::cluster,
            Listener::Public => Self::public,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CodeClass {
    /// A status, by its first digit.
    Status(u8),
    /// The client left before it had one.
    Gone,
}

impl CodeClass {
    pub const COUNT: usize = 6;

    pub const fn index(self) -> usize {
        match self {
            Self::Status(digit) => digit as usize,
            Self::Gone => 0,
        }
    }
}

impl From<StatusCode> for CodeClass {
    fn from(status: StatusCode) -> Self {
        Self::Status(u8::try_from(status.as_u16() / 100).unwrap_or(5).clamp(1, 5))
    }
}

impl EncodeLabelValue for CodeClass {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Status(1) => "1xx",
            Self::Status(2) => "2xx",
            Self::Status(3) => "3xx",
            Self::Status(4) => "4xx",
            Self::Status(_) => "5xx",
            Self::Gone => "gone",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FunctionLabels {
    pub namespace: Arc<str>,
    pub function: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub namespace: Arc<str>,
    pub function: Arc<str>,
    pub code_class: CodeClass,
    pub listener: Entry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProblemLabels {
    pub problem: &'static str,
    pub listener: Entry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FarewellLabels {
    pub reason: Farewell,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ForwardLabels {
    pub outcome: Forwarded,
}

/// What became of an attempt to pass a request to the owner of its Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Forwarded {
    /// The owner answered.
    answered,
    /// It could not be reached or would not have it; tried again.
    unsent,
    /// It broke off after it had sent the request on.
    broken,
}

impl Forwarded {
    pub(super) const ALL: [Self; 3] = [Self::answered, Self::unsent, Self::broken];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TargetLabels {
    pub target: Target,
}

/// What a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Target {
    /// A pod of a Function.
    pod,
    /// Another activator.
    peer,
}

impl Target {
    pub(super) const ALL: [Self; 2] = [Self::pod, Self::peer];
}
