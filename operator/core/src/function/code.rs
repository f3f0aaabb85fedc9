//! The code of a Function that is given as source: its bytes as they are pushed to pods, and the
//! digest that names them. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rouse_crds::v1alpha1::{CodeArchive, Contract, FunctionSource, MOST_INLINE, Signature};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ValidatedFunction;

/// Member of a revision's record that holds its code.
const CODE: &str = "code";

/// Why code can't be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// There is no code, or more than one.
    #[error("spec.source needs exactly one of files, archive.inline and archive.url with sha256")]
    NotOne,
    /// The archive does not parse.
    #[error(
        "spec.source.archive.inline is no base64 without line breaks, as `base64 -w0` prints it: {0}"
    )]
    Base64(String),
    /// There is too much of it.
    #[error(
        "spec.source has {0} bytes of code, and at most {MOST_INLINE} may stand in the object: give \
         archive.url and archive.sha256 instead"
    )]
    Large(usize),
    /// The archive is another than the one that is meant.
    #[error("spec.source.archive.inline has the SHA-256 {got}, and archive.sha256 says {wanted}")]
    Digest {
        /// That of the bytes.
        got: String,
        /// What stands beside them.
        wanted: String,
    },
}

/// What of the source shapes a pod; part of what names a revision (see `Workload`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceWorkload {
    /// Key of the runtime.
    pub runtime: String,
    /// What in the code is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// What the code speaks.
    pub contract: Contract,
    /// What a function of a functions framework takes.
    #[serde(skip_serializing_if = "is_http")]
    pub signature: Signature,
    /// SHA-256 of the code, in hexadecimal.
    pub code: String,
    /// Where pods fetch the code; none where it is pushed to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Language processes in a pod.
    #[serde(skip_serializing_if = "is_one")]
    pub processes: u16,
    /// Requests that one of them takes at once.
    #[serde(skip_serializing_if = "is_one")]
    pub process_concurrency: u16,
    /// How long a request may take.
    pub request_millis: u64,
    /// How long a language process may take until it takes requests.
    pub init_millis: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_http(signature: &Signature) -> bool {
    matches!(signature, Signature::Http)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_one(number: &u16) -> bool {
    *number == 1
}

impl SourceWorkload {
    /// Requests that a pod takes at once; none where the contract does not say.
    pub fn capacity(&self) -> Option<u32> {
        let all = u32::from(self.processes) * u32::from(self.process_concurrency);
        (self.contract == Contract::Lambda).then_some(all)
    }
}

/// Code, as pods get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256, in hexadecimal.
    pub digest: String,
}

impl Code {
    /// Code of these bytes.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        let digest = hex(&Sha256::digest(&bytes));
        Self { bytes, digest }
    }

    /// The code that stands in `source` itself; none where it is elsewhere.
    pub fn of(source: &FunctionSource) -> Result<Option<Self>, CodeError> {
        match (&source.archive, source.files.is_empty()) {
            (None, false) => Self::of_files(source).map(Some),
            (Some(archive), true) => Self::of_archive(archive),
            (None, true) | (Some(_), false) => Err(CodeError::NotOne),
        }
    }

    /// Names and texts as one JSON object in the order of the names: the same bytes always.
    fn of_files(source: &FunctionSource) -> Result<Self, CodeError> {
        let length = source.files.iter().map(|(name, text)| name.len() + text.len()).sum();
        if length > MOST_INLINE {
            return Err(CodeError::Large(length));
        }
        Ok(Self::of_bytes(json!(source.files).to_string().into_bytes()))
    }

    fn of_archive(archive: &CodeArchive) -> Result<Option<Self>, CodeError> {
        let CodeArchive { inline, url, sha256 } = archive;
        let inline = match (inline, url, sha256) {
            (Some(inline), None, _) => inline,
            (None, _, Some(_)) => return Ok(None),
            _ => return Err(CodeError::NotOne),
        };
        let bytes =
            STANDARD.decode(inline).map_err(|error| CodeError::Base64(error.to_string()))?;
        if bytes.len() > MOST_INLINE {
            return Err(CodeError::Large(bytes.len()));
        }
        let code = Self::of_bytes(bytes);
        match sha256 {
            Some(wanted) if *wanted != code.digest => {
                Err(CodeError::Digest { got: code.digest, wanted: wanted.clone() })
            }
            _ => Ok(Some(code)),
        }
    }

    /// The texts by their paths, if it was written as such and not as an archive.
    pub fn texts(&self) -> Option<BTreeMap<String, String>> {
        serde_json::from_slice(&self.bytes).ok()
    }

    /// The bytes as an object holds them.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// What a revision's record keeps of it.
    pub fn to_record(&self) -> Value {
        json!({"sha256": self.digest, "bytes": self.to_base64()})
    }

    /// The code that a revision's record keeps, if it is whole; `data` is the record's.
    pub fn of_record(data: &Value) -> Option<Self> {
        let kept = data.get(CODE)?;
        let bytes = STANDARD.decode(kept.get("bytes")?.as_str()?).ok()?;
        let code = Self::of_bytes(bytes);
        (kept.get("sha256")?.as_str()? == code.digest).then_some(code)
    }
}

