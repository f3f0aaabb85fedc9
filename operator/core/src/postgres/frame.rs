//! What goes over a connection for replication: messages of `pgoutput` and signs of life one way,
//! how far the reader is the other.

use jiff::Timestamp;

use super::Lsn;
use super::reader::EPOCH;
use super::wire::{Malformed, Rest};

/// What the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of `pgoutput`, for the [`Reader`](super::Reader).
    Message {
        /// Where it is in the log.
        at: Lsn,
        /// The message.
        bytes: &'a [u8],
    },
    /// A sign of life.
    Alive {
        /// Up to here the server has read its log, and told all of it that there was to tell.
        end: Lsn,
        /// Whether it wants to hear of the reader at once.
        wants_report: bool,
    },
}

impl<'a> Frame<'a> {
    /// Reads what the server sent.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        match rest.u8()? {
            b'w' => {
                let at = rest.lsn()?;
                rest.take(16)?;
                Ok(Self::Message { at, bytes: rest.0 })
            }
            b'k' => {
                let end = rest.lsn()?;
                rest.take(8)?;
                let wants_report = rest.u8()? != 0;
                match rest.0.len() {
                    0 => Ok(Self::Alive { end, wants_report }),
                    left => Err(Malformed::Long(left)),
                }
            }
            other => Err(Malformed::Unknown(other)),
        }
    }
}

/// How far the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Up to here it has read.
    pub received: Lsn,
    /// Up to here the server may forget its log.
    pub confirmed: Lsn,
    /// Now.
    pub at: Timestamp,
}

impl Report {
    /// The report as it is sent; the server is asked for a sign of life.
    pub fn to_bytes(self) -> Vec<u8> {
        let micros = self.at.as_microsecond().saturating_sub(EPOCH);
        let received = self.received.max(self.confirmed).0.to_be_bytes();
        let confirmed = self.confirmed.0.to_be_bytes();
        let parts: [&[u8]; 6] =
            [b"r", &received, &confirmed, &confirmed, &micros.to_be_bytes(), &[1]];
        parts.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_sends_is_read() {
        let message = [&b"w"[..], &7_u64.to_be_bytes(), &[0; 16], b"B..."].concat();
        assert_eq!(Frame::parse(&message), Ok(Frame::Message { at: Lsn(7), bytes: b"B..." }));
        let alive = [&b"k"[..], &9_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        assert_eq!(Frame::parse(&alive), Ok(Frame::Alive { end: Lsn(9), wants_report: true }));
        assert_eq!(Frame::parse(&[&alive[..], &[0]].concat()), Err(Malformed::Long(1)));
        assert_eq!(Frame::parse(&alive[..9]), Err(Malformed::Short));
        assert_eq!(Frame::parse(b"x"), Err(Malformed::Unknown(b'x')));
    }

    #[test]
    fn a_report_never_confirms_what_was_not_received() {
        let at = Timestamp::from_microsecond(EPOCH + 5).unwrap();
        let bytes = Report { received: Lsn(3), confirmed: Lsn(4), at }.to_bytes();
        let four = 4_u64.to_be_bytes();
        let expected = [&b"r"[..], &four, &four, &four, &5_i64.to_be_bytes(), &[1]].concat();
        assert_eq!(bytes, expected);
    }
}
