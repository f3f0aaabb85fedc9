//! What came in at a door: what is under way, so that who sends it again joins, and what was done
//! lately, so that it is not done again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_core::event::CloudEvent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

/// What is remembered of what was done: a day of deliveries, which senders repeat within minutes, and
/// some megabytes of ids at most.
const REMEMBERED: usize = 20_000;
const REMEMBERED_FOR: Duration = Duration::from_hours(24);
/// Bytes of bodies of one door that wait for room or are read.
const WAITING: usize = 16 << 20;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The Function is done with it, or its dead letter is stored.
    Done,
    /// It was given up, and stored nowhere.
    GivenUp,
    /// Nobody here sees to it any more.
    Released,
}

/// An event that waits for room.
#[derive(Debug)]
pub(crate) struct Offered {
    pub token: Arc<str>,
    pub event: CloudEvent,
    /// The place of the body that it came in.
    pub _place: Arc<OwnedSemaphorePermit>,
}

/// What an offer comes to.
pub(crate) enum Answer {
    /// It was done before.
    Done,
    /// It is under way. The channel closes when it is no more.
    UnderWay(watch::Receiver<Option<Fate>>),
    /// It can't be taken now.
    Busy,
}

/// The source of an event, and its id.
type Known = (String, Arc<str>);

#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    /// None once nothing is taken any more.
    sender: Option<mpsc::UnboundedSender<Offered>>,
    /// By its id, with its source: two sources may use the same id, a runner knows events by it.
    under_way: HashMap<Arc<str>, (String, watch::Sender<Option<Fate>>)>,
    done: HashSet<Arc<Known>>,
    done_at: VecDeque<(Instant, Arc<Known>)>,
}

impl Intake {
    pub fn new(sender: mpsc::UnboundedSender<Offered>) -> Self {
        let state = State {
            sender: Some(sender),
            under_way: HashMap::new(),
            done: HashSet::new(),
            done_at: VecDeque::new(),
        };
        Self { state: Mutex::new(state), places: Arc::new(Semaphore::new(WAITING)) }
    }

    /// A place for a body, if there is one.
    pub fn place(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.max(1)).ok()?;
        self.places.clone().try_acquire_many_owned(bytes).ok()
    }

    /// Takes an event in, unless it is known.
    pub fn offer(&self, event: CloudEvent, place: Arc<OwnedSemaphorePermit>) -> Answer {
        let mut state = self.state();
        state.forget();
        let token: Arc<str> = event.id.as_str().into();
        let known = (event.source.clone(), token.clone());
        if state.done.contains(&known) {
            return Answer::Done;
        }
        if let Some((source, fate)) = state.under_way.get(&token) {
            let is_same = *source == event.source;
            return if is_same { Answer::UnderWay(fate.subscribe()) } else { Answer::Busy };
        }
        let source = event.source.clone();
        let offered = Offered { token: token.clone(), event, _place: place };
        if state.sender.as_ref().is_none_or(|sender| sender.send(offered).is_err()) {
            return Answer::Busy;
        }
        let (sender, fate) = watch::channel(None);
        state.under_way.insert(token, (source, sender));
        Answer::UnderWay(fate)
    }

    /// Tells all who wait for it what became of an event. Only what is done is remembered.
    pub fn settle(&self, token: &Arc<str>, fate: Fate) {
        let mut state = self.state();
        let Some((source, waiting)) = state.under_way.remove(token) else { return };
        if fate == Fate::Done {
            let known = Arc::new((source, token.clone()));
            state.done.insert(known.clone());
            state.done_at.push_back((Instant::now(), known));
            state.forget();
        }
        waiting.send_replace(Some(fate));
    }

    /// Takes nothing more in, and lets those who wait know.
    pub fn close(&self) {
        let mut state = self.state();
        state.sender = None;
        state.under_way.clear();
    }

    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.state();
        assert_eq!(state.done.len(), state.done_at.len());
        (state.under_way.len(), state.done.len(), WAITING - self.places.available_permits())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        let now = Instant::now();
        while let Some((at, _)) = self.done_at.front() {
            if self.done_at.len() <= REMEMBERED && now.duration_since(*at) < REMEMBERED_FOR {
                return;
            }
            if let Some((_, known)) = self.done_at.pop_front() {
                self.done.remove(&known);
            }
        }
    }
}
