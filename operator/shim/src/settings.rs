//! What the pod's environment says: which code, which contract, which limits. Read once; must not
//! know what becomes of it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

/// Variables that are the shim's own business start with this; no language process sees them.
pub const OWN: &str = "ROUSE_";

/// What Lambda takes and gives in one piece.
pub const PAYLOAD: usize = 6 * 1024 * 1024 + 100;

/// All of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The code that is run, and no other.
    pub digest: Digest,
    /// Where it is fetched; none where it is pushed.
    pub url: Option<Uri>,
    /// What the language process speaks.
    pub contract: Contract,
    /// What in the code is called: `app.handler`, `hello`.
    pub handler: String,
    /// Program and arguments of the language process; those of a custom handler stand in its code.
    pub command: Vec<String>,
    /// The address of both ports; none for all that there are.
    pub address: Option<IpAddr>,
    /// Where requests come; open only while the code answers.
    pub port: u16,
    /// Where code comes and questions are answered.
    pub control_port: u16,
    /// Where a language process listens; none for any port that is free, as in a pod nearly all are.
    pub process_port: Option<u16>,
    /// Where the code lies.
    pub folder: PathBuf,
    /// What the code may have.
    pub code: CodeLimits,
    /// How long things may take.
    pub times: Times,
    /// Language processes at once.
    pub processes: usize,
    /// Requests at once in one of them, where the contract counts them.
    pub concurrency: usize,
    /// Who it is.
    pub names: Names,
}

/// What the code may have.
#[derive(Clone, Copy, Debug)]
pub struct CodeLimits {
    /// Bytes that are pushed.
    pub pushed: u64,
    /// Bytes once it is unpacked, and of an archive that is fetched.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A request, from here to the end of its answer.
    pub request: Duration,
    /// The language process, until it takes requests.
    pub init: Duration,
    /// The requests that are under way when the pod is told to end.
    pub drain: Duration,
    /// The language process, from SIGTERM to SIGKILL.
    pub term: Duration,
}

/// Who it is.
#[derive(Clone, Debug)]
pub struct Names {
    /// UID of the pod: whoever may read pods of the namespace knows it, and nobody else.
    pub pod: Option<String>,
    /// The Function.
    pub function: String,
    /// Its namespace.
    pub namespace: String,
    /// Its revision.
    pub revision: String,
    /// Its memory in MiB.
    pub memory: String,
}

/// What the language process speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// HTTP on `$PORT`.
    Http,
    /// The Runtime API of AWS Lambda.
    Lambda,
    /// The functions frameworks of Google, with a kind of signature.
    Functions(Signature),
    /// HTTP on `$PORT`, for CloudEvents and nothing else.
    CloudEvents,
    /// A custom handler of Azure Functions.
    Azure,
}

/// What a function of a functions framework takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A request.
    Http,
    /// A CloudEvent.
    CloudEvent,
    /// An event as before there were CloudEvents.
    Event,
}

impl Signature {
    /// As `FUNCTION_SIGNATURE_TYPE` names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::CloudEvent => "cloudevent",
            Self::Event => "event",
        }
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high).ok_or(())? * 16 + digit(*low).ok_or(())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the environment is none to run in. The operator made it, or a user who runs the shim himself.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// A variable is not set.
    #[error("the variable {0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// A variable has a value that it can't have.
    #[error("the variable {0} can't be {1:?}: it is {2}")]
    Value(&'static str, String, &'static str),
    /// There is nothing to start.
    #[error("there is no command: give the language process and its arguments as arguments")]
    Command,
}

