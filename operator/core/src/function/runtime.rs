//! The runtimes that code is run in: which image, and which command starts the code by its contract.
//! What administrators say of them is read here. Pure.

use std::collections::BTreeMap;

use rouse_crds::v1alpha1::Contract;
use serde::Deserialize;

use super::Workload;
use super::code::SourceWorkload;

/// What stands in a command for what in the code is called: the kubelet puts it there.
pub const HANDLER: &str = "$(ROUSE_HANDLER)";

/// All runtimes, by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Runtimes(pub BTreeMap<String, Runtime>);

/// One runtime.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Image whose entry point is `rouse-shim`.
    pub image: String,
    /// Program and arguments that start the code; empty where it depends on the contract.
    #[serde(default)]
    pub command: Vec<String>,
    /// The same for contracts that have another.
    #[serde(default)]
    pub commands: BTreeMap<Contract, Vec<String>>,
    /// Where the code comes to lie; none where the shim's own place is right.
    #[serde(default)]
    pub folder: Option<String>,
}

/// What a pod is made of.
#[derive(Debug)]
pub(super) struct Fit<'a> {
    /// The image.
    pub image: &'a str,
    /// Program and arguments that start the code.
    pub words: Vec<String>,
    /// Where the code comes to lie.
    pub folder: Option<&'a str>,
}

/// Why code can't be run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no such runtime.
    #[error(
        "there is no runtime {runtime:?} here, only {known}: name one of them in \
         spec.source.runtime, or have the administrator add it to the chart's value runtimes"
    )]
    Unknown {
        /// Its key.
        runtime: String,
        /// Those that there are.
        known: String,
    },
    /// Nothing says how to start the code.
    #[error(
        "the runtime {runtime:?} does not say what starts code with contract {contract}: set \
         spec.command, or another contract"
    )]
    NoCommand {
        /// Key of the runtime.
        runtime: String,
        /// The contract.
        contract: &'static str,
    },
    /// The command needs to know what is called.
    #[error(
        "the runtime {runtime:?} with contract {contract} needs spec.source.handler: what in the \
         code is called, such as app.handler"
    )]
    NoHandler {
        /// Key of the runtime.
        runtime: String,
        /// The contract.
        contract: &'static str,
    },
}

impl Unfit {
    /// One word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "RuntimeUnknown",
            Self::NoCommand { .. } => "CommandMissing",
            Self::NoHandler { .. } => "HandlerMissing",
        }
    }
}

impl Runtimes {
    /// Reads what the chart writes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let runtimes: Self = serde_json::from_str(text)
            .map_err(|error| format!("no table of runtimes as JSON: {error}"))?;
        match runtimes.0.iter().find(|(_, runtime)| runtime.image.is_empty()) {
            Some((name, _)) => Err(format!("the runtime {name:?} has no image")),
            None => Ok(runtimes),
        }
    }

    /// What the pods of `source` are made of.
    pub(super) fn fit(
        &self,
        source: &SourceWorkload,
        workload: &Workload,
    ) -> Result<Fit<'_>, Unfit> {
        let runtime = self.0.get(&source.runtime).ok_or_else(|| Unfit::Unknown {
            runtime: source.runtime.clone(),
            known: self.known(),
        })?;
        let (name, contract) = (source.runtime.clone(), source.contract);
        let general = match contract {
            // What starts a custom handler stands in its code.
            Contract::Azure => &Vec::new(),
            _ => &runtime.command,
        };
        let own = runtime.commands.get(&contract).unwrap_or(general);
        let words = if workload.command.is_empty() { own } else { &workload.command };
        if words.is_empty() && contract != Contract::Azure {
            return Err(Unfit::NoCommand { runtime: name, contract: contract.as_str() });
        }
        if source.handler.is_none() && words.iter().any(|word| word.contains(HANDLER)) {
            return Err(Unfit::NoHandler { runtime: name, contract: contract.as_str() });
        }
        let words = words.iter().chain(&workload.args).cloned().collect();
        Ok(Fit { image: &runtime.image, words, folder: runtime.folder.as_deref() })
    }

    fn known(&self) -> String {
        if self.0.is_empty() {
            return "none at all".to_owned();
        }
        self.0.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}
