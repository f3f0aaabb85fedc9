//! The ledger of a Trigger: which objects were told of. It is kept in segments, each for a range of
//! keys, and an index of them, which alone is in memory: some hundred bytes for 400 objects and more.
//!
//! All that stands in it was true when it was written. So it may be lost in part, or be written by
//! two at once: what is told again has the same id.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Scope, Segment};

const FORMAT: u32 = 1;

/// Why an index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no document.
    #[error("it is not what Rouse wrote")]
    Spoilt(#[from] serde_json::Error),
    /// It is of a later Rouse.
    #[error("it is of a later version of Rouse: format {0}")]
    Later(u32),
}

/// The segments of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    format: u32,
    /// Which objects it is of.
    pub scope: Scope,
    /// Objects that were written before this are not told of, until all are known.
    pub since: Option<Timestamp>,
    /// Number of the next segment.
    next: u64,
    slices: Vec<Slice>,
}

/// A range of keys, and what is known of the objects in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Name of the segment.
    pub name: String,
    /// The last key that may be in it; none where there is no last.
    pub until: Option<String>,
    /// Objects in it.
    pub count: usize,
    /// What stands for them. Where it is wrong the segment is read for nothing.
    pub digest: String,
}

impl Index {
    /// A ledger without objects.
    pub fn new(scope: Scope, since: Option<Timestamp>) -> Self {
        let digest = Segment::digest([]);
        let slice = Slice { name: "0".into(), until: None, count: 0, digest };
        Self { format: FORMAT, scope, since, next: 1, slices: vec![slice] }
    }

    /// Reads what [`Self::text`] wrote. Where it is of other objects, it begins anew with those
    /// that it knows.
    pub fn read(text: &[u8], scope: &Scope, since: Option<Timestamp>) -> Result<Self, Unusable> {
        let mut index: Self = serde_json::from_slice(text)?;
        if index.format != FORMAT || index.slices.is_empty() {
            return Err(Unusable::Later(index.format));
        }
        if index.scope.bucket != scope.bucket {
            return Ok(Self::new(scope.clone(), since));
        }
        if index.scope != *scope {
            (index.scope, index.since) = (scope.clone(), since);
            for slice in &mut index.slices {
                slice.digest.clear();
            }
        }
        Ok(index)
    }

    /// The index as a document.
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Objects that it knows.
    pub fn count(&self) -> usize {
        self.slices.iter().map(|slice| slice.count).sum()
    }

    /// The number of the segment that `key` is in.
    pub fn find(&self, key: &str) -> usize {
        self.slices.partition_point(|slice| slice.until.as_deref().is_some_and(|until| until < key))
    }

    /// The number of the segment in which the keys after `key` begin.
    pub fn find_after(&self, key: Option<&str>) -> usize {
        let Some(key) = key else { return 0 };
        self.slices
            .partition_point(|slice| slice.until.as_deref().is_some_and(|until| until <= key))
    }

    /// A segment, with the key after which it begins.
    pub fn slice(&self, number: usize) -> Option<(Option<&str>, &Slice)> {
        let before = number.checked_sub(1).and_then(|before| self.slices.get(before));
        let after = before.and_then(|before| before.until.as_deref());
        self.slices.get(number).map(|slice| (after, slice))
    }

    /// Notes what a segment has now; what of that is to be written. One that is too large is divided,
    /// one that is empty goes.
    pub fn put(&mut self, number: usize, mut segment: Segment) -> Writes {
        let Some(old) = self.slices.get(number).cloned() else { return Writes::default() };
        if segment.entries.is_empty() && self.slices.len() > 1 {
            self.slices.remove(number);
            if let Some(last) = self.slices.last_mut().filter(|_| old.until.is_none()) {
                last.until = None;
            }
            return Writes { put: Vec::new(), gone: Some(old.name) };
        }
        let parts = segment.divide();
        let untils = parts.iter().map(|(after, _)| Some(after.clone()));
        let untils: Vec<_> = untils.chain([old.until]).collect();
        let segments = std::iter::once(segment).chain(parts.into_iter().map(|(_, part)| part));
        let (mut put, mut slices, mut name) = (Vec::new(), Vec::new(), old.name);
        for (segment, until) in segments.zip(untils) {
            let (count, digest) = (segment.entries.len(), Segment::digest(&segment.entries));
            slices.push(Slice { name: name.clone(), until, count, digest });
            put.push((name, segment));
            name = self.next.to_string();
            self.next += 1;
        }
        self.slices.splice(number..=number, slices);
        // So none is missing meanwhile.
        put.reverse();
        Writes { put, gone: None }
    }
}

/// What is to be written of a ledger before its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Segments with their names, in this order.
    pub put: Vec<(String, Segment)>,
    /// A segment that is of no use once the index is written.
    pub gone: Option<String>,
}
