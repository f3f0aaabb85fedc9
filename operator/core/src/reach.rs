//! Whether whoever is asked has a route for an object as it is written: activators tell how far
//! their routes go, and nobody is told to call before all know.

use crate::function::status::Trouble;
use crate::report::Routed;

/// What one activator of the membership says.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// Name of the activator's pod.
    pub name: &'a str,
    /// How far its routes go; none while it is not heard.
    pub routed: Option<Routed>,
    /// Whether it may be heard soon, where it is not.
    pub awaited: bool,
}

/// Which activators have routes for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Everywhere,
    /// Not all.
    Partial {
        /// How many have.
        knowing: usize,
        /// Of how many.
        of: usize,
        /// Name of one that has not.
        lacking: String,
    },
    /// There is none.
    NoActivator,
    /// It is not known yet which activators there are.
    Unknown,
}

impl Reach {
    /// What the activators' `voices` say of an object that needs routes as far as `needed`.
    ///
    /// One that has not been heard for long does not count: it would hold up every Function of the
    /// cluster. Where none is heard all count, for then nothing at all is known.
    pub fn of(voices: &[Voice<'_>], needed: Routed) -> Self {
        let counts = |voice: &&Voice<'_>| voice.routed.is_some() || voice.awaited;
        let any = voices.iter().any(|voice| counts(&voice));
        let knows = |voice: &Voice<'_>| voice.routed.is_some_and(|routed| routed.covers(needed));
        let (mut knowing, mut of, mut lacking) = (0, 0, None);
        for voice in voices.iter().filter(|voice| !any || counts(voice)) {
            of += 1;
            if knows(voice) {
                knowing += 1;
            } else {
                lacking = lacking.or(Some(voice.name));
            }
        }
        match lacking {
            Some(lacking) => Self::Partial { knowing, of, lacking: lacking.to_owned() },
            None if of == 0 => Self::NoActivator,
            None => Self::Everywhere,
        }
    }

    /// What an object of this kind says while it is not reached everywhere.
    pub fn trouble(&self, kind: &str) -> Option<Trouble> {
        let (reason, message) = match self {
            Self::Everywhere => return None,
            Self::Partial { knowing, of, lacking } => {
                let (activators, know) = match (of, knowing) {
                    (1, _) => ("activator", "knows"),
                    (_, 1) => ("activators", "knows"),
                    _ => ("activators", "know"),
                };
                let message = format!(
                    "{knowing} of {of} {activators} {know} the {kind} as it is written; waiting \
                     for {lacking}"
                );
                ("Propagating", message)
            }
            Self::NoActivator => (
                "NoActivator",
                format!("no activator is ready, so that nobody takes requests for the {kind}"),
            ),
            Self::Unknown => {
                ("Propagating", "it is not known yet which activators there are".to_owned())
            }
        };
        Some(Trouble { reason, message, passing: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Routed = Routed { functions: 10, triggers: 0 };

    fn heard(name: &str, functions: u64) -> Voice<'_> {
        Voice { name, routed: Some(Routed { functions, triggers: 0 }), awaited: false }
    }

    fn silent(name: &str, awaited: bool) -> Voice<'_> {
        Voice { name, routed: None, awaited }
    }

    fn says(voices: &[Voice<'_>]) -> String {
        let trouble = Reach::of(voices, NEEDED).trouble("Function");
        trouble.map_or_else(String::new, |trouble| {
            assert!(trouble.passing);
            format!("{}: {}", trouble.reason, trouble.message)
        })
    }

    #[test]
    fn all_that_are_heard_must_know() {
        assert_eq!(Reach::of(&[heard("a", 10), heard("b", 11)], NEEDED), Reach::Everywhere);
        assert_eq!(
            says(&[heard("a", 10), heard("b", 9)]),
            "Propagating: 1 of 2 activators knows the Function as it is written; waiting for b"
        );
        assert_eq!(
            says(&[heard("a", 0)]),
            "Propagating: 0 of 1 activator knows the Function as it is written; waiting for a"
        );
    }

    #[test]
    fn both_numbers_must_be_reached() {
        let needed = Routed { functions: 10, triggers: 5 };
        assert!(matches!(Reach::of(&[heard("a", 10)], needed), Reach::Partial { .. }));
        let routed = Some(Routed { functions: 10, triggers: 5 });
        let voice = Voice { name: "a", routed, awaited: false };
        assert_eq!(Reach::of(&[voice], needed), Reach::Everywhere);
    }

    #[test]
    fn one_that_is_silent_counts_for_a_while() {
        assert!(says(&[heard("a", 10), silent("b", true)]).starts_with("Propagating: 1 of 2"));
        assert_eq!(says(&[heard("a", 10), silent("b", false)]), "");
    }

    #[test]
    fn where_none_is_heard_none_knows() {
        assert!(says(&[silent("a", false), silent("b", false)]).starts_with("Propagating: 0 of 2"));
        assert!(says(&[]).starts_with("NoActivator: "));
    }
}
