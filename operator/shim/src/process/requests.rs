//! Which requests a process has, so that what it prints can be told to be of one of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The requests that a process has.
#[derive(Debug, Default)]
pub struct Requests(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    now: Vec<Arc<str>>,
    /// The last one that ended, if none has begun since.
    last: Option<Arc<str>>,
}

/// A request that a process has, as long as this lives.
#[derive(Debug)]
pub struct Request {
    requests: Arc<Requests>,
    id: Arc<str>,
}

impl Requests {
    /// A request begins.
    pub fn begin(self: &Arc<Self>, id: Arc<str>) -> Request {
        let mut known = self.known();
        known.last = None;
        known.now.push(Arc::clone(&id));
        drop(known);
        Request { requests: Arc::clone(self), id }
    }

    /// The request of which the process is printing, where that can be but one.
    pub fn printing(&self) -> Option<Arc<str>> {
        let known = self.known();
        match known.now.as_slice() {
            [] => known.last.clone(),
            [only] => Some(Arc::clone(only)),
            _ => None,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known().now.len()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut known = self.requests.known();
        if let Some(at) = known.now.iter().position(|id| Arc::ptr_eq(id, &self.id)) {
            known.now.swap_remove(at);
        }
        if known.now.is_empty() {
            known.last = Some(Arc::clone(&self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_of_the_only_request_or_of_the_last() {
        let requests = Arc::new(Requests::default());
        assert_eq!(requests.printing(), None);
        let first = requests.begin("a".into());
        assert_eq!(requests.printing().as_deref(), Some("a"));
        let second = requests.begin("b".into());
        assert_eq!(requests.printing(), None);
        drop(first);
        assert_eq!(requests.printing().as_deref(), Some("b"));
        drop(second);
        assert_eq!(requests.printing().as_deref(), Some("b"));
        assert_eq!(requests.count(), 0);
    }
}
