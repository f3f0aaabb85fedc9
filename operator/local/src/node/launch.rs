//! What is started for a container, and what can't be. It looks at the machine's programs and starts
//! none.

use std::collections::BTreeMap;
use std::env::split_paths;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use rouse_core::function::names::{ANNOTATION_CODE, LABEL_FUNCTION};
use rouse_core::resident::{LABEL_COMPONENT, Resident};

use super::expand::expand;
use super::variables::Variables;

/// Annotation with what is run for an image on a machine without containers, as JSON or as a line of
/// words: on a Function, and from there on its pods.
pub const ANNOTATION_COMMAND: &str = "rouse.dev/dev-command";
/// Annotation with the folder in which that is run, on pods.
pub const ANNOTATION_FOLDER: &str = "rouse.dev/dev-folder";
/// Programs that run images, the first that is there.
const RUNNERS: [&str; 2] = ["podman", "docker"];
/// The exit code of those where it is they who failed, and not what they ran.
const RUNNER_FAILED: i32 = 125;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs; none for a folder of its own.
    pub folder: Option<PathBuf>,
    /// Whether it is code for a shim, which starts the command itself once the code is there.
    pub shim: bool,
    /// Program and arguments that take away what it may leave behind beside processes.
    pub cleanup: Vec<String>,
}

impl Launch {
    /// What can be done where it ended with this code, if that is known.
    pub fn advice(&self, code: Option<i32>) -> Option<String> {
        let runner = self.cleanup.first().filter(|_| code == Some(RUNNER_FAILED))?;
        Some(format!(
            "{runner} did not run the image: see whether `{runner} info` works and the image is \
             there, or say what `rouse dev` shall run instead by the Function's annotation \
             {ANNOTATION_COMMAND}"
        ))
    }
}

/// Why nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such program.
    #[error("the program {program:?} is not on this machine: {advice}")]
    Program {
        /// Its name.
        program: String,
        /// How to get it.
        advice: String,
    },
    /// An image can't be run.
    #[error(
        "images need containers, and this machine has neither podman nor docker: install one of \
         them, or say what `rouse dev` shall run instead by the Function's annotation \
         {ANNOTATION_COMMAND}, such as [\"python3\", \"app.py\"]; it listens on $PORT"
    )]
    Containers,
    /// The annotation is no command.
    #[error(
        "the annotation {ANNOTATION_COMMAND} is {0:?}, which is no command: write a JSON list such \
         as [\"python3\", \"app.py\"], or words with spaces between"
    )]
    Command(String),
    /// There is no such folder.
    #[error("there is no folder {0} to run it in")]
    Folder(String),
}

/// The machine, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The path on which programs are looked for.
    pub path: OsString,
    /// This program itself.
    pub rouse: PathBuf,
}

impl Machine {
    /// Where a program is; one with a slash in its name is not looked for.
    fn find(&self, program: &str) -> Option<PathBuf> {
        let runs = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        split_paths(&self.path).map(|folder| folder.join(program)).find(runs)
    }

    /// What runs images, if there is anything.
    pub fn runner(&self) -> Option<&'static str> {
        RUNNERS.into_iter().find(|runner| self.find(runner).is_some())
    }

    fn check(&self, program: &str) -> Result<(), Refused> {
        if program.contains('/') || self.find(program).is_some() {
            return Ok(());
        }
        Err(Refused::Program { program: program.to_owned(), advice: advice(program) })
    }
}

/// How to get a program.
fn advice(program: &str) -> String {
    let package = match program.split('.').next().unwrap_or(program) {
        "python3" | "python" => Some(("python3", "python")),
        "node" => Some(("nodejs", "node")),
        "java" => Some(("default-jre-headless", "openjdk")),
        "bash" => Some(("bash", "bash")),
        _ => None,
    };
    match package {
        Some((debian, brew)) => {
            format!("install it (`apt install {debian}`, `brew install {brew}`), then call again")
        }
        None => "install it, or mend the PATH of `rouse dev`".to_owned(),
    }
}

/// Whether `pod` has source, which a shim runs.
pub fn has_code(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ANNOTATION_CODE))
}

/// What is started for the container `own` of `pod`, which has these variables.
pub fn decide(
    pod: &Pod,
    own: &Container,
    variables: &Variables,
    machine: &Machine,
) -> Result<Launch, Refused> {
    let meta = &pod.metadata;
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    let label = |name: &str| meta.labels.as_ref()?.get(name).map(String::as_str);
    let kept = |command| Launch { command, folder: None, shim: false, cleanup: Vec::new() };
    let component = label(LABEL_COMPONENT).filter(|_| label(LABEL_FUNCTION).is_none());
    if Resident::ALL.into_iter().any(|resident| component == Some(resident.component())) {
        let rouse = machine.rouse.to_string_lossy().into_owned();
        let words = own.args.iter().flatten().cloned();
        return Ok(kept(std::iter::once(rouse).chain(words).collect()));
    }
    if has_code(pod) {
        let command = expand_all(own.args.as_deref().unwrap_or_default(), variables);
        if let Some(program) = command.first() {
            machine.check(program)?;
        }
        return Ok(Launch { shim: true, ..kept(command) });
    }
    let Some(text) = annotation(ANNOTATION_COMMAND) else {
        return run_image(pod, own, variables, machine);
    };
    let command = parse_command(text).ok_or_else(|| Refused::Command(text.to_owned()))?;
    let command = expand_all(&command, variables);
    if let Some(program) = command.first() {
        machine.check(program)?;
    }
    let folder = annotation(ANNOTATION_FOLDER).map(PathBuf::from);
    if let Some(missing) = folder.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Refused::Folder(missing.display().to_string()));
    }
    Ok(Launch { folder, ..kept(command) })
}

