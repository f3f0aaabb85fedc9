//! The objects that the files describe, each with the place where it stands. What is wrong with them
//! by themselves is told here; the rest says the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rouse_local::node::{ANNOTATION_COMMAND, ANNOTATION_FOLDER, ANNOTATION_PACKAGES};
use serde_json::{Map, Value, json};

use super::files::Found;
use super::yaml::Document;
use crate::role::deploy::{MANIFEST, PACKAGES, read_folder};

/// What an object is, in the order in which they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the kinds")]
pub enum Kind {
    Namespace,
    ConfigMap,
    Secret,
    Function,
    Trigger,
}

impl Kind {
    /// All, in their order.
    const ALL: [Self; 5] =
        [Self::Namespace, Self::ConfigMap, Self::Secret, Self::Function, Self::Trigger];

    /// Its group and version, its name, and that of many.
    pub const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Namespace => ("v1", "Namespace", "namespaces"),
            Self::ConfigMap => ("v1", "ConfigMap", "configmaps"),
            Self::Secret => ("v1", "Secret", "secrets"),
            Self::Function => ("rouse.dev/v1alpha1", "Function", "functions"),
            Self::Trigger => ("rouse.dev/v1alpha1", "Trigger", "triggers"),
        }
    }

    fn of(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str);
        Self::ALL.into_iter().find(|kind| {
            let (version, name, _) = kind.names();
            text("apiVersion") == Some(version) && text("kind") == Some(name)
        })
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; empty for one that has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.kind.names().1, self.namespace, self.name)
    }
}

/// An object, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The object.
    pub value: Value,
    /// Its file.
    pub file: PathBuf,
    /// What it says, by lines; none where a folder is its code.
    pub document: Option<Document>,
}

impl Object {
    /// Whether it is a Function whose image nothing else is run for.
    pub fn is_image(&self) -> bool {
        let annotations = self.value.pointer("/metadata/annotations");
        let told = annotations.and_then(|all| all.get(ANNOTATION_COMMAND)).is_some();
        !told && self.value.pointer("/spec/image").is_some()
    }
}

/// All objects.
pub type Objects = BTreeMap<Key, Object>;

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, where it is known.
    pub line: Option<u64>,
    /// The field; empty where it is none in particular.
    pub field: String,
    /// What is wrong, and what would be right.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// What was read: objects, mistakes, and what was left out and why.
#[derive(Debug, Default)]
pub struct Read {
    /// The objects.
    pub objects: Objects,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// What is of no use here.
    pub left_out: Vec<String>,
}

impl Read {
    /// Reads all that was `found`. What names no namespace is in `namespace`; in files that are `known`
    /// there were objects before.
    pub fn of(found: &Found, namespace: &str, known: &BTreeSet<PathBuf>) -> Self {
        let mut read = Self::default();
        for file in &found.manifests {
            read.read_file(file, namespace, known.contains(file));
        }
        for folder in &found.codes {
            let file = folder.join(MANIFEST);
            match read_folder(folder) {
                Ok(values) => read.add_folder(values, &file, namespace),
                Err(error) => read.mistake(&file, None, "", format!("{error:#}")),
            }
        }
        read
    }

    /// Adds a Function and what its code tells of, all in one namespace.
    fn add_folder(&mut self, values: Vec<Value>, file: &Path, namespace: &str) {
        let written = |value: &Value| {
            let written = value.pointer("/metadata/namespace").and_then(Value::as_str);
            written.map(str::to_owned)
        };
        let own = values.iter().find_map(written);
        let namespace = own.as_deref().unwrap_or(namespace);
        for mut value in values {
            if Kind::of(&value) == Some(Kind::Function) {
                tell_packages(&mut value, file);
            }
            self.add(value, file, None, namespace);
        }
    }

