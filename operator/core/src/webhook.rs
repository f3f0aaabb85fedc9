//! Proves that a webhook comes from whom it should: signatures over the bytes of the body as they
//! came, compared in a time that tells nothing. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::event::Message;

/// How far the time of a signature may be from now, either way.
const TOLERANCE: u64 = 300;
const SIGNATURE: &str = "webhook-signature";

/// How a sender proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// As GitHub does: `X-Hub-Signature-256`.
    GitHub,
    /// As GitLab does: by the Standard Webhooks (`webhook-signature` over id, time and body) where it
    /// has a signing token, or else by sending its secret token in `X-Gitlab-Token`.
    GitLab,
    /// By the Standard Webhooks alone.
    Standard,
    /// By showing the secret: `Authorization: Bearer SECRET`.
    Bearer,
    /// By a HMAC with SHA-256 over the body in a header.
    Hmac {
        /// The header, in lower case.
        header: String,
        /// What stands before the digest.
        prefix: String,
        /// How the digest is written.
        encoding: Encoding,
    },
}

/// How a digest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

/// Why a request is not believed. Its sender is told no more than that.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header is not there, or not once.
    #[error("there is no one header {0}")]
    Missing(String),
    /// The signature is not that of the body.
    #[error("the signature is wrong")]
    Wrong,
    /// The signature is too old, or from the future.
    #[error("the signature is not of this time")]
    Stale,
    /// The secret can't be used, so nobody is believed.
    #[error("the secret is empty or not what the sender's kind has")]
    Secret,
}

/// Whether `message`, whose headers' names are in lower case, comes from somebody who knows
/// `secret`.
pub fn verify(
    scheme: &Scheme,
    secret: &[u8],
    message: &Message,
    now: Timestamp,
) -> Result<(), Refusal> {
    if secret.is_empty() {
        return Err(Refusal::Secret);
    }
    match scheme {
        Scheme::GitHub => {
            let given = header(message, "x-hub-signature-256")?;
            let digest = given.strip_prefix("sha256=").and_then(from_hex);
            matches(secret, &[&message.body], digest.as_deref())
        }
        Scheme::GitLab if message.header(SIGNATURE).is_some() => {
            verify_standard(secret, message, now)
        }
        Scheme::GitLab => shows(secret, header(message, "x-gitlab-token")?),
        Scheme::Bearer => {
            let given = header(message, "authorization")?;
            let token =
                given.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
            shows(secret, token.ok_or(Refusal::Wrong)?.1)
        }
        Scheme::Standard => verify_standard(secret, message, now),
        Scheme::Hmac { header: name, prefix, encoding } => {
            let digest = header(message, name)?.strip_prefix(prefix.as_str());
            let digest = digest.and_then(|digest| match encoding {
                Encoding::Hex => from_hex(digest),
                Encoding::Base64 => STANDARD.decode(digest).ok(),
            });
            matches(secret, &[&message.body], digest.as_deref())
        }
    }
}

/// Digests are compared, which are of one length: so that not even the secret's length is told.
fn shows(secret: &[u8], given: &str) -> Result<(), Refusal> {
    let is_equal = Sha256::digest(given).as_slice().ct_eq(Sha256::digest(secret).as_slice());
    if is_equal.into() { Ok(()) } else { Err(Refusal::Wrong) }
}

/// A secret is `whsec_` and base64. Of several signatures, as while a secret is changed, one must be
/// right.
fn verify_standard(secret: &[u8], message: &Message, now: Timestamp) -> Result<(), Refusal> {
    let key = std::str::from_utf8(secret).ok().and_then(|text| text.strip_prefix("whsec_"));
    let key = key.and_then(|key| STANDARD.decode(key).ok()).filter(|key| !key.is_empty());
    let key = key.ok_or(Refusal::Secret)?;
    let (id, time) = (header(message, "webhook-id")?, header(message, "webhook-timestamp")?);
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", &message.body];
    let right = header(message, SIGNATURE)?
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|digest| matches(&key, &parts, Some(&digest)).is_ok());
    if !right {
        return Err(Refusal::Wrong);
    }
    let time: i64 = time.parse().map_err(|_| Refusal::Stale)?;
    let is_near = now.as_second().abs_diff(time) <= TOLERANCE;
    if is_near { Ok(()) } else { Err(Refusal::Stale) }
}

fn header<'a>(message: &'a Message, name: &str) -> Result<&'a str, Refusal> {
    let mut values = message.headers.iter().filter(|(other, _)| other == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(Refusal::Missing(name.to_owned())),
    }
}