/// Puts `code` into the data of a record.
pub(super) fn keep_in(data: &mut Value, code: Option<&Code>) {
    if let (Value::Object(data), Some(code)) = (data, code) {
        data.insert(CODE.into(), code.to_record());
    }
}

/// Takes the code out of the data of a record: most who read it need the rest only.
pub fn leave_out_of(data: &mut Value) {
    if let Value::Object(data) = data {
        data.remove(CODE);
    }
}

/// Takes the code out of `source` and leaves its digest, so that thousands of Functions fit into
/// memory. The same revision comes of it. What can't be used stays, to be told.
pub fn seal(source: &mut FunctionSource) {
    if let Ok(Some(code)) = Code::of(source) {
        source.files.clear();
        let sha256 = Some(code.digest);
        source.archive = Some(CodeArchive { inline: None, url: None, sha256 });
    }
}

/// The code of `source` by its digest, and where it is fetched, if it is.
pub(super) fn named(source: &FunctionSource) -> Result<(String, Option<String>), CodeError> {
    if let Some(code) = Code::of(source)? {
        return Ok((code.digest, None));
    }
    let archive = source.archive.clone().unwrap_or_default();
    let digest = archive.sha256.ok_or(CodeError::NotOne)?;
    Ok((digest, archive.url))
}

/// The digest of the code that pods of `function` are pushed; none where they need none.
pub fn pushed(function: &ValidatedFunction) -> Option<&str> {
    let source = function.workload.source.as_ref()?;
    source.url.is_none().then_some(source.code.as_str())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(more: &Value) -> FunctionSource {
        let mut all = json!({"runtime": "shell"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn files_are_one_object_in_the_order_of_their_names() {
        let code = Code::of(&source(&json!({"files": {"b/c": "2", "a": "#!\n\u{e9}"}})));
        let code = code.unwrap().unwrap();
        assert_eq!(code.bytes, "{\"a\":\"#!\\n\u{e9}\",\"b/c\":\"2\"}".as_bytes());
    }

    #[test]
    fn an_archive_is_pushed_as_it_is_and_checked() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for sha256 in [Value::Null, json!(digest)] {
            let archive = json!({"archive": {"inline": "YWJj", "sha256": sha256}});
            let code = Code::of(&source(&archive)).unwrap().unwrap();
            assert_eq!((&*code.bytes, &*code.digest), (&b"abc"[..], digest));
        }
        let wrong = json!({"archive": {"inline": "YWJj", "sha256": "0".repeat(64)}});
        assert!(matches!(Code::of(&source(&wrong)), Err(CodeError::Digest { .. })));
        let broken = json!({"archive": {"inline": "YW\nJj"}});
        let said = Code::of(&source(&broken)).unwrap_err().to_string();
        assert!(said.contains("base64 -w0"), "{said}");
    }

    #[test]
    fn code_that_is_too_much_or_none_is_refused() {
        let large = json!({"files": {"a": "x".repeat(MOST_INLINE)}});
        assert_eq!(Code::of(&source(&large)), Err(CodeError::Large(MOST_INLINE + 1)));
        let archive = STANDARD.encode(vec![0; MOST_INLINE + 1]);
        let large = json!({"archive": {"inline": archive}});
        assert_eq!(Code::of(&source(&large)), Err(CodeError::Large(MOST_INLINE + 1)));
        for none in [json!({}), json!({"archive": {}}), json!({"archive": {"url": "http://a"}})] {
            assert_eq!(named(&source(&none)), Err(CodeError::NotOne), "{none}");
        }
    }

    proptest! {
        #[test]
        fn sealed_code_has_the_same_name_and_records_give_it_back(
            files in prop::collection::btree_map("[a-z]{1,4}(/[a-z]{1,4})?", any::<String>(), 1..5),
        ) {
            let mut source = source(&json!({"files": files}));
            let code = Code::of(&source).unwrap().unwrap();
            let before = named(&source).unwrap();
            seal(&mut source);
            prop_assert!(source.files.is_empty());
            prop_assert_eq!(named(&source).unwrap(), before);
            let mut data = json!({"template": {}});
            keep_in(&mut data, Some(&code));
            prop_assert_eq!(Code::of_record(&data), Some(code.clone()));
            data["code"]["bytes"] = json!("AAAA");
            prop_assert_eq!(Code::of_record(&data), None);
            leave_out_of(&mut data);
            prop_assert_eq!(data, json!({"template": {}}));
            prop_assert_eq!(code.texts(), Some(files));
        }
    }
}
