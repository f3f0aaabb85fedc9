//! Who answers requests, by contract, and which language processes that takes.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::azure::{self, Ready, Unfit};
use crate::events::Events;
use crate::lambda::{self, LambdaTongue, Line};
use crate::port::{Opens, PortTongue, Variables};
use crate::problem::Body;
use crate::proxy::Proxy;
use crate::settings::{Contract, Settings};
use crate::supervisor::{Orders, Supervisor, Tongue, World};

/// Who answers requests.
#[derive(Clone)]
pub enum Front {
    /// The process itself, which listens on a port.
    Proxy(Arc<Proxy>),
    /// Processes that ask for work.
    Lambda(Arc<lambda::Front>),
    /// A process that is called for the functions of an app.
    Azure(Arc<azure::Front>),
}

impl Front {
    /// The front of the contract, with its language processes started. The code is there.
    pub fn of(
        world: &Arc<World>,
        supervisors: &mut JoinSet<()>,
    ) -> Result<(Self, Vec<Orders>), Unfit> {
        let contract = world.settings.contract;
        if contract == Contract::Lambda {
            let line = Arc::new(Line::default());
            let orders = (0..world.settings.processes).map(|number| {
                let tongue = LambdaTongue::new(Arc::clone(world), Arc::clone(&line));
                keep(world, number, tongue, supervisors)
            });
            let orders = orders.collect();
            return Ok((
                Self::Lambda(Arc::new(lambda::Front::new(Arc::clone(world), line))),
                orders,
            ));
        }
        let app = match contract {
            Contract::Azure => {
                let variable = |name: &str| std::env::var(name).ok();
                Some(Arc::new(Ready::read(&world.settings.folder, variable)?))
            }
            _ => None,
        };
        let opens = if app.is_some() { Opens::WhenItAnswers } else { Opens::WhenItListens };
        if let Some(app) = &app {
            // The code is there once, so nothing was set before.
            let _ = world.program.set((app.command.clone(), app.folder.clone()));
        }
        let tongue =
            PortTongue::new(opens, variables(&world.settings), world.settings.process_port);
        let tongue = Arc::new(tongue);
        let orders = vec![keep(world, 0, Arc::clone(&tongue), supervisors)];
        let proxy = Proxy::new(Arc::clone(world), tongue, Events::of(contract));
        let front = match app {
            Some(app) => Self::Azure(Arc::new(azure::Front::new(Arc::clone(world), app, proxy))),
            None => Self::Proxy(Arc::new(proxy)),
        };
        Ok((front, orders))
    }

    /// Answers a request.
    pub async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        match self {
            Self::Proxy(proxy) => proxy.answer(request).await,
            Self::Lambda(front) => front.answer(request).await,
            Self::Azure(front) => front.answer(request).await,
        }
    }
}

fn keep<T: Tongue>(
    world: &Arc<World>,
    number: usize,
    tongue: Arc<T>,
    supervisors: &mut JoinSet<()>,
) -> Orders {
    let (supervisor, orders) = Supervisor::new(Arc::clone(world), number, tongue);
    supervisors.spawn(supervisor.run());
    orders
}

/// The variables of a process that listens on a port.
fn variables(settings: &Settings) -> Variables {
    let names = &settings.names;
    let (ports, fixed): (&[&str], _) = match settings.contract {
        Contract::Functions(signature) => (
            &["PORT"],
            vec![
                ("FUNCTION_TARGET", settings.handler.clone()),
                ("FUNCTION_SIGNATURE_TYPE", signature.as_str().to_owned()),
                ("K_SERVICE", names.function.clone()),
                ("K_REVISION", names.revision.clone()),
                ("K_CONFIGURATION", names.function.clone()),
            ],
        ),
        Contract::Azure => (
            &["FUNCTIONS_CUSTOMHANDLER_PORT", "FUNCTIONS_HTTPWORKER_PORT", "PORT"],
            vec![
                ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "1".to_owned()),
                ("FUNCTIONS_APP_ROOT_PATH", settings.folder.to_string_lossy().into_owned()),
            ],
        ),
        Contract::Http | Contract::CloudEvents | Contract::Lambda => (&["PORT"], Vec::new()),
    };
    Box::new(move |port| {
        let ports = ports.iter().map(|name| (*name, port.to_string()));
        let all = ports.chain(fixed.iter().cloned());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    })
}
