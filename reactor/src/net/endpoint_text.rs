//! Endpoints as text, for configuration files and arguments.
//!
//! A description is a kind followed by arguments, separated by colons, as in Twisted's
//! `clientFromString` and `serverFromString`. An argument is `name=value`, or a value alone, in the
//! order that the kind defines. A backslash escapes the next character.
//!
//! | kind   | arguments, those with a place first                  |
//! |--------|-------------------------------------------------------|
//! | `tcp`  | `host`, `port`; `timeout` in seconds, `bindAddress`   |
//! | `tcp`, to listen | `port`; `interface` |
//! | `unix` | `path`; `timeout` in seconds for clients, `mode` (octal) for servers |

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointError {
    /// The text as it was given.
    pub text: String,
    /// Why it is not an endpoint.
    pub problem: EndpointProblem,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointProblem {
    /// It is neither a host and a port, nor does it begin with a known kind.
    NotAnEndpoint,
    /// It is no interface and port to listen on.
    NotAnAddress,
    /// An argument is missing.
    Missing {
        /// The name of the argument.
        argument: &'static str,
    },
    /// The kind has no argument of this name.
    Unknown {
        /// The argument as it was given.
        argument: String,
    },
    /// An argument was given twice.
    Twice {
        /// The name of the argument.
        argument: &'static str,
    },
    /// The value of an argument has the wrong form.
    Value {
        /// The name of the argument.
        argument: &'static str,
        /// The value as it was given.
        value: String,
        /// The expected form.
        wanted: &'static str,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.escape_debug();
        match &self.problem {
            EndpointProblem::NotAnEndpoint => write!(
                f,
                "\"{text}\" is no endpoint: write \"host:port\", \"tcp:host=example.org:port=80\" or \
                 \"unix:/path\""
            ),
            EndpointProblem::NotAnAddress => write!(
                f,
                "\"{text}\" is no address to listen on: write \"127.0.0.1:8000\", \"localhost:8000\" or \
                 \"tcp:port=8000\""
            ),
            EndpointProblem::Missing { argument } => {
                write!(
                    f,
                    "the endpoint \"{text}\" has no {argument}: add \"{argument}=...\""
                )
            }
            EndpointProblem::Unknown { argument } => write!(
                f,
                "the endpoint \"{text}\" has an argument \"{}\" that is not known; a colon inside a \
                 value has a backslash before it",
                argument.escape_debug()
            ),
            EndpointProblem::Twice { argument } => {
                write!(f, "the endpoint \"{text}\" has its {argument} twice")
            }
            EndpointProblem::Value {
                argument,
                value,
                wanted,
            } => write!(
                f,
                "the {argument} of the endpoint \"{text}\" is \"{}\", and should be {wanted}",
                value.escape_debug()
            ),
        }
    }
}

impl Error for EndpointError {}

/// The arguments of a description, with their names.
pub(super) struct Description {
    text: String,
    arguments: Vec<(&'static str, String)>,
}

impl Description {
    /// Parses `text` as a description of this kind. `None` if it is of another kind.
    ///
    /// The first `placed` arguments of `known` may be given without their names, in this order.
    pub(super) fn parse(
        text: &str,
        kind: &str,
        known: &[&'static str],
        placed: usize,
    ) -> Option<Result<Self, EndpointError>> {
        let rest = text.strip_prefix(kind)?.strip_prefix(':')?;
        let mut found = Self {
            text: text.to_owned(),
            arguments: Vec::new(),
        };
        let outcome = split(rest)
            .into_iter()
            .enumerate()
            .try_for_each(|(place, (name, value))| found.add(place, name, value, known, placed));
        Some(outcome.map(|()| found))
    }

    fn add(
        &mut self,
        place: usize,
        name: Option<String>,
        value: String,
        known: &[&'static str],
        placed: usize,
    ) -> Result<(), EndpointError> {
        let argument = match &name {
            Some(name) => known.iter().find(|known| *known == name),
            None => known[..placed].get(place),
        };
        let Some(&argument) = argument else {
            let argument = name.unwrap_or(value);
            return Err(self.error(EndpointProblem::Unknown { argument }));
        };
        if self.arguments.iter().any(|(known, _)| *known == argument) {
            return Err(self.error(EndpointProblem::Twice { argument }));
        }
        self.arguments.push((argument, value));
        Ok(())
    }

    /// Takes a required argument.
    pub(super) fn required(&mut self, argument: &'static str) -> Result<String, EndpointError> {
        self.optional(argument)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.error(EndpointProblem::Missing { argument }))
    }

    pub(super) fn optional(&mut self, argument: &'static str) -> Option<String> {
        let index = self
            .arguments
            .iter()
            .position(|(name, _)| *name == argument)?;
        Some(self.arguments.swap_remove(index).1)
    }

    /// Reads a value.
    pub(super) fn read<T>(
        &self,
        argument: &'static str,
        value: String,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, EndpointError> {
        read(&value).ok_or_else(|| {
            self.error(EndpointProblem::Value {
                argument,
                value,
                wanted,
            })
        })
    }

    /// Takes the required argument `port`.
    pub(super) fn port(&mut self) -> Result<u16, EndpointError> {
        let port = self.required("port")?;
        self.read("port", port, "a number up to 65535", |port| {
            port.parse().ok()
        })
    }

    /// Takes the argument `timeout`, if it is given.
    pub(super) fn timeout(&mut self) -> Result<Option<Duration>, EndpointError> {
        self.optional("timeout")
            .map(|value| {
                self.read("timeout", value, "a number of seconds", |value| {
                    Duration::try_from_secs_f64(value.parse().ok()?).ok()
                })
            })
            .transpose()
    }

    fn error(&self, problem: EndpointProblem) -> EndpointError {
        EndpointError {
            text: self.text.clone(),
            problem,
        }
    }
}

/// Splits at colons; returns arguments with their names, if they have one.
fn split(text: &str) -> Vec<(Option<String>, String)> {
    let mut arguments = Vec::new();
    let (mut name, mut value) = (None, String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            ':' => arguments.push((name.take(), std::mem::take(&mut value))),
            '=' if name.is_none() => name = Some(std::mem::take(&mut value)),
            character => value.push(character),
        }
    }
    arguments.push((name, value));
    arguments
}