fn matches(key: &[u8], parts: &[&[u8]], digest: Option<&[u8]>) -> Result<(), Refusal> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Refusal::Secret)?;
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(digest.ok_or(Refusal::Wrong)?).map_err(|_| Refusal::Wrong)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)], body: &str) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Message { headers: headers.collect(), body: body.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// From GitHub's docs, "Validating webhook deliveries".
    const GITHUB: (&str, &str, &str) = (
        "It's a Secret to Everybody",
        "Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    );

    #[test]
    fn github_signs_the_body() {
        let (secret, body, digest) = GITHUB;
        let signed = |secret: &str, header: &str, body: &str| {
            let message = message(&[("x-hub-signature-256", header)], body);
            verify(&Scheme::GitHub, secret.as_bytes(), &message, at(0))
        };
        let right = format!("sha256={digest}");
        assert_eq!(signed(secret, &right, body), Ok(()));
        assert_eq!(signed(secret, &right, "Hello, World"), Err(Refusal::Wrong));
        assert_eq!(signed("another", &right, body), Err(Refusal::Wrong));
        assert_eq!(signed("", &right, body), Err(Refusal::Secret));
        for wrong in [
            digest,
            &right[..right.len() - 2],
            &right[..right.len() - 1],
            "sha256=",
            "sha256=\u{e9}",
        ] {
            assert_eq!(signed(secret, wrong, body), Err(Refusal::Wrong), "{wrong}");
        }
        let unsigned = verify(&Scheme::GitHub, secret.as_bytes(), &message(&[], body), at(0));
        assert_eq!(unsigned, Err(Refusal::Missing("x-hub-signature-256".into())));
    }

    #[test]
    fn others_sign_alike_under_other_names() {
        let (secret, body, digest) = GITHUB;
        let bytes = from_hex(digest).unwrap();
        for (encoding, value) in [
            (Encoding::Hex, format!("v0={digest}")),
            (Encoding::Base64, format!("v0={}", STANDARD.encode(bytes))),
        ] {
            let scheme = Scheme::Hmac { header: "x-sig".into(), prefix: "v0=".into(), encoding };
            let verified = |value| {
                verify(&scheme, secret.as_bytes(), &message(&[("x-sig", value)], body), at(0))
            };
            assert_eq!(verified(&value), Ok(()));
            assert_eq!(verified(&value[3..]), Err(Refusal::Wrong));
        }
    }

    #[test]
    fn gitlab_sends_its_token_and_others_show_one() {
        let sent = |token| {
            let message = message(&[("x-gitlab-token", token)], "{}");
            verify(&Scheme::GitLab, b"token", &message, at(0))
        };
        assert_eq!(sent("token"), Ok(()));
        assert_eq!([sent("tokem"), sent(""), sent("token2")], [const { Err(Refusal::Wrong) }; 3]);
        let shown = |value| {
            let message = message(&[("authorization", value)], "{}");
            verify(&Scheme::Bearer, b"token", &message, at(0))
        };
        assert_eq!([shown("Bearer token"), shown("bearer token")], [const { Ok(()) }; 2]);
        assert_eq!([shown("token"), shown("Basic token")], [const { Err(Refusal::Wrong) }; 2]);
    }

    /// From the tests of the Standard Webhooks' libraries.
    #[test]
    fn standard_webhooks_are_signed_with_id_and_time() {
        const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        const TIME: i64 = 1_614_265_330;
        let sent = |id: &str, signature: &str, now, secret: &[u8]| {
            let headers = [
                ("webhook-id", id),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ];
            let message = message(&headers, r#"{"test": 2432232314}"#);
            let verdict = verify(&Scheme::Standard, secret, &message, at(now));
            assert_eq!(verify(&Scheme::GitLab, secret, &message, at(now)), verdict);
            verdict
        };
        let (id, right) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let several = format!("v1,AAAA v1a,x {right}");
        assert_eq!(sent(id, right, TIME, SECRET), Ok(()));
        assert_eq!(sent(id, &several, TIME + 300, SECRET), Ok(()));
        assert_eq!(sent(id, right, TIME + 301, SECRET), Err(Refusal::Stale));
        assert_eq!(sent(id, right, TIME - 301, SECRET), Err(Refusal::Stale));
        assert_eq!(sent("msg_another", right, TIME, SECRET), Err(Refusal::Wrong));
        assert_eq!(sent(id, &right[3..], TIME, SECRET), Err(Refusal::Wrong));
        assert_eq!(sent(id, right, TIME, b"no such secret"), Err(Refusal::Secret));
    }
}