    fn read_file(&mut self, file: &Path, namespace: &str, is_known: bool) {
        let text = std::fs::read_to_string(file).context("reading it");
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.mistake(file, None, "", format!("{error:#}")),
        };
        match Document::read_all(&text) {
            Ok(documents) => {
                for document in documents.into_iter().flat_map(Document::unfold) {
                    let value = document.value.clone();
                    self.add(value, file, Some(document), namespace);
                }
            }
            Err(error) if is_known || is_ours(&text) => {
                let rule = format!("{}; a file that is no manifest is {WAY_OUT}", error.message);
                self.mistake(file, Some(error.line), "", rule);
            }
            Err(error) => self.left_out.push(format!(
                "{}:{}: the file is left out, as it is no YAML: {}",
                file.display(),
                error.line,
                error.message
            )),
        }
    }

    fn add(&mut self, mut value: Value, file: &Path, document: Option<Document>, namespace: &str) {
        let line = document.as_ref().map(|document| document.line);
        let Some(kind) = Kind::of(&value) else {
            return self.add_stranger(&value, file, document.as_ref());
        };
        let Some(name) = value.pointer("/metadata/name").and_then(Value::as_str) else {
            return self.mistake(file, line, "metadata.name", "the object has no name".to_owned());
        };
        let name = name.to_owned();
        let written = value.pointer("/metadata/namespace").and_then(Value::as_str);
        let namespace = match kind {
            Kind::Namespace => String::new(),
            _ => written.unwrap_or(namespace).to_owned(),
        };
        // They become parts of addresses.
        for (field, text, is_name) in [
            ("metadata.name", &name, kind != Kind::Namespace && is_subdomain(&name)),
            ("metadata.namespace", &namespace, namespace.is_empty()),
        ] {
            if !is_name && !is_label(text) {
                let line = document.as_ref().map(|document| document.line_of(field));
                return self.mistake(file, line, field, format!("{text:?} is no name: {NAME}"));
            }
        }
        if kind != Kind::Namespace {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let key = Key { kind, namespace, name };
        if kind == Kind::Function {
            tell_command(&mut value, file);
        }
        let Some(other) = self.objects.get(&key) else {
            self.objects.insert(key, Object { value, file: file.to_owned(), document });
            return;
        };
        let at = other.document.as_ref().map_or(1, |document| document.line);
        let rule = format!("{key} stands in {}:{at} too: rename one of them", other.file.display());
        self.mistake(file, line, "metadata.name", rule);
    }

    /// Tells of an object that is of none of the kinds that are read here, if it is one.
    fn add_stranger(&mut self, value: &Value, file: &Path, document: Option<&Document>) {
        let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let line = |field| document.map(|document| document.line_of(field));
        let (ours, _, _) = Kind::Function.names();
        let is_our_kind =
            Kind::ALL.into_iter().any(|it| it.names().0 == ours && it.names().1 == kind);
        if is_our_kind && (version.contains("rouse") || !version.contains('.')) {
            let rule = format!("a {kind} has {ours}, and this is {version:?}");
            return self.mistake(file, line("apiVersion"), "apiVersion", rule);
        }
        if version.starts_with("rouse.dev/") {
            let rule = format!("{kind:?} is no kind of {version}: write Function or Trigger");
            return self.mistake(file, line("kind"), "kind", rule);
        }
        if !kind.is_empty() && !version.is_empty() {
            let (place, line) = (file.display(), line("").unwrap_or_default());
            self.left_out.push(format!(
                "{place}:{line}: {kind} of {version} is left out: `rouse dev` has no use for it"
            ));
        }
    }

    fn mistake(&mut self, file: &Path, line: Option<u64>, field: &str, rule: String) {
        self.mistakes.push(Mistake { file: file.to_owned(), line, field: field.to_owned(), rule });
    }
}

/// What to do with files that are none of ours.
const WAY_OUT: &str = "left out by a file .rouseignore, which is written as a .gitignore";
/// What a name is.
pub const NAME: &str =
    "write small letters, digits and '-' alone, with a letter or digit at both ends";

/// Whether a text that can't be read was meant to be read here.
fn is_ours(text: &str) -> bool {
    text.lines().any(|line| {
        let value = |name: &str| line.strip_prefix(name).map(|rest| rest.trim().trim_matches('"'));
        let of_kind = |named| Kind::ALL.into_iter().any(|kind| kind.names().1 == named);
        value("apiVersion:").is_some_and(|version| version.starts_with("rouse.dev/"))
            || value("kind:").is_some_and(of_kind)
    })
}

