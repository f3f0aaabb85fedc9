//! Connections to activators: to their port for peers, with the proof of who is at the other end, and
//! calls of Functions at their port for the cluster.
//!
//! An activator makes a key when it starts, and asks the API server for a token of its own
//! ServiceAccount that is bound to its pod and whose audience names the key. Whoever connects takes
//! the key from the handshake, asks the activator for that token, and asks the API server whether
//! it is one. Only then is anything said. That needs no certificate authority, no Secret, and no
//! API server once a key is known: a key that was an activator's stays that activator's.
//!
//! The callers' own proof is a token that they send with each request; the activator checks it.

mod call;
mod chain;
mod connect;
mod identity;
mod key;
mod known;
mod metrics;
mod review;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;

pub use call::{Activators, Call, plain_client, plain_client_by, plain_connector};
pub use chain::chain;
pub use connect::{ConnectError, Connector};
pub use identity::{Identity, IdentityConfig, IdentityKeeper};
pub use key::{ServerKey, TlsError};
pub use metrics::ProofMetrics;
pub use review::{ReviewError, review};
pub use tls::{ClientStream, Protocol, ServerStream};
