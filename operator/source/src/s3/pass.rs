//! Lists a bucket, and reads of the ledger what differs from the list.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rouse_core::s3::{Entries, Index, Scope, Segment, split_after};

use super::client::Listed;
use super::store::Store;
use crate::failure::Failure;

/// Objects that one list names.
const PAGE: usize = 1000;
/// Segments that one step reads at most.
const SEGMENTS: usize = 4;

/// A range of keys in which the list and the ledger may differ.
#[derive(Debug)]
pub(super) struct Part {
    pub after: Option<String>,
    pub until: Option<String>,
    pub segment: Segment,
    pub listed: Entries,
}

/// What a step of a list came to.
pub(super) struct Step {
    pub parts: Vec<Part>,
    /// After which key the next step begins; none at the end.
    pub next: Option<String>,
    /// When the list was made, by the server's clock.
    pub made: Timestamp,
}

/// The range of segments that a step compares, and the last key of it.
struct Reach {
    first: usize,
    last: usize,
    until: Option<String>,
}

impl Reach {
    /// As far as a list goes, and where it can end with a segment, no farther.
    fn of(index: &Index, after: Option<&str>, listed: Option<&str>) -> Self {
        let first = index.find_after(after);
        let last = listed.map_or(usize::MAX, |listed| index.find(listed));
        let end = |number: usize| index.slice(number).and_then(|(_, slice)| slice.until.clone());
        let most = first + SEGMENTS - 1;
        if last > most && end(most).is_some() {
            return Self { first, last: most, until: end(most) };
        }
        let Some(listed) = listed else { return Self { first, last: most, until: None } };
        if last > first && end(last).as_deref() != Some(listed) {
            return Self { first, last: last - 1, until: end(last - 1) };
        }
        Self { first, last, until: Some(listed.to_owned()) }
    }
}

/// Lists what comes after a key. `fresh` are objects of which more is known than the ledger has.
pub(super) async fn step(
    store: &Store,
    scope: &Scope,
    index: &Index,
    after: Option<String>,
    fresh: &BTreeSet<usize>,
) -> Result<Step, Failure> {
    let page = store.server.list(&scope.bucket, &scope.prefix, after.as_deref(), PAGE).await?;
    check(&page.objects, after.as_deref())?;
    let last = page.objects.last().map(|object| object.key.clone());
    if page.has_more && last.is_none() {
        return Err(Failure::away("listing the bucket", "the server says that there is more"));
    }
    let listed = last.filter(|_| page.has_more);
    let Reach { first, last, until } = Reach::of(index, after.as_deref(), listed.as_deref());
    let mut objects: Entries = page
        .objects
        .into_iter()
        .filter(|object| until.as_ref().is_none_or(|until| object.key <= *until))
        .filter(|object| scope.has(&object.key))
        .map(|object| (object.key, object.version))
        .collect();
    let mut parts = Vec::new();
    let mut from = after;
    for number in first..=last {
        let Some((begin, slice)) = index.slice(number) else { break };
        let is_whole = from.as_deref() == begin && (number < last || until == slice.until);
        let to = if number < last { slice.until.clone() } else { until.clone() };
        let to = if slice.until.is_none() { until.clone() } else { to };
        let rest = to.as_ref().map(|to| split_after(&mut objects, to)).unwrap_or_default();
        let listed = std::mem::replace(&mut objects, rest);
        let is_same = is_whole && !fresh.contains(&number);
        if !(is_same && Segment::digest(&listed) == slice.digest) {
            let mut segment = store.segment(index, number).await?;
            segment.keep(from.as_deref(), to.as_deref(), scope);
            parts.push(Part { after: from, until: to.clone(), segment, listed });
        }
        from = to;
    }
    Ok(Step { parts, next: until, made: page.made })
}

/// The ledger rests on the order that S3 promises; some buckets have none.
fn check(objects: &[Listed], after: Option<&str>) -> Result<(), Failure> {
    let firsts = after.into_iter().chain(objects.iter().map(|object| object.key.as_str()));
    if firsts
        .zip(objects.iter().skip(usize::from(after.is_none())))
        .all(|(a, b)| a < b.key.as_str())
    {
        return Ok(());
    }
    Err(Failure::Invalid(
        "the server lists objects in no order of their keys, as buckets of the kind directory do: \
         only buckets that are listed in order can be used"
            .into(),
    ))
}