/// Whether a text may name a namespace: a label as of RFC 1123.
pub fn is_label(text: &str) -> bool {
    let inner = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_end = |letter: Option<u8>| letter.is_some_and(|letter| letter != b'-');
    text.len() <= 63
        && text.bytes().all(inner)
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Puts where npm has installed on the Function's pods, where the node finds it.
fn tell_packages(function: &mut Value, manifest: &Path) {
    let packages = manifest.with_file_name(PACKAGES);
    if !packages.is_dir() {
        return;
    }
    let packages = packages.canonicalize().unwrap_or(packages);
    if let Some(told) = pod_annotations(function) {
        told.insert(ANNOTATION_PACKAGES.to_owned(), json!(packages));
    }
}

/// The annotations that the pods of a Function get; none where they are no map.
fn pod_annotations(function: &mut Value) -> Option<&mut Map<String, Value>> {
    let template = inner(function.get_mut("spec")?, "template")?;
    inner(inner(template, "metadata")?, "annotations")?.as_object_mut()
}

/// Puts what is run for an image on the Function's pods, where the node finds it, and with it into what
/// makes its revisions.
fn tell_command(function: &mut Value, file: &Path) {
    let annotations = function.pointer("/metadata/annotations");
    let Some(command) = annotations.and_then(|all| all.get(ANNOTATION_COMMAND)).cloned() else {
        return;
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if let Some(told) = pod_annotations(function) {
        told.insert(ANNOTATION_COMMAND.to_owned(), command);
        told.insert(ANNOTATION_FOLDER.to_owned(), json!(folder));
    }
}

/// The object at `key`, made where there is nothing; none where something else is.
fn inner<'v>(value: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    let member = value.as_object_mut()?.entry(key).or_insert_with(|| json!({}));
    member.is_object().then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (tempfile::TempDir, Read) {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in files {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = Found::look(folder.path()).unwrap();
        let known = BTreeSet::from([folder.path().join("known.yaml")]);
        let read = Read::of(&found, "default", &known);
        (folder, read)
    }

    const FUNCTION: &str = "apiVersion: rouse.dev/v1alpha1\nkind: Function\n";

    #[test]
    fn objects_are_read_with_their_namespace_and_what_is_run_for_an_image() {
        let function = format!(
            "{FUNCTION}metadata:\n  name: a\n  annotations: {{rouse.dev/dev-command: ./run}}\nspec: {{image: x}}\n"
        );
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {key: abc}\n";
        let (_folder, read) = read(&[
            ("f.yaml", &function),
            ("s.yml", secret),
            ("values.yaml", "replicas: 1\n"),
            ("d.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"),
            ("code/function.yaml", &format!("{FUNCTION}metadata: {{name: c}}\nspec: {{}}\n")),
            ("code/app.py", "def handler(event, context): pass\n"),
        ]);
        assert_eq!(read.mistakes, []);
        assert_eq!(read.left_out.len(), 1, "{:?}", read.left_out);
        let names: Vec<String> = read.objects.keys().map(Key::to_string).collect();
        assert_eq!(names, ["Secret shop/s", "Function default/a", "Function default/c"]);
        let all: Vec<&Value> = read.objects.values().map(|object| &object.value).collect();
        let told = &all[1]["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(told[ANNOTATION_COMMAND], "./run");
        assert!(!read.objects.values().any(Object::is_image), "something else is run for it");
        assert_eq!(all[2]["spec"]["source"]["handler"], "app.handler");
    }

    #[test]
    fn what_is_near_to_ours_is_a_mistake_and_what_is_others_is_left_out() {
        for (text, said) in [
            (
                "apiVersion: rouse.dev/v1alpha1\nkind: Funktion\n",
                "a.yaml:2: kind: \"Funktion\" is no",
            ),
            ("kind: Function\n", "a.yaml:1: apiVersion: a Function has rouse.dev/v1alpha1"),
            ("apiVersion: rouse.dev/v1\nkind: Trigger\n", "a.yaml:1: apiVersion: a Trigger has"),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: My Words}\n",
                "a.yaml:3: metadata.name: ",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  namespace: A.b\n",
                "a.yaml:5: metadata.n",
            ),
            ("kind: Secret\ndata: {{ .Values.x }}: [\n", ".rouseignore"),
        ] {
            let (_folder, read) = read(&[("a.yaml", text)]);
            let told: Vec<String> = read.mistakes.iter().map(Mistake::to_string).collect();
            assert!(told.len() == 1 && told[0].contains(said), "{text}: {told:?}");
        }
        let chart = "apiVersion: apps/v1\nkind: Deployment\n{{- if .Values.x }}\na: [\n";
        let other = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\n";
        let (_folder, read) =
            read(&[("chart.yaml", chart), ("other.yaml", other), ("known.yaml", "[")]);
        assert_eq!(read.left_out.len(), 2, "{:?}", read.left_out);
        let told = read.mistakes[0].to_string();
        assert!(read.mistakes.len() == 1 && told.contains("known.yaml:"), "{told}");
    }

    #[test]
    fn lists_are_unfolded_and_packages_are_found_where_they_are() {
        let list =
            format!("apiVersion: v1\nkind: List\nitems:\n- {}", FUNCTION.replace('\n', "\n  "));
        let list = format!("{list}metadata: {{name: a}}\n  spec: {{image: x}}\n");
        let (folder, read) = read(&[
            ("list.yaml", &list),
            ("code/function.yaml", &format!("{FUNCTION}metadata: {{name: c}}\nspec: {{}}\n")),
            ("code/package.json", "{}"),
            ("code/index.js", "exports.handler = async () => 1;\n"),
            ("code/node_modules/a/index.js", &"x".repeat(2 << 20)),
        ]);
        assert_eq!(read.mistakes, []);
        let all: Vec<&Value> = read.objects.values().map(|object| &object.value).collect();
        assert_eq!(all[0]["spec"]["image"], "x");
        let told = &all[1]["spec"]["template"]["metadata"]["annotations"][ANNOTATION_PACKAGES];
        let packages = folder.path().canonicalize().unwrap().join("code/node_modules");
        assert_eq!(told, packages.to_str().unwrap());
    }

    #[test]
    fn mistakes_name_file_line_field_and_rule() {
        let named = format!("\n{FUNCTION}metadata: {{name: a}}\nspec: {{image: x}}\n");
        let nameless = format!("{FUNCTION}spec: {{image: x}}\n");
        let broken = "kind: Secret\na: [1\n";
        let (_folder, read) = read(&[
            ("a.yaml", &named),
            ("b.yaml", &named),
            ("c.yaml", &nameless),
            ("d.yaml", broken),
        ]);
        let said: Vec<String> = read.mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0].contains("b.yaml:2: metadata.name: Function default/a stands in"),
            "{said:?}"
        );
        assert!(said[1].contains("c.yaml:1: metadata.name: the object has no name"), "{said:?}");
        assert!(said[2].contains("d.yaml:"), "{said:?}");
    }
}
