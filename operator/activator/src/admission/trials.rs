//! The moment at which a suspect pod may be tried by somebody who waits: nothing else would tell
//! the gate of it. One timer for each gate, and only while somebody waits.

use std::sync::{Arc, Weak};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::Gate;
use crate::body::AbortOnDrop;

/// A timer of a gate; it ends with this.
#[derive(Debug)]
pub(super) struct Trials {
    at: Instant,
    _timer: AbortOnDrop,
}

impl Trials {
    /// Sees to it that `gate` looks at its suspects at that moment or before.
    pub fn arm(armed: &mut Option<Self>, gate: &Arc<Gate>, at: Instant) {
        let early = armed.as_ref().is_some_and(|armed| armed.at <= at);
        // Without a runtime nobody waits either.
        if !early && Handle::try_current().is_ok() {
            let timer = AbortOnDrop::spawn(fire(Arc::downgrade(gate), at).boxed());
            *armed = Some(Self { at, _timer: timer });
        }
    }
}

async fn fire(gate: Weak<Gate>, at: Instant) {
    sleep_until(at).await;
    if let Some(gate) = gate.upgrade() {
        gate.try_suspects();
    }
}
