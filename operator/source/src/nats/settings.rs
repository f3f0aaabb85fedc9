//! What a source `nats` is told.

use std::time::Duration;

use rouse_core::function::parse_duration;
use rouse_core::source::Invalid;
pub use rouse_core::source::Start;
use rouse_crds::v1alpha1::{NatsCredentials, NatsServer, NatsTrigger, SecretKey, SourceTls};

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
    pub tls: Option<SourceTls>,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    Nobody,
    /// By name and password.
    User {
        /// The name.
        user: SecretKey,
        /// The password.
        password: SecretKey,
    },
    /// By a token.
    Token(SecretKey),
    /// By the seed of an nkey.
    Nkey(SecretKey),
    /// By a credentials file of `nsc`.
    File(SecretKey),
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

impl Settings {
    /// What a Trigger says; `own` is the name of a consumer or queue group that it does not name.
    /// None where it says neither stream nor subject, which the API server refuses.
    pub fn of(trigger: &NatsTrigger, own: &str) -> Option<Result<Self, Invalid>> {
        let NatsTrigger { server, jet_stream, subject } = trigger;
        let server = Server::of(server);
        let name = |given: &Option<String>| given.clone().unwrap_or_else(|| own.to_owned());
        let messages = if let Some(stream) = jet_stream {
            let ack_wait = parse_duration("spec.nats.jetStream.ackWait", &stream.ack_wait);
            let parse = || {
                Ok(Messages::Stream(Stream {
                    name: stream.stream.clone(),
                    consumer: name(&stream.consumer),
                    subjects: stream.subjects.clone(),
                    start: Start::parse(&stream.start)?,
                    ack_wait: ack_wait?,
                }))
            };
            parse()
        } else {
            let subject = subject.as_ref()?;
            Ok(Messages::Subject { subject: subject.name.clone(), group: name(&subject.queue) })
        };
        Some(messages.map(|messages| Self { server, messages }))
    }
}

impl Server {
    /// What a Trigger says of servers.
    pub fn of(server: &NatsServer) -> Self {
        let NatsServer { servers, credentials, tls } = server;
        let login = credentials.as_ref().map_or(Login::Nobody, Login::of);
        Self { urls: servers.clone(), login, tls: tls.clone() }
    }
}

impl Login {
    fn of(credentials: &NatsCredentials) -> Self {
        let NatsCredentials { file, nkey, token, user, password } = credentials;
        let user = user.clone().zip(password.clone());
        let file = file.clone().map(Self::File);
        file.or_else(|| nkey.clone().map(Self::Nkey))
            .or_else(|| token.clone().map(Self::Token))
            .or_else(|| user.map(|(user, password)| Self::User { user, password }))
            .unwrap_or(Self::Nobody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(trigger: serde_json::Value) -> Settings {
        let trigger: NatsTrigger = serde_json::from_value(trigger).unwrap();
        Settings::of(&trigger, "rouse-u").unwrap().unwrap()
    }

    #[test]
    fn a_trigger_becomes_settings() {
        let settings = parse(serde_json::json!({
            "servers": ["nats://n"],
            "credentials": {"user": {"name": "s", "key": "u"}, "password": {"name": "s", "key": "p"}},
            "tls": {"ca": {"name": "s", "key": "ca"}},
            "jetStream": {"stream": "S", "start": "earliest"},
        }));
        let key = |key: &str| SecretKey { name: "s".into(), key: key.into() };
        let login = Login::User { user: key("u"), password: key("p") };
        let tls = Some(SourceTls { ca: Some(key("ca")), certificate: None, key: None });
        assert_eq!(settings.server, Server { urls: vec!["nats://n".into()], login, tls });
        let stream = Stream {
            name: "S".into(),
            consumer: "rouse-u".into(),
            subjects: Vec::new(),
            start: Start::Earliest,
            ack_wait: Duration::from_secs(30),
        };
        assert_eq!(settings.messages, Messages::Stream(stream));
        let settings =
            parse(serde_json::json!({"servers": ["nats://n"], "subject": {"name": "a.*"}}));
        let (subject, group) = ("a.*".into(), "rouse-u".into());
        assert_eq!(settings.messages, Messages::Subject { subject, group });
    }
}
