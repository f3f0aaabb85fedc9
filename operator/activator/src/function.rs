//! A Function as requests meet it: its settings and who owns it now. The control side writes both,
//! the request side only reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rouse_core::function::{FunctionKey, RequestRules, Timeouts};
use rouse_core::membership::Member;
use tokio::sync::watch;

use crate::admission::Gate;
use crate::buffer::{Buffer, Share};
use crate::request_metrics::{FunctionSeries, RequestMetrics};
use crate::spread::Shortcut;

/// The target of a route.
#[derive(Debug)]
pub struct FunctionHandle {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: Arc<str>,
    timeouts: ArcSwap<Timeouts>,
    /// `RequestRules::body_limit`; the largest number where there is none.
    body_limit: AtomicU64,
    access_log: AtomicBool,
    owner: watch::Sender<Owner>,
    /// The way straight to the pods, where another activator owns it.
    shortcut: Shortcut,
    /// Its counts, once it was called.
    series: OnceLock<Arc<FunctionSeries>>,
    /// What its waiting requests hold, once one has waited.
    share: OnceLock<Arc<Share>>,
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

impl Owner {
    /// Whether the two are one and the same, told at the same time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(one), Self::Here(other)) => Arc::ptr_eq(one, other),
            (Self::Peer(one), Self::Peer(other)) => Arc::ptr_eq(one, other),
            (Self::Nobody, Self::Nobody) => true,
            _ => false,
        }
    }
}

impl FunctionHandle {
    /// A handle that nobody owns yet.
    pub fn new(key: FunctionKey, uid: Arc<str>, timeouts: Timeouts) -> Self {
        let owner = watch::Sender::new(Owner::Nobody);
        let timeouts = ArcSwap::from_pointee(timeouts);
        let (body_limit, access_log) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let (series, share) = (OnceLock::new(), OnceLock::new());
        let shortcut = Shortcut::default();
        Self { key, uid, timeouts, body_limit, access_log, owner, shortcut, series, share }
    }

    /// What holds for each request.
    pub fn rules(&self) -> RequestRules {
        let limit = self.body_limit.load(Ordering::Relaxed);
        RequestRules {
            body_limit: Some(limit).filter(|limit| *limit < u64::MAX),
            access_log: self.access_log.load(Ordering::Relaxed),
        }
    }

    /// Puts other rules in force, for requests to come.
    pub fn set_rules(&self, rules: RequestRules) {
        let RequestRules { body_limit, access_log } = rules;
        self.body_limit.store(body_limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.access_log.store(access_log, Ordering::Relaxed);
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

    /// The way straight to the pods, where another activator owns it.
    pub(crate) const fn shortcut(&self) -> &Shortcut {
        &self.shortcut
    }

    /// Its counts among `metrics`, looked up once.
    pub(crate) fn series(&self, metrics: &Arc<RequestMetrics>) -> &Arc<FunctionSeries> {
        self.series.get_or_init(|| metrics.function(&self.key))
    }

    /// Its share of `buffer`, made once.
    pub(crate) fn share(&self, buffer: &Arc<Buffer>, series: &FunctionSeries) -> &Arc<Share> {
        self.share.get_or_init(|| Share::new(buffer, series.buffered().clone()))
    }

    /// Makes `owner` the owner.
    pub fn set_owner(&self, owner: Owner) {
        self.owner.send_replace(owner);
    }
}
