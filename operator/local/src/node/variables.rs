//! The variables of a container: what its pod says, with what Secrets, ConfigMaps and the pod itself
//! have put in. Nothing of the environment of this process is in it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVarSource, ObjectFieldSelector, Pod,
    ResourceFieldSelector, Secret,
};
use kube::{Api, Client};
use rouse_core::usage::parse_quantity;

use super::expand::expand;
use super::status::ADDRESS;

/// Names and values, in the order in which they were said.
pub type Variables = Vec<(String, String)>;

/// Why a container has not all of its variables.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// An object is not there.
    #[error(
        "there is no {kind} {name} in namespace {namespace}: put it into a YAML file of the folder"
    )]
    Missing {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// An object has not that key.
    #[error("{kind} {name} has no key {key:?}")]
    Key {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field that nobody knows here.
    #[error("the variable {variable} is of {field}, which `rouse dev` does not know")]
    Field {
        /// The variable.
        variable: String,
        /// The field.
        field: String,
    },
    /// The API did not answer.
    #[error("reading {0}: {1}")]
    Api(&'static str, #[source] kube::Error),
}

/// Reads what variables are made of.
pub struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    pod: &'a Pod,
    own: &'a Container,
}

impl<'a> Reader<'a> {
    /// For the container `own` of `pod`.
    pub fn new(client: &'a Client, namespace: &'a str, pod: &'a Pod, own: &'a Container) -> Self {
        Self { client, namespace, pod, own }
    }

    /// All variables. Of two with one name the later counts.
    pub async fn read(&self) -> Result<Variables, VariableError> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for from in self.own.env_from.iter().flatten() {
            known.extend(self.all_of(from).await?);
        }
        let mut all: Variables = known.clone().into_iter().collect();
        for variable in self.own.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (Some(text), _) => Some(expand(text, |name| known.get(name).map(String::as_str))),
                (None, Some(from)) => self.value_of(&variable.name, from).await?,
                (None, None) => Some(String::new()),
            };
            // One that is optional and not there is no variable at all.
            let Some(value) = value else { continue };
            known.insert(variable.name.clone(), value.clone());
            all.push((variable.name.clone(), value));
        }
        Ok(all)
    }

    async fn all_of(&self, from: &EnvFromSource) -> Result<Variables, VariableError> {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let data = if let Some(source) = &from.config_map_ref {
            self.config_map(&source.name, source.optional).await?
        } else if let Some(source) = &from.secret_ref {
            self.secret(&source.name, source.optional).await?
        } else {
            None
        };
        let named = |(key, value): (String, String)| (format!("{prefix}{key}"), value);
        Ok(data.into_iter().flatten().map(named).collect())
    }

    async fn value_of(
        &self,
        variable: &str,
        from: &EnvVarSource,
    ) -> Result<Option<String>, VariableError> {
        if let Some(source) = &from.secret_key_ref {
            let data = self.secret(&source.name, source.optional).await?;
            return pick("Secret", data, (&source.name, &source.key), source.optional);
        }
        if let Some(source) = &from.config_map_key_ref {
            let data = self.config_map(&source.name, source.optional).await?;
            return pick("ConfigMap", data, (&source.name, &source.key), source.optional);
        }
        let told = match (&from.field_ref, &from.resource_field_ref) {
            (Some(field), _) => self.field(field).ok_or_else(|| field.field_path.clone()),
            (None, Some(field)) => self.resource(field).ok_or_else(|| field.resource.clone()),
            (None, None) => Err("a source".to_owned()),
        };
        told.map(Some)
            .map_err(|field| VariableError::Field { variable: variable.to_owned(), field })
    }

    fn field(&self, field: &ObjectFieldSelector) -> Option<String> {
        let (meta, spec) = (&self.pod.metadata, self.pod.spec.as_ref()?);
        let text = |value: &Option<String>| Some(value.clone().unwrap_or_default());
        let entry = |map: &Option<BTreeMap<String, String>>, path: &str| {
            let key = path.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
        };
        match field.field_path.as_str() {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "spec.nodeName" => text(&spec.node_name),
            "spec.serviceAccountName" => text(&spec.service_account_name),
            "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => {
                Some(ADDRESS.to_owned())
            }
            path => path.strip_prefix("metadata.labels").map_or_else(
                || entry(&meta.annotations, path.strip_prefix("metadata.annotations")?),
                |path| entry(&meta.labels, path),
            ),
        }
    }

    fn resource(&self, field: &ResourceFieldSelector) -> Option<String> {
        let resources = self.own.resources.as_ref();
        let (of, name) = field.resource.split_once('.')?;
        let quantities = match of {
            "limits" => resources.and_then(|all| all.limits.as_ref()),
            "requests" => resources.and_then(|all| all.requests.as_ref()),
            _ => None,
        };
        let amount = parse_quantity(&quantities?.get(name)?.0)?;
        let divisor = field.divisor.as_ref().and_then(|divisor| parse_quantity(&divisor.0));
        Some(amount.div_ceil(divisor.unwrap_or(1).max(1)).to_string())
    }

    async fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Variables>, VariableError> {
        let api = Api::<Secret>::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(name).await.map_err(|error| VariableError::Api("a Secret", error));
        let data = found?.map(|secret| {
            let text = |(key, value): (String, k8s_openapi::ByteString)| {
                (key, String::from_utf8_lossy(&value.0).into_owned())
            };
            secret.data.into_iter().flatten().map(text).collect()
        });
        self.unless_missing("Secret", name, data, optional)
    }

    async fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Variables>, VariableError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| VariableError::Api("a ConfigMap", error))?;
        let data = found.map(|map| map.data.into_iter().flatten().collect());
        self.unless_missing("ConfigMap", name, data, optional)
    }

    fn unless_missing(
        &self,
        kind: &'static str,
        name: &str,
        data: Option<Variables>,
        optional: Option<bool>,
    ) -> Result<Option<Variables>, VariableError> {
        if data.is_some() || optional == Some(true) {
            return Ok(data);
        }
        let namespace = self.namespace.to_owned();
        Err(VariableError::Missing { kind, name: name.to_owned(), namespace })
    }
}

fn pick(
    kind: &'static str,
    data: Option<Variables>,
    (name, key): (&str, &str),
    optional: Option<bool>,
) -> Result<Option<String>, VariableError> {
    let found = data.into_iter().flatten().find(|(other, _)| other == key);
    match found {
        Some((_, value)) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => Err(VariableError::Key { kind, name: name.to_owned(), key: key.to_owned() }),
    }
}
