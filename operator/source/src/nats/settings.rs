//! What a source `nats` is told.

use std::time::Duration;

use jiff::Timestamp;

/// What a source `nats` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the servers are, and how to get in.
    pub server: Server,
    /// What to bring.
    pub messages: Messages,
}

/// Servers of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Their URLs, such as `nats://nats.shop.svc:4222`.
    pub urls: Vec<String>,
    /// How to log in.
    pub login: Login,
    /// Certificates; without, a connection is encrypted only when the server or its URL wants so.
    pub tls: Option<Tls>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOf {
    /// Name of the Secret.
    pub secret: String,
    /// The key.
    pub key: String,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    Nobody,
    /// By name and password.
    User {
        /// The name.
        user: KeyOf,
        /// The password.
        password: KeyOf,
    },
    /// By a token.
    Token(KeyOf),
    /// By the seed of an nkey.
    Nkey(KeyOf),
    /// By a credentials file of `nsc`.
    File(KeyOf),
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that may sign the server's; the public ones where there is none.
    pub ca: Option<KeyOf>,
    /// The own certificate, and its key.
    pub certificate: Option<(KeyOf, KeyOf)>,
}

/// What to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Messages {
    /// The messages of a stream.
    Stream(Stream),
    /// Those of a subject that nothing keeps.
    Subject {
        /// The subject, maybe with wildcards.
        subject: String,
        /// The queue group: each message goes to one member of it.
        group: String,
    },
}

/// Messages of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name. It must be there.
    pub name: String,
    /// The durable consumer; one that is not there is made.
    pub consumer: String,
    /// Subjects of the stream; all where there are none.
    pub subjects: Vec<String>,
    /// Where a consumer that is made begins.
    pub start: Start,
    /// How long a consumer that is made waits for a sign of life of what it handed out.
    pub ack_wait: Duration,
}

/// Where a consumer that is made begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With all that the stream has.
    Earliest,
    /// With what comes from then on.
    Latest,
    /// With what came from this time on.
    At(Timestamp),
}
