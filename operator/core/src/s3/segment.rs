//! A part of a ledger: the objects of a range of keys that were told of, one a line.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use super::{Change, Scope, Version, digest, key};

/// Objects that a segment has at most; beyond, it is divided. A list names 1000 at once, so that
/// most lists see whole segments.
pub const MOST: usize = 800;

/// Objects by their keys, in the order of lists.
pub type Entries = BTreeMap<String, Version>;

/// A line of a segment that nobody wrote so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not what Rouse wrote")]
pub struct Spoilt(usize);

/// The objects of a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// They.
    pub entries: Entries,
}

impl Segment {
    /// Reads what [`Self::text`] wrote.
    pub fn read(text: &str) -> Result<Self, Spoilt> {
        let lines = text.lines().enumerate();
        let entries = lines.map(|(at, line)| entry(line).ok_or(Spoilt(at + 1)));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// One line for each object: key, entity tag, bytes, and milliseconds since 1970.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, Version { etag, size, modified }) in &self.entries {
            let (name, etag, modified) =
                (key::encode(name), key::encode(etag), modified.as_millisecond());
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name}\t{etag}\t{size}\t{modified}");
        }
        text
    }

    /// Notes what is known of an object; none: that it is gone.
    pub fn set(&mut self, name: &str, version: Option<&Version>) {
        match version {
            Some(version) => self.entries.insert(name.to_owned(), version.clone()),
            None => self.entries.remove(name),
        };
    }

    /// Keeps what is in the range and meant by `scope`.
    pub fn keep(&mut self, after: Option<&str>, until: Option<&str>, scope: &Scope) {
        self.entries.retain(|name, _| {
            after.is_none_or(|after| name.as_str() > after)
                && until.is_none_or(|until| name.as_str() <= until)
                && scope.has(name)
        });
    }

    /// What stands for the objects of a segment: a list of the same objects has the same.
    pub fn digest<'a>(entries: impl IntoIterator<Item = (&'a String, &'a Version)>) -> String {
        let mut parts = Vec::new();
        for (name, Version { etag, size, modified }) in entries {
            parts.push(format!("{name}\0{etag}\0{size}\0{}", modified.as_millisecond()));
        }
        digest(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What changed from these objects to those that a list of the same range has.
    pub fn changes(&self, listed: &Entries) -> Vec<(String, Change)> {
        let gone = self.entries.iter().filter(|(name, _)| !listed.contains_key(*name));
        let gone = gone.map(|(name, version)| (name.clone(), Change::Removed(version.clone())));
        let come = listed.iter().filter(|(name, version)| self.entries.get(*name) != Some(version));
        let come = come.map(|(name, version)| (name.clone(), Change::Created(version.clone())));
        gone.chain(come).collect()
    }

    /// Takes from it what is beyond [`MOST`], in parts with the key after which each begins.
    pub fn divide(&mut self) -> Vec<(String, Self)> {
        let mut parts = Vec::new();
        while self.entries.len() > MOST {
            let parted = self.entries.keys().rev().nth(MOST / 2).cloned();
            let Some(last) = parted else { break };
            let rest = split_after(&mut self.entries, &last);
            parts.push((last, Self { entries: rest }));
        }
        parts.reverse();
        parts
    }
}

/// Takes what comes after `last` away.
pub fn split_after(entries: &mut Entries, last: &str) -> Entries {
    let mut rest = entries.split_off(last);
    if let Some((key, version)) = rest.remove_entry(last) {
        entries.insert(key, version);
    }
    rest
}

fn entry(line: &str) -> Option<(String, Version)> {
    let mut fields = line.split('\t');
    let (name, etag) = (key::decode(fields.next()?)?, key::decode(fields.next()?)?);
    let size = fields.next()?.parse().ok()?;
    let modified = Timestamp::from_millisecond(fields.next()?.parse().ok()?).ok()?;
    fields.next().is_none().then_some((name, Version { etag, size, modified }))
}
