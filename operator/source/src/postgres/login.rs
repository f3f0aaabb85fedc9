//! Logs in to a server of PostgreSQL: proves to know the password without telling it. Only where
//! the server is known by its certificate is it told what it asks for in older ways.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::refusal::{Refusal, code};
use super::wire::{Heard, Wire};
use crate::failure::Failure;

const DOING: &str = "logging in to PostgreSQL";
/// How often a server may have a password hashed. Servers have 4,096, and one that has far more would
/// keep the process busy.
const MOST_ROUNDS: u32 = 200_000;

/// Who logs in, and for what.
pub(super) struct Login<'a> {
    pub user: &'a str,
    pub database: &'a str,
    pub password: Option<&'a str>,
    /// Whether changes are to be read.
    pub replicates: bool,
    /// Whether the server is known by its certificate.
    pub is_private: bool,
}

impl Login<'_> {
    /// Logs in on a connection that was just made.
    pub async fn run(&self, wire: &mut Wire) -> Result<(), Failure> {
        // Values are told as texts, which must not follow the settings of a server or role.
        let mut parameters = vec![
            ("user", self.user),
            ("database", self.database),
            ("application_name", "rouse"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("IntervalStyle", "iso_8601"),
            ("TimeZone", "GMT"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
        ];
        if self.replicates {
            parameters.push(("replication", "database"));
        }
        wire.send(|buffer| frontend::startup_message(parameters, buffer)).await?;
        loop {
            match next(wire).await.map_err(|refusal| self.explain(refusal))? {
                Message::AuthenticationOk => break,
                Message::AuthenticationSasl(body) => self.prove(wire, &body).await?,
                Message::AuthenticationCleartextPassword if self.is_private => {
                    let password = self.password()?.as_bytes();
                    wire.send(|buffer| frontend::password_message(password, buffer)).await?;
                }
                Message::AuthenticationMd5Password(body) if self.is_private => {
                    let password = self.password()?.as_bytes();
                    let hash = md5_hash(self.user.as_bytes(), password, body.salt());
                    let send =
                        |buffer: &mut BytesMut| frontend::password_message(hash.as_bytes(), buffer);
                    wire.send(send).await?;
                }
                _ => {
                    return Err(Failure::Invalid(
                        "the server asks for the password in a way that would give it away: set \
                         password_encryption = 'scram-sha-256' there, set the password again, and \
                         let pg_hba.conf name scram-sha-256"
                            .into(),
                    ));
                }
            }
        }
        loop {
            let heard = next(wire).await.map_err(|refusal| self.explain(refusal))?;
            if matches!(heard, Message::ReadyForQuery(_)) {
                return Ok(());
            }
        }
    }

    /// SCRAM: proves to know the password, and has the server prove it too.
    async fn prove(&self, wire: &mut Wire, body: &AuthenticationSaslBody) -> Result<(), Failure> {
        let known = body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256));
        if !known.map_err(|error| Failure::away(DOING, error))? {
            return Err(Failure::Invalid("the server does not offer SCRAM-SHA-256".into()));
        }
        let password = self.password()?.as_bytes();
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let first = |buffer: &mut BytesMut| {
            frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), buffer)
        };
        wire.send(first).await?;
        let heard = next(wire).await.map_err(|refusal| self.explain(refusal))?;
        let Message::AuthenticationSaslContinue(body) = heard else { return Err(unexpected()) };
        check_rounds(body.data())?;
        scram.update(body.data()).map_err(|error| Failure::away(DOING, error))?;
        wire.send(|buffer| frontend::sasl_response(scram.message(), buffer)).await?;
        let heard = next(wire).await.map_err(|refusal| self.explain(refusal))?;
        let Message::AuthenticationSaslFinal(body) = heard else { return Err(unexpected()) };
        scram.finish(body.data()).map_err(|error| Failure::denied(DOING, error))
    }

    fn password(&self) -> Result<&str, Failure> {
        self.password.ok_or_else(|| {
            Failure::denied(DOING, "the server wants a password: name it in spec.postgres.password")
        })
    }

    fn explain(&self, refused: Refused) -> Failure {
        let refusal = match refused {
            Refused::Said(refusal) => refusal,
            Refused::Broken(failure) => return failure,
        };
        let user = self.user;
        match refusal.code.as_str() {
            code::NO_DATABASE => {
                Failure::Missing { what: "database", name: self.database.to_owned() }
            }
            code::DENIED if self.replicates => Failure::denied(
                DOING,
                format!("{refusal}: let an administrator run ALTER ROLE \"{user}\" REPLICATION"),
            ),
            _ => refusal.failure(DOING),
        }
    }
}

enum Refused {
    Said(Refusal),
    Broken(Failure),
}

async fn next(wire: &mut Wire) -> Result<Message, Refused> {
    match wire.next().await.map_err(Refused::Broken)? {
        Heard::Message(Message::ErrorResponse(body)) => Err(Refused::Said(Refusal::of(&body))),
        Heard::Message(message) => Ok(message),
        Heard::Both => Err(Refused::Broken(unexpected())),
    }
}

fn unexpected() -> Failure {
    Failure::away(DOING, "the server sent what nobody asked for")
}

fn check_rounds(message: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(message);
    let rounds = text.split(',').find_map(|part| part.strip_prefix("i="));
    match rounds.and_then(|rounds| rounds.parse::<u32>().ok()) {
        Some(rounds) if rounds <= MOST_ROUNDS => Ok(()),
        _ => Err(Failure::Invalid(format!(
            "the server wants the password hashed more than {MOST_ROUNDS} times: set \
             scram_iterations lower there, and set the password again"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_not_have_anything_hashed_for_ever() {
        assert!(check_rounds(b"r=abc,s=Zm9v,i=4096").is_ok());
        for message in ["r=a,s=b,i=4000000000", "r=a,s=b,i=99999999999", "r=a,s=b", ""] {
            assert!(check_rounds(message.as_bytes()).is_err(), "{message}");
        }
    }
}
