//! What RabbitMQ says when it refuses a declaration, in the terms of a `QueueSpec`.

use celeriac_core::{Error, ErrorKind};

use super::DECLARE;
use super::declaration::OPTIONS;
use crate::error::Fault;

/// The error of a declaration that was refused.
pub(super) fn explained(fault: Fault) -> Error {
    match fault {
        Fault::Closed { code: 406, text, error } => {
            let why = difference(&text).or_else(|| invalid(&text)).unwrap_or_else(|| text.clone());
            Error::new(ErrorKind::Config, DECLARE, why).with_source(error.report())
        }
        fault => fault.into_error(),
    }
}

/// Reads `PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of
/// type 'signedint'`. The server cuts it off at 255 bytes.
fn difference(text: &str) -> Option<String> {
    let (_, text) = text.split_once("inequivalent arg '")?;
    let (argument, text) = text.split_once("' for ")?;
    let (what, text) = text.split_once(" '")?;
    let (name, text) = text.split_once("' in vhost ").unwrap_or((text, ""));
    let option = option(argument);
    let mut why = match (what, argument) {
        ("exchange", "type") => format!("exchange `{name}` exists with another kind"),
        _ => format!("{what} `{name}` exists with another `{option}`"),
    };
    if let Some((_, values)) = text.split_once("received ") {
        let (wished, there) = values.split_once(" but current is ").unwrap_or((values, "?"));
        why += &format!(": it has {}, and was to have {}", value(there), value(wished));
    }
    Some(why)
}

/// Reads `PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow`, also with `property` for `arg`.
fn invalid(text: &str) -> Option<String> {
    let (_, text) = text.split_once("invalid ")?;
    let (_, text) = text.split_once(" '")?;
    let (argument, text) = text.split_once("' for ")?;
    let (what, text) = text.split_once(" '")?;
    let (name, text) = text.split_once("' in vhost ").or_else(|| text.split_once('\''))?;
    let why = text.split_once(": ").map_or(text, |(_, why)| why);
    Some(format!("{what} `{name}` cannot have such an option `{}`: {}", option(argument), why.trim()))
}

fn option(argument: &str) -> &str {
    OPTIONS.iter().find(|(name, _)| *name == argument).map_or(argument, |(_, option)| option)
}

/// `the value '10' of type 'signedint'` without the words; and `none`, `'true'`.
fn value(text: &str) -> String {
    let text = text.strip_prefix("the value ").unwrap_or(text);
    let text = text.split_once(" of type ").map_or(text, |(value, _)| value);
    format!("`{}`", text.trim_matches('\''))
}

/// The queue that a refused declaration is about.
pub(super) fn queue_of(text: &str) -> Option<&str> {
    let (_, text) = text.split_once(" for queue '")?;
    text.split('\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let said = |text: &str| difference(text).or_else(|| invalid(text)).unwrap();
        assert_eq!(
            said(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'"
            ),
            "queue `q` exists with another `max_priority`: it has `10`, and was to have `none`"
        );
        assert_eq!(
            said(
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'fanout'"
            ),
            "exchange `e` exists with another kind: it has `fanout`, and was to have `direct`"
        );
        assert!(said("inequivalent arg 'durable' for queue 'a name that is cut o").contains("`durable`"));
        assert_eq!(
            said("PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow"),
            "queue `q` cannot have such an option `x-overflow`: invalid_overflow"
        );
        assert_eq!(difference("NOT_FOUND - no queue 'q'"), None);
        assert_eq!(invalid("PRECONDITION_FAILED - invalid "), None);
    }
}
