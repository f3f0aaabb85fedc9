//! The messages of `pgoutput` as bytes.

use super::Lsn;

/// Why a message can't be read. It is never skipped: it may be a change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    /// It ends too early.
    #[error("a message of PostgreSQL ends too early")]
    Short,
    /// There is something behind its end.
    #[error("a message of PostgreSQL has {0} bytes too many")]
    Long(usize),
    /// A kind of message or part that nobody asked for.
    #[error("PostgreSQL sent {0:#04x}, which nobody asked for")]
    Unknown(u8),
    /// A text is not UTF-8, though that was asked for.
    #[error("PostgreSQL sent a text that is not UTF-8")]
    Encoding,
    /// A change of a table that was not described before.
    #[error("PostgreSQL sent a change of the table {0} without describing it")]
    Table(u32),
    /// A row has another number of columns than its table.
    #[error("PostgreSQL sent a row of {row} columns for a table of {table}")]
    Columns {
        /// Columns of the row.
        row: usize,
        /// Columns of the table.
        table: usize,
    },
    /// A change outside of a transaction.
    #[error("PostgreSQL sent a change outside of a transaction")]
    Outside,
    /// A time that no clock shows.
    #[error("PostgreSQL sent a time that can't be: {0} µs")]
    Time(i64),
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Begin {
        commit: Lsn,
        micros: i64,
    },
    Commit {
        end: Lsn,
    },
    Relation(Relation),
    Insert {
        table: u32,
        new: Vec<Cell<'a>>,
    },
    Update {
        table: u32,
        old: Option<Old<'a>>,
        new: Vec<Cell<'a>>,
    },
    Delete {
        table: u32,
        old: Old<'a>,
    },
    Truncate {
        tables: Vec<u32>,
    },
    /// What means nothing to a Function: origins, types, messages of applications.
    Other,
}

/// The row before a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// Its key; the other columns are null, whatever they were.
    Key(Vec<Cell<'a>>),
    /// All of it.
    Whole(Vec<Cell<'a>>),
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// A large value that did not change and that PostgreSQL did not look up.
    Unchanged,
    Text(&'a str),
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub id: u32,
    pub schema: String,
    pub name: String,
    /// Whether rows are identified by all of their columns (`REPLICA IDENTITY FULL`).
    pub full: bool,
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// Part of what identifies a row.
    pub key: bool,
    /// Number of its type.
    pub kind: u32,
}

impl<'a> Message<'a> {
    /// Reads a message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        let message = match rest.u8()? {
            b'B' => {
                let (commit, micros) = (rest.lsn()?, rest.i64()?);
                rest.take(4)?;
                Self::Begin { commit, micros }
            }
            b'C' => {
                rest.take(9)?;
                let end = rest.lsn()?;
                rest.take(8)?;
                Self::Commit { end }
            }
            b'R' => Self::Relation(rest.relation()?),
            b'I' => {
                let table = rest.u32()?;
                rest.tag(b'N')?;
                Self::Insert { table, new: rest.row()? }
            }
            b'U' => rest.update()?,
            b'D' => {
                let table = rest.u32()?;
                let tag = rest.u8()?;
                Self::Delete { table, old: rest.old(tag)? }
            }
            b'T' => {
                let count = rest.u32()?;
                rest.u8()?;
                let tables = (0..count).map(|_| rest.u32()).collect::<Result<_, _>>()?;
                Self::Truncate { tables }
            }
            b'O' | b'Y' | b'M' => return Ok(Self::Other),
            other => return Err(Malformed::Unknown(other)),
        };
        match rest.0.len() {
            0 => Ok(message),
            left => Err(Malformed::Long(left)),
        }
    }
}

/// What is left to read.
pub(super) struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn lsn(&mut self) -> Result<Lsn, Malformed> {
        self.array().map(u64::from_be_bytes).map(Lsn)
    }

    fn tag(&mut self, expected: u8) -> Result<(), Malformed> {
        match self.u8()? {
            tag if tag == expected => Ok(()),
            other => Err(Malformed::Unknown(other)),
        }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::Short)?;
        let name = std::str::from_utf8(self.take(end)?).map_err(|_| Malformed::Encoding)?;
        self.take(1)?;
        Ok(name.to_owned())
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (id, schema, name) = (self.u32()?, self.name()?, self.name()?);
        let full = self.u8()? == b'f';
        let count = self.u16()?;
        let columns = (0..count).map(|_| {
            let (key, name, kind) = (self.u8()? & 1 == 1, self.name()?, self.u32()?);
            self.take(4)?;
            Ok(Column { name, key, kind })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        // PostgreSQL leaves the schema of its own tables empty.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(Relation { id, schema, name, full, columns })
    }

    fn update(&mut self) -> Result<Message<'a>, Malformed> {
        let table = self.u32()?;
        let old = match self.u8()? {
            b'N' => None,
            tag => {
                let old = self.old(tag)?;
                self.tag(b'N')?;
                Some(old)
            }
        };
        Ok(Message::Update { table, old, new: self.row()? })
    }

    fn old(&mut self, tag: u8) -> Result<Old<'a>, Malformed> {
        match tag {
            b'K' => self.row().map(Old::Key),
            b'O' => self.row().map(Old::Whole),
            other => Err(Malformed::Unknown(other)),
        }
    }

    fn row(&mut self) -> Result<Vec<Cell<'a>>, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| self.cell()).collect()
    }

    fn cell(&mut self) -> Result<Cell<'a>, Malformed> {
        match self.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => {
                let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Short)?;
                let text = std::str::from_utf8(self.take(length)?);
                text.map(Cell::Text).map_err(|_| Malformed::Encoding)
            }
            other => Err(Malformed::Unknown(other)),
        }
    }
}