impl Settings {
    /// What the environment, asked by `get`, says for `command`.
    pub fn read(
        command: Vec<String>,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Invalid> {
        let environment = Environment(&get);
        let contract = environment.contract()?;
        if command.is_empty() && contract != Contract::Azure {
            return Err(Invalid::Command);
        }
        let text = |name| get(name).unwrap_or_default();
        let digest = get("ROUSE_CODE_DIGEST")
            .ok_or(Invalid::Missing("ROUSE_CODE_DIGEST", "the SHA-256 of the code"))?;
        let digest = digest.parse().map_err(|()| {
            Invalid::Value("ROUSE_CODE_DIGEST", digest, "a SHA-256 in hexadecimal")
        })?;
        Ok(Self {
            digest,
            url: environment.url()?,
            contract,
            handler: text("ROUSE_HANDLER"),
            command,
            address: environment.optional("ROUSE_ADDRESS", "an IP address")?,
            port: environment.number("PORT", 8080)?,
            control_port: environment.number("ROUSE_CONTROL_PORT", 8079)?,
            process_port: environment.optional("ROUSE_PROCESS_PORT", "a number")?,
            folder: get("ROUSE_CODE_FOLDER").unwrap_or_else(|| "/var/task".into()).into(),
            code: CodeLimits {
                pushed: environment.number("ROUSE_CODE_MAX_PUSHED", 1 << 20)?,
                bytes: environment.number("ROUSE_CODE_MAX_BYTES", 256 << 20)?,
                entries: environment.number("ROUSE_CODE_MAX_ENTRIES", 50_000)?,
            },
            times: Times {
                request: environment.millis("ROUSE_REQUEST_TIMEOUT_MS", 300_000)?,
                init: environment.millis("ROUSE_INIT_TIMEOUT_MS", 60_000)?,
                drain: environment.millis("ROUSE_DRAIN_TIMEOUT_MS", 300_000)?,
                term: environment.millis("ROUSE_TERM_TIMEOUT_MS", 5_000)?,
            },
            processes: environment.number("ROUSE_PROCESSES", 1usize)?.max(1),
            concurrency: environment.number("ROUSE_PROCESS_CONCURRENCY", 1usize)?.max(1),
            names: Names {
                pod: get("ROUSE_POD_UID").filter(|uid| !uid.is_empty()),
                function: get("ROUSE_FUNCTION").unwrap_or_else(|| "function".into()),
                namespace: text("ROUSE_NAMESPACE"),
                revision: text("ROUSE_REVISION"),
                memory: get("ROUSE_MEMORY_MB").unwrap_or_else(|| "128".into()),
            },
        })
    }
}

/// The environment, and how things in it are written.
struct Environment<'a, F>(&'a F);

impl<F: Fn(&str) -> Option<String>> Environment<'_, F> {
    fn number<N: FromStr>(&self, name: &'static str, default: N) -> Result<N, Invalid> {
        Ok(self.optional(name, "a number")?.unwrap_or(default))
    }

    fn optional<N: FromStr>(
        &self,
        name: &'static str,
        what: &'static str,
    ) -> Result<Option<N>, Invalid> {
        let Some(text) = (self.0)(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Invalid::Value(name, text, what))
    }

    fn millis(&self, name: &'static str, default: u64) -> Result<Duration, Invalid> {
        self.number(name, default).map(Duration::from_millis)
    }

    fn url(&self) -> Result<Option<Uri>, Invalid> {
        let Some(text) = (self.0)("ROUSE_CODE_URL") else { return Ok(None) };
        let url: Option<Uri> = text.parse().ok();
        let fit = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https"));
        match url.filter(fit) {
            Some(url) => Ok(Some(url)),
            None => Err(Invalid::Value("ROUSE_CODE_URL", text, "a URL of http or https")),
        }
    }

    fn contract(&self) -> Result<Contract, Invalid> {
        let name = "ROUSE_CONTRACT";
        let text = (self.0)(name).unwrap_or_else(|| "http".into());
        Ok(match text.as_str() {
            "http" => Contract::Http,
            "lambda" => Contract::Lambda,
            "functions-framework" => Contract::Functions(self.signature()?),
            "cloudevents" => Contract::CloudEvents,
            "azure" => Contract::Azure,
            _ => {
                let known = "http, lambda, functions-framework, cloudevents or azure";
                return Err(Invalid::Value(name, text, known));
            }
        })
    }

    fn signature(&self) -> Result<Signature, Invalid> {
        let name = "ROUSE_SIGNATURE";
        let text = (self.0)(name).unwrap_or_else(|| "http".into());
        match text.as_str() {
            "http" => Ok(Signature::Http),
            "cloudevent" => Ok(Signature::CloudEvent),
            "event" => Ok(Signature::Event),
            _ => Err(Invalid::Value(name, text, "http, cloudevent or event")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Invalid> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        Settings::read(vec!["true".into()], |name| find(name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn a_digest_is_enough() {
        let settings = read(&[("ROUSE_CODE_DIGEST", DIGEST)]).unwrap();
        assert_eq!(settings.digest.to_string(), DIGEST);
        assert_eq!((settings.contract, settings.port), (Contract::Http, 8080));
    }

    #[test]
    fn mistakes_name_the_variable_and_what_it_may_be() {
        let digest = ("ROUSE_CODE_DIGEST", DIGEST);
        for (variables, said) in [
            (&[][..], "ROUSE_CODE_DIGEST"),
            (&[("ROUSE_CODE_DIGEST", "abc")], "hexadecimal"),
            (&[digest, ("ROUSE_CODE_URL", "file:///etc/passwd")], "http or https"),
            (&[digest, ("ROUSE_CONTRACT", "corba")], "lambda"),
            (&[digest, ("PORT", "http")], "a number"),
            (&[digest, ("ROUSE_ADDRESS", "here")], "an IP address"),
        ] {
            let error = read(variables).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn digests_of_odd_lengths_and_letters_are_none() {
        for text in ["", "0", &DIGEST[1..], &format!("{DIGEST}0"), &DIGEST.replace('b', "g")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(format!("sha256:{DIGEST}").parse::<Digest>().is_ok());
    }
}
