//! The condition types of all kinds. Reasons belong to those who set them.

use std::fmt;

/// The type of a condition, after the conventions of kstatus: `Ready` is always there,
/// `Reconciling` and `Stalled` only while they are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The object is in force as it was written, at every activator: whoever calls now is not told
    /// that there is nothing there. A Function that sleeps is ready.
    Ready,
    /// At least one pod of the Function answers requests.
    Active,
    /// A change is on its way and has not taken effect yet.
    Reconciling,
    /// No progress is possible until somebody changes something.
    Stalled,
}

impl ConditionType {
    /// The name as it stands in `status.conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Active => "Active",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