/// A JSON list, or words with spaces between.
fn parse_command(text: &str) -> Option<Vec<String>> {
    let words = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).ok()?
    } else {
        text.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    (!words.is_empty()).then_some(words)
}

/// A container of podman or docker, whose port is that of this machine.
fn run_image(
    pod: &Pod,
    own: &Container,
    variables: &Variables,
    machine: &Machine,
) -> Result<Launch, Refused> {
    let runner = machine.runner().ok_or(Refused::Containers)?;
    let name = format!("rouse-dev-{}", pod.metadata.uid.as_deref().unwrap_or_default());
    let word = |word: &str| word.to_owned();
    let mut command = vec![word(runner), word("run"), word("--rm"), word("--name"), name.clone()];
    for port in own.ports.iter().flatten() {
        let port = port.container_port;
        command.extend([word("--publish"), format!("127.0.0.1:{port}:{port}")]);
    }
    let memory = own.resources.as_ref().and_then(|all| all.limits.as_ref()?.get("memory"));
    if let Some(bytes) = memory.and_then(|memory| rouse_core::usage::parse_quantity(&memory.0)) {
        command.extend([word("--memory"), bytes.to_string()]);
    }
    let told: BTreeMap<&String, &String> = variables.iter().map(|(n, v)| (n, v)).collect();
    for (name, value) in told {
        command.extend([word("--env"), format!("{name}={value}")]);
    }
    let mut words = expand_all(own.command.as_deref().unwrap_or_default(), variables).into_iter();
    if let Some(entrypoint) = words.next() {
        command.extend([word("--entrypoint"), entrypoint]);
    }
    command.push(own.image.clone().unwrap_or_default());
    command.extend(words);
    command.extend(expand_all(own.args.as_deref().unwrap_or_default(), variables));
    let cleanup = vec![word(runner), word("rm"), word("--force"), name];
    Ok(Launch { command, folder: None, shim: false, cleanup })
}

fn expand_all(words: &[String], variables: &Variables) -> Vec<String> {
    let value = |name: &str| {
        let mut last = variables.iter().rev();
        last.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    };
    words.iter().map(|word| expand(word, value)).collect()
}

/// Variables of this process that its children see too: those by which programs are found and
/// speak, and none that may hold a secret.
const PASSED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "VIRTUAL_ENV",
    "JAVA_HOME",
    "NODE_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The variables that are passed on.
pub fn passed() -> impl Iterator<Item = (&'static str, OsString)> {
    PASSED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::place::own_container;

    /// A machine with these programs and no others.
    fn machine_with(programs: &[&str]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            let path = folder.path().join(program);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = folder.path().as_os_str().to_owned();
        (folder, Machine { path, rouse: "/opt/rouse".into() })
    }

    fn launch(annotations: &Value, programs: &[&str]) -> Result<Launch, Refused> {
        let (_folder, machine) = machine_with(programs);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "annotations": annotations},
            "spec": {"containers": [{"name": "function", "image": "shop/x:1",
                "args": ["python3", "$(ROUSE_HANDLER)"],
                "ports": [{"containerPort": 21000}],
                "resources": {"limits": {"memory": "64Mi"}}}]},
        }))
        .unwrap();
        let variables = vec![
            ("PORT".to_owned(), "21000".to_owned()),
            ("ROUSE_HANDLER".to_owned(), "app.py".to_owned()),
        ];
        decide(&pod, own_container(&pod).unwrap(), &variables, &machine)
    }

    #[test]
    fn code_is_run_by_the_machines_own_program_or_it_is_said_how_to_get_it() {
        let code = json!({ANNOTATION_CODE: "pushed"});
        let found = launch(&code, &["python3"]).unwrap();
        assert_eq!((&*found.command.join(" "), found.shim), ("python3 app.py", true));
        let said = launch(&code, &["node"]).unwrap_err().to_string();
        assert!(said.contains("\"python3\"") && said.contains("apt install python3"), "{said}");
    }

    #[test]
    fn an_image_is_run_by_its_annotation_or_in_a_container_or_not_at_all() {
        for text in ["[\"serve\", \"--at\", \"$(PORT)\"]", "serve --at  $(PORT)"] {
            let found = launch(&json!({ANNOTATION_COMMAND: text}), &["serve", "podman"]).unwrap();
            assert_eq!((&*found.command.join(" "), found.shim), ("serve --at 21000", false));
        }
        for text in ["", "[]", "[1]", "[\"serve\""] {
            let refused = launch(&json!({ANNOTATION_COMMAND: text}), &["serve"]).unwrap_err();
            assert!(matches!(refused, Refused::Command(_)), "{refused}");
        }
        let found = launch(&json!({}), &["docker"]).unwrap();
        let line = found.command.join(" ");
        assert!(
            line.starts_with("docker run --rm --name rouse-dev-u --publish 127.0.0.1:21000:21000")
        );
        assert!(
            line.ends_with("--env PORT=21000 --env ROUSE_HANDLER=app.py shop/x:1 python3 app.py")
        );
        assert!(line.contains("--memory 67108864"), "{line}");
        assert_eq!(found.advice(Some(1)), None);
        let advice = found.advice(Some(RUNNER_FAILED)).unwrap();
        assert!(advice.contains("docker info"), "{advice}");
        let said = launch(&json!({}), &[]).unwrap_err().to_string();
        assert!(said.contains(ANNOTATION_COMMAND), "{said}");
    }
}
