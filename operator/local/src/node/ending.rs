//! How a container ended, as a kubelet tells it: the exit code, a word for it, and what was said last.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use jiff::Timestamp;
use serde_json::Value;

use super::status::End;
use crate::logs::Writer;

/// Bytes of what a container said last.
const LAST_WORDS: usize = 2048;
/// What shells add to the number of a signal.
pub const BY_SIGNAL: i32 = 128;

/// The end of a container that began at `begun` and wrote `log`.
pub fn end_of(
    status: io::Result<ExitStatus>,
    too_large: bool,
    log: &Writer,
    begun: Timestamp,
) -> End {
    let status = status.ok();
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(|status| status.signal()).map(|signal| signal + BY_SIGNAL);
    let code = code.or(signal).unwrap_or(-1);
    let reason = match code {
        _ if too_large => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    let lines: Vec<String> = log.last(LAST_WORDS).iter().filter_map(|line| text_of(line)).collect();
    End { code, reason, message: lines.join("\n"), begun, ended: Timestamp::now() }
}

/// What a line says that a shim wrote, or the line itself; none where the shim says that all is well.
fn text_of(line: &str) -> Option<String> {
    let said: Value = serde_json::from_str(line).unwrap_or_default();
    let part = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    match (part("message"), part("why")) {
        (Some(message), Some(why)) => Some(format!("{message}: {why}")),
        (Some(_), None) if part("stream").as_deref() == Some("shim") => None,
        (Some(message), None) => Some(message),
        (None, _) => Some(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Logs;

    #[test]
    fn an_end_is_told_by_code_word_and_last_words() {
        let log = Logs::default().begin("shop", "p", "f");
        log.write(r#"{"stream":"shim","message":"asked at","controlPort":1}"#);
        log.write(r#"{"stream":"stderr","message":"no module"}"#);
        log.write(r#"{"stream":"shim","message":"it ends","why":"so"}"#);
        log.write("plain");
        let end = |raw, too_large| {
            end_of(Ok(ExitStatus::from_raw(raw)), too_large, &log, Timestamp::UNIX_EPOCH)
        };
        let failed = end(3 << 8, false);
        assert_eq!((failed.code, failed.reason), (3, "Error"));
        assert_eq!(failed.message, "no module\nit ends: so\nplain");
        assert_eq!((end(9, true).code, end(9, true).reason), (137, "OOMKilled"));
        assert_eq!(end(0, false).reason, "Completed");
    }
}
