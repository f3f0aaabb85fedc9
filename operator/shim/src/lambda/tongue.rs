//! A language process that asks for work: which invocations it has, when their time is over, and
//! what becomes of them when it goes.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::api;
use super::line::{Invocation, Line, Outcome};
use crate::process::{self, Requests};
use crate::settings::Settings;
use crate::supervisor::{Handle, Tongue, World};

/// A language process that asks for work.
pub struct LambdaTongue {
    /// What it shares with others.
    pub world: Arc<World>,
    line: Arc<Line>,
    requests: Arc<Requests>,
    /// Whether it takes requests, or why it never will; none before it said either.
    come_up: watch::Sender<Option<Result<(), String>>>,
    state: Mutex<State>,
    /// Itself, for those that it starts.
    own: Weak<Self>,
}

#[derive(Default)]
struct State {
    handle: Option<Handle>,
    server: Option<AbortHandle>,
    flights: HashMap<Arc<str>, Flight>,
    /// Invocations that it has answered.
    answers: u64,
    /// It gets no more: one of its invocations is overdue, or it is to end.
    retires: bool,
}

/// An invocation that the process has.
struct Flight {
    /// Who waits; nobody once the answer has begun or its time is over.
    reply: Option<oneshot::Sender<Outcome>>,
    attempt: String,
    answers_before: u64,
    is_overdue: bool,
    watch: AbortHandle,
    _request: process::Request,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl LambdaTongue {
    /// One whose process takes work from `line`.
    pub fn new(world: Arc<World>, line: Arc<Line>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            world,
            line,
            requests: Arc::default(),
            come_up: watch::Sender::new(None),
            state: Mutex::default(),
        })
    }

    /// The process says why it never will take requests.
    pub fn refuse(&self, why: String) {
        self.come_up.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                *known = Some(Err(why));
            }
            is_first
        });
    }

    /// The process asks for work; gives an invocation and the name of this attempt.
    pub async fn take(&self) -> Option<(Given, bytes::Bytes)> {
        self.come_up.send_if_modified(|known| known.is_none() && known.replace(Ok(())).is_none());
        if self.world.settings.concurrency == 1 {
            // Who asks again is done, whatever became of it.
            self.fail_all("the handler asked for the next event and never answered this one");
        }
        loop {
            let output = {
                let state = self.state();
                state.handle.as_ref().map(|handle| Arc::clone(&handle.output))
            };
            let held = self.line.next().await?;
            if let Some(output) = output.filter(|_| self.requests.count() == 0) {
                // What was printed until now is of those before.
                output.settle().await;
            }
            if self.state().retires {
                drop(held);
                return std::future::pending().await;
            }
            if let Some(invocation) = held.take() {
                return Some(self.fly(invocation));
            }
        }
    }

    fn fly(&self, invocation: Invocation) -> (Given, bytes::Bytes) {
        let Invocation { id, request_id, trace, event, deadline, reply } = invocation;
        let attempt = super::front::new_id();
        let watch = {
            let (own, id) = (Weak::clone(&self.own), Arc::clone(&id));
            tokio::spawn(async move {
                sleep_until(deadline).await;
                if let Some(own) = own.upgrade() {
                    own.overdue(&id);
                }
            })
        };
        let mut state = self.state();
        let flight = Flight {
            reply: Some(reply),
            attempt: attempt.clone(),
            answers_before: state.answers,
            is_overdue: false,
            watch: watch.abort_handle(),
            _request: self.requests.begin(request_id),
        };
        state.flights.insert(Arc::clone(&id), flight);
        (Given { id, attempt, trace, deadline }, event)
    }

    /// The time of an invocation is over. A process that has but this one, or has answered nothing
    /// since, hangs and is ended; else it gets no more work until only what hangs is left.
    fn overdue(&self, id: &str) {
        let patience = self.world.settings.times.request;
        let mut state = self.state();
        let answers = state.answers;
        let Some(flight) = state.flights.get_mut(id) else { return };
        flight.is_overdue = true;
        let hangs = flight.answers_before == answers;
        state.retires = true;
        if hangs || state.is_done() {
            state.replace(&format!("the handler did not answer within {patience:?} and was ended"));
        }
    }

    /// The invocation that an answer is of: who waits for it, if the answer is of this attempt.
    pub fn answered(&self, id: &str, attempt: Option<&str>) -> Option<oneshot::Sender<Outcome>> {
        let mut state = self.state();
        let flight = state.flights.get_mut(id)?;
        if attempt.is_some_and(|attempt| attempt != flight.attempt) {
            return None;
        }
        flight.reply.take()
    }

    /// An invocation has been answered, and is over.
    pub fn over(&self, id: &str, failed: bool) {
        let mut state = self.state();
        if state.flights.remove(id).is_some() {
            state.answers += 1;
        }
        if state.retires && state.is_done() {
            state.replace("the handler hung in another invocation and was ended");
        } else if failed && state.handle.as_ref().is_some_and(Handle::is_short_of_files) {
            state.replace("it has nearly as many files open as it may, and was replaced");
        }
    }

    fn fail_all(&self, why: &str) {
        let flights: Vec<Flight> = self.state().flights.drain().map(|(_, flight)| flight).collect();
        for reply in flights.into_iter().filter_map(|mut flight| flight.reply.take()) {
            // Nobody may wait any more.
            let _ = reply.send(Outcome::Gone(why.to_owned()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nothing is left but what hangs.
    fn is_done(&self) -> bool {
        self.flights.values().all(|flight| flight.is_overdue)
    }

    fn replace(&mut self, why: &str) {
        // It may ask for more before it is ended.
        self.retires = true;
        if let Some(handle) = &self.handle {
            handle.replace(why);
        }
    }
}

/// What a process is told beside the event.
#[derive(Debug)]
pub struct Given {
    /// The invocation.
    pub id: Arc<str>,
    /// The attempt.
    pub attempt: String,
    /// In the form of X-Ray.
    pub trace: String,
    /// When its time is over.
    pub deadline: tokio::time::Instant,
}

/// The tongue of a process, which outlives it.
impl Tongue for LambdaTongue {
    async fn prepare(&self) -> io::Result<Vec<(String, String)>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        self.come_up.send_replace(None);
        let own = self.own.upgrade().ok_or(io::ErrorKind::NotFound)?;
        let server = tokio::spawn(api::serve(listener, own));
        let former = self.state().server.replace(server.abort_handle());
        former.iter().for_each(AbortHandle::abort);
        Ok(variables(&self.world.settings, &address))
    }

    async fn ready(&self) -> Result<(), String> {
        let mut come_up = self.come_up.subscribe();
        let known = come_up.wait_for(Option::is_some).await;
        known.ok().and_then(|known| known.clone()).unwrap_or(Ok(()))
    }

    fn begin(&self, handle: Handle) {
        self.state().handle = Some(handle);
    }

    fn ends(&self, _: &str) {
        self.state().retires = true;
    }

    fn gone(&self, cause: &str) {
        {
            let mut state = self.state();
            state.handle = None;
            state.retires = false;
            if let Some(server) = state.server.take() {
                server.abort();
            }
        }
        self.fail_all(cause);
    }

    fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }
}

/// The variables that handlers and their clients read. What the user set stays as it is.
fn variables(settings: &Settings, address: &str) -> Vec<(String, String)> {
    let names = &settings.names;
    let log = format!("/rouse/{}/{}", names.namespace, names.function);
    let fixed = [
        ("AWS_LAMBDA_RUNTIME_API", address.to_owned()),
        ("_HANDLER", settings.handler.clone()),
        ("LAMBDA_TASK_ROOT", settings.folder.to_string_lossy().into_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", names.function.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", names.memory.clone()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log),
        ("AWS_LAMBDA_LOG_STREAM_NAME", names.revision.clone()),
        ("_X_AMZN_TRACE_ID", String::new()),
    ];
    let defaults = [("AWS_REGION", "local"), ("AWS_DEFAULT_REGION", "local"), ("TZ", ":UTC")];
    let unset = |(name, _): &(&str, &str)| std::env::var_os(name).is_none();
    let several = settings.concurrency > 1;
    let several = several.then(|| ("AWS_LAMBDA_MAX_CONCURRENCY", settings.concurrency.to_string()));
    let defaults = defaults.into_iter().filter(unset).map(|(name, value)| (name, value.to_owned()));
    let all = fixed.into_iter().chain(defaults).chain(several);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}
