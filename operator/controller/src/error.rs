//! Why a reconcile did not end well, and what follows from it.

use std::error::Error as _;

use kube::core::Status;
use rouse_core::function::plan::ChildKind;

pub(crate) use rouse_peer::chain;

use crate::fence::FenceFallen;

/// Why a reconcile did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A child could not be written.
    #[error("{doing} {} {name}", kind.as_str())]
    Child {
        /// What was tried, as a participle.
        doing: &'static str,
        /// Kind of the child.
        kind: ChildKind,
        /// Name of the child.
        name: String,
        /// What came back.
        #[source]
        source: kube::Error,
    },
    /// The status could not be written.
    #[error("writing the status")]
    Status(#[source] kube::Error),
    /// The membership could not be written.
    #[error("writing the membership of activators")]
    Membership(#[source] kube::Error),
    /// The code of a new revision could not be read.
    #[error("reading the code of the Function")]
    Code(#[source] kube::Error),
    /// The code is not the one that was decided on.
    #[error("the code of the Function was changed meanwhile")]
    CodeChanged,
    /// Something could not be turned into JSON.
    #[error("encoding what is to be written")]
    Encode(#[from] serde_json::Error),
    /// What was decided was decided on old grounds.
    #[error("{} {name} is there already, but was not seen yet", kind.as_str())]
    Unseen {
        /// Kind of the child.
        kind: ChildKind,
        /// Name of the child.
        name: String,
    },
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// What was sent is wrong; the same will be refused again.
    Invalid,
    /// Somebody was faster; look again.
    Conflict,
    /// It may work soon.
    Transient,
    /// The right is missing, or a policy or quota is against it.
    Forbidden,
    /// What it was done for is gone, or goes with its namespace, which takes nothing new.
    Leaving,
}

impl Error {
    /// One word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Encode(_) => "EncodeFailed",
            Self::Unseen { .. } | Self::CodeChanged => "Conflict",
            Self::Child { source, .. }
            | Self::Status(source)
            | Self::Membership(source)
            | Self::Code(source) => {
                if is_fence(source) {
                    return "LeadLost";
                }
                match self.class() {
                    Class::Invalid => "Refused",
                    Class::Conflict => "Conflict",
                    Class::Transient => "ApiUnavailable",
                    Class::Forbidden => "Forbidden",
                    Class::Leaving => "Leaving",
                }
            }
        }
    }

    /// What follows.
    pub fn class(&self) -> Class {
        match self {
            Self::Encode(_) => Class::Invalid,
            Self::Unseen { .. } | Self::CodeChanged => Class::Conflict,
            Self::Status(source) if is_code(source, 404) => Class::Leaving,
            Self::Child { source, .. } if is_code(source, 404) => Class::Conflict,
            Self::Child { source, .. }
            | Self::Status(source)
            | Self::Membership(source)
            | Self::Code(source) => classify(source),
        }
    }
}

/// What follows from the API server's answer, or from the lack of one.
pub(crate) fn classify(error: &kube::Error) -> Class {
    let Some(status) = api_status(error) else { return Class::Transient };
    match status.code {
        409 => Class::Conflict,
        403 if is_terminating(status) => Class::Leaving,
        403 => Class::Forbidden,
        400 | 413 | 422 => Class::Invalid,
        _ => Class::Transient,
    }
}

/// The API server's own words; none where it did not answer.
pub(crate) fn api_status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

pub(crate) fn is_code(error: &kube::Error, code: u16) -> bool {
    api_status(error).is_some_and(|status| status.code == code)
}

fn is_terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn is_fence(error: &kube::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<FenceFallen>() {
            return true;
        }
        source = cause.source();
    }
    matches!(error, kube::Error::Service(cause) if cause.is::<FenceFallen>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16) -> kube::Error {
        kube::Error::Api(Status { code, ..Status::failure("m", "r") }.boxed())
    }

    #[test]
    fn answers_are_classified() {
        for (code, class) in [
            (400, Class::Invalid),
            (403, Class::Forbidden),
            (404, Class::Transient),
            (409, Class::Conflict),
            (413, Class::Invalid),
            (422, Class::Invalid),
            (429, Class::Transient),
            (500, Class::Transient),
        ] {
            assert_eq!(classify(&answered(code)), class, "{code}");
        }
    }

    #[test]
    fn a_namespace_that_goes_is_no_refusal() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "code": 403, "reason": "Forbidden", "message": "because it is being terminated",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]},
        }))
        .unwrap();
        assert_eq!(classify(&kube::Error::Api(status.boxed())), Class::Leaving);
    }

    #[test]
    fn an_error_is_told_once() {
        let error = Error::Status(answered(500));
        assert_eq!(chain(&error), "writing the status: m");
    }

    #[test]
    fn a_lost_lead_has_its_own_reason() {
        let error = Error::Status(kube::Error::Service(Box::new(FenceFallen)));
        assert_eq!(error.reason(), "LeadLost");
        assert_eq!(Error::Status(answered(422)).reason(), "Refused");
        assert_eq!(Error::Status(answered(404)).reason(), "Leaving");
    }
}
