//! A Function as requests meet it: its settings and who owns it now. The control side writes both,
//! the request side only reads.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rouse_core::function::{FunctionKey, Timeouts};
use rouse_core::membership::Member;
use tokio::sync::watch;

use crate::admission::Gate;
use crate::request_metrics::{FunctionSeries, RequestMetrics};

/// The target of a route.
#[derive(Debug)]
pub struct FunctionHandle {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: Arc<str>,
    timeouts: ArcSwap<Timeouts>,
    owner: watch::Sender<Owner>,
    /// Its counts, once it was called.
    series: OnceLock<Arc<FunctionSeries>>,
}

/// Who queues, counts and scales a Function.
#[derive(Clone, Debug)]
pub enum Owner {
    /// This activator; requests ask its gate.
    Here(Arc<Gate>),
    /// Another activator; requests are forwarded to it.
    Peer(Arc<Member>),
    /// Nobody yet: the membership is empty or unknown. Requests wait for one.
    Nobody,
}

impl FunctionHandle {
    /// A handle that nobody owns yet.
    pub fn new(key: FunctionKey, uid: Arc<str>, timeouts: Timeouts) -> Self {
        let owner = watch::Sender::new(Owner::Nobody);
        let timeouts = ArcSwap::from_pointee(timeouts);
        Self { key, uid, timeouts, owner, series: OnceLock::new() }
    }

    /// The timeouts in force.
    pub fn timeouts(&self) -> Timeouts {
        **self.timeouts.load()
    }

    /// Puts other timeouts in force, for requests to come.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    /// Who owns the Function now.
    pub fn owner(&self) -> Owner {
        self.owner.borrow().clone()
    }

    /// Follows who owns the Function.
    pub fn watch_owner(&self) -> watch::Receiver<Owner> {
        self.owner.subscribe()
    }

    /// Its counts among `metrics`, looked up once.
    pub(crate) fn series(&self, metrics: &Arc<RequestMetrics>) -> &Arc<FunctionSeries> {
        self.series.get_or_init(|| metrics.function(&self.key))
    }

    /// Makes `owner` the owner.
    pub fn set_owner(&self, owner: Owner) {
        self.owner.send_replace(owner);
    }
}
