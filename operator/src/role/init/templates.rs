//! What there is to begin with: folders of `operator/templates`, in the program itself.

use super::args::{Contract, Language};

/// The name that a Function has in all of them.
pub const NAME: &str = "my-function";

/// A folder to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Language of the code.
    pub language: Language,
    /// What it speaks.
    pub contract: Contract,
    /// Its files: their places, and what is in them.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! templates {
    ($($language:ident $contract:ident $folder:literal: $($file:literal)*;)*) => {
        /// All that there are.
        pub const TEMPLATES: &[Template] = &[$(Template {
            language: Language::$language,
            contract: Contract::$contract,
            files: &[$((
                $file,
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $folder, "/", $file)),
            ),)*],
        },)*];
        #[cfg(test)]
        const FOLDERS: &[&str] = &[$($folder,)*];
    };
}

templates! {
    Python Http "python-http": "server.py" "function.yaml";
    Python Lambda "python-lambda": "app.py" "function.yaml";
    Python FunctionsFramework "python-functions-framework": "main.py" "function.yaml";
    Python Cloudevents "python-cloudevents": "server.py" "function.yaml";
    Python Azure "python-azure": "server.py" "host.json" "hello/function.json" "function.yaml";
    Node Http "node-http": "server.js" "function.yaml";
    Node Lambda "node-lambda": "index.mjs" "function.yaml";
    Node FunctionsFramework "node-functions-framework": "index.js" "function.yaml";
    Node Cloudevents "node-cloudevents": "server.js" "function.yaml";
    Node Azure "node-azure": "server.js" "host.json" "hello/function.json" "function.yaml";
    Bash Lambda "bash-lambda": "hello.sh" "function.yaml";
    Go Http "go-http": "main.go" "go.mod" "function.yaml";
    Go Lambda "go-lambda": "main.go" "go.mod" "go.sum" "function.yaml";
    Go FunctionsFramework "go-functions-framework": "main.go" "go.mod" "go.sum" "function.yaml";
    Go Cloudevents "go-cloudevents": "main.go" "go.mod" "function.yaml";
    Go Azure "go-azure": "main.go" "go.mod" "host.json" "hello/function.json" "function.yaml";
    Rust Http "rust-http": "src/main.rs" "Cargo.toml" ".gitignore" "function.yaml";
    Rust Lambda "rust-lambda": "src/main.rs" "Cargo.toml" ".gitignore" "function.yaml";
    Rust Cloudevents "rust-cloudevents": "src/main.rs" "Cargo.toml" ".gitignore" "function.yaml";
    Rust Azure "rust-azure": "src/main.rs" "Cargo.toml" ".gitignore" "host.json" "hello/function.json"
        "function.yaml";
}

/// The one of this language and contract; none where it makes no sense.
pub fn find(language: Language, contract: Contract) -> Option<&'static Template> {
    TEMPLATES.iter().find(|it| it.language == language && it.contract == contract)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::ValueEnum;

    use super::*;

    fn word(value: &impl ValueEnum) -> String {
        value.to_possible_value().unwrap().get_name().to_owned()
    }

    #[test]
    fn every_folder_is_there_with_every_file_and_its_name_says_what_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let folders: BTreeSet<String> = std::fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(folders, FOLDERS.iter().map(|folder| (*folder).to_owned()).collect());
        for (template, folder) in TEMPLATES.iter().zip(FOLDERS) {
            let words = format!("{}-{}", word(&template.language), word(&template.contract));
            assert_eq!(words, **folder);
            let walk = ignore::WalkBuilder::new(root.join(folder)).standard_filters(false).build();
            let files: BTreeSet<String> = walk
                .map(Result::unwrap)
                .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
                .map(|entry| {
                    let place = entry.path().strip_prefix(root.join(folder)).unwrap();
                    place.to_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(files, template.files.iter().map(|(file, _)| (*file).to_owned()).collect());
        }
    }

    #[test]
    fn every_language_and_every_contract_has_one() {
        for language in Language::value_variants() {
            assert!(TEMPLATES.iter().any(|it| it.language == *language), "{language:?}");
        }
        for contract in Contract::value_variants() {
            assert!(TEMPLATES.iter().any(|it| it.contract == *contract), "{contract:?}");
        }
        assert!(find(Language::Bash, Contract::Http).is_none());
    }
}
