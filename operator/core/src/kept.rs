//! What pods printed, as it is kept for when they are gone: pieces of whole lines, each with where it
//! stands in the log of its pod, so that none is kept or told twice. Pure.

use serde::{Deserialize, Serialize};

/// Port of a keeper, on its loopback address, at which people ask for what is kept.
pub const KEPT_PORT: u16 = 8085;
/// Path below which a keeper has what is kept of each Function, by its name.
pub const KEPT_PATH: &str = "/v1/functions";

/// Header in which who asks for the lines of a pod, or for what a keeper has, names that pod by its UID:
/// whoever may read pods of the namespace knows it, and nobody else.
pub const POD_HEADER: &str = "rouse-pod";
/// Headers with which a pod gives lines: which start of its shim said them, after how many bytes they
/// stand, and whether there will be no more.
pub const RUN_HEADER: &str = "rouse-log-run";
/// See [`RUN_HEADER`].
pub const FROM_HEADER: &str = "rouse-log-from";
/// See [`RUN_HEADER`].
pub const END_HEADER: &str = "rouse-log-end";

/// A piece of the log of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where it is from.
    pub head: PieceHead,
    /// Whole lines.
    pub lines: &'a [u8],
}

/// Where a piece is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHead {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// Which start of the pod's shim.
    pub run: i64,
    /// Bytes that this start had said before.
    pub from: u64,
    /// Bytes of the lines.
    pub bytes: u64,
}

impl PieceHead {
    /// Where the next piece stands.
    pub const fn end(&self) -> u64 {
        self.from.saturating_add(self.bytes)
    }
}

impl Piece<'_> {
    /// The piece as it is kept, added to `text`.
    pub fn write(&self, text: &mut Vec<u8>) {
        // Writing a head of strings and numbers can't fail.
        text.extend(serde_json::to_vec(&self.head).unwrap_or_default());
        text.push(b'\n');
        text.extend_from_slice(self.lines);
    }
}

/// The pieces that `kept` has, and how many bytes of it they take: what was not written to its end,
/// for its writer was killed, is left out with all behind it.
pub fn read_pieces(kept: &[u8]) -> (Vec<Piece<'_>>, usize) {
    let mut pieces = Vec::new();
    let mut rest = kept;
    while let Some((piece, behind)) = read_piece(rest) {
        pieces.push(piece);
        rest = behind;
    }
    (pieces, kept.len() - rest.len())
}

fn read_piece(kept: &[u8]) -> Option<(Piece<'_>, &[u8])> {
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let head: PieceHead = serde_json::from_slice(kept.get(..end)?).ok()?;
    let bytes = usize::try_from(head.bytes).ok()?;
    let (lines, rest) = kept.get(end + 1..)?.split_at_checked(bytes)?;
    Some((Piece { head, lines }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: u64, lines: &str) -> Piece<'_> {
        let bytes = u64::try_from(lines.len()).unwrap();
        let head = PieceHead { pod: "p".into(), uid: "u".into(), run: 7, from, bytes };
        Piece { head, lines: lines.as_bytes() }
    }

    #[test]
    fn pieces_are_read_as_they_were_written_whatever_the_lines_say() {
        let pieces = [piece(0, "{\"a\":1}\n"), piece(8, ""), piece(8, "{\"pod\":\"x\"}\n\n")];
        let mut text = Vec::new();
        for piece in &pieces {
            piece.write(&mut text);
        }
        assert_eq!(read_pieces(&text), (pieces.to_vec(), text.len()));
        assert_eq!(pieces[2].head.end(), 21);
    }

    #[test]
    fn what_was_not_written_to_its_end_is_left_out() {
        let mut text = Vec::new();
        piece(0, "one\n").write(&mut text);
        let whole = text.len();
        piece(4, "two\n").write(&mut text);
        for length in whole..text.len() {
            let (pieces, read) = read_pieces(&text[..length]);
            assert_eq!((pieces.len(), read), (1, whole), "{length}");
        }
        assert_eq!(read_pieces(b"nonsense\n"), (vec![], 0));
    }
}
