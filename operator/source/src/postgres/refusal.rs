//! What a server of PostgreSQL says when it refuses something, and what that means. Pure.

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

use crate::failure::Failure;

/// Codes of errors (SQLSTATE) that matter.
pub(super) mod code {
    pub const DENIED: &str = "42501";
    pub const OBJECT_IN_USE: &str = "55006";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const DUPLICATE_OBJECT: &str = "42710";
    pub const NO_FILE: &str = "58P01";
    pub const NO_DATABASE: &str = "3D000";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const NO_SLOT_FREE: &str = "53400";
}

/// An error that the server told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its code (SQLSTATE).
    pub code: String,
    severity: String,
    message: String,
    detail: String,
    hint: String,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for more in [&self.detail, &self.hint] {
            if !more.is_empty() {
                write!(f, "; {}", more.trim_end_matches('.'))?;
            }
        }
        Ok(())
    }
}

impl Refusal {
    /// What the server says. What can't be read of it is left out: the rest is still worth telling.
    pub fn of(body: &ErrorResponseBody) -> Self {
        let mut refusal = Self::default();
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => refusal.code = value,
                b'V' => refusal.severity = value,
                b'M' => refusal.message = value,
                b'D' => refusal.detail = value,
                b'H' => refusal.hint = value,
                _ => {}
            }
        }
        refusal
    }

    /// Whether the connection ends with it.
    pub fn is_last(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// What it means for the source, where what was done says no more.
    pub fn failure(self, doing: &'static str) -> Failure {
        let code = self.code.as_str();
        match code.get(..2).unwrap_or_default() {
            "28" => Failure::denied(doing, self),
            _ if code == code::DENIED => Failure::denied(doing, self),
            _ if code == code::OBJECT_IN_USE => Failure::InUse(format!("{doing}: {self}")),
            _ if code == code::NO_SLOT_FREE => Failure::Invalid(format!("{doing}: {self}")),
            "0A" | "22" | "3D" | "42" | "55" => Failure::Invalid(format!("{doing}: {self}")),
            _ => Failure::away(doing, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_what_is_wrong() {
        for (code, reason) in [
            ("28P01", "AccessDenied"),
            ("28000", "AccessDenied"),
            ("42501", "AccessDenied"),
            ("55006", "SourceInUse"),
            ("53400", "SourceInvalid"),
            ("42P01", "SourceInvalid"),
            ("55000", "SourceInvalid"),
            ("57P03", "ServerAway"),
            ("53300", "ServerAway"),
            ("", "ServerAway"),
        ] {
            let refusal = Refusal { code: code.into(), ..Refusal::default() };
            assert_eq!(refusal.failure("trying").reason(), reason, "{code}");
        }
    }
}
