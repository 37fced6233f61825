//! The arguments of one call, decoded one by one into their types.

use std::borrow::Cow;
use std::fmt;

use celeriac_producer::TaskArgument;
use celeriac_serializer::{Body, Serializer, SerializerExt as _};
use serde::Deserializer;
use serde::de::{DeserializeOwned, Visitor};

use crate::error::{TaskError, TaskResult};

/// The arguments of one call, still in the message's format.
///
/// They are taken in the order of the task's parameters, each by position if there is one left, else by name.
pub struct Arguments<'a> {
    task: &'a str,
    format: &'a dyn Serializer,
    positional: std::vec::IntoIter<Cow<'a, [u8]>>,
    keyword: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    given: usize,
    taken: usize,
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may be secret; how many there are is not.
        f.debug_struct("Arguments").field("task", &self.task).field("given", &self.given).finish_non_exhaustive()
    }
}

impl<'a> Arguments<'a> {
    /// The arguments of `body`, written in `format`, for the task named `task`.
    #[must_use]
    pub fn new(task: &'a str, format: &'a dyn Serializer, body: Body<'a>) -> Self {
        Self { task, format, given: body.args.len(), positional: body.args.into_iter(), keyword: body.kwargs, taken: 0 }
    }

    /// Takes the next parameter, named `name`. A missing `Option` is `None`.
    ///
    /// # Errors
    /// A `TypeError` naming the task and the argument, if it is missing, given twice, or of another type.
    pub fn required<T: TaskArgument>(&mut self, name: &str) -> TaskResult<T> {
        match self.take(name)? {
            Some(data) => self.decode(name, &data),
            None => T::deserialize(Missing)
                .map_err(|_| TaskError::type_error(format!("{}() missing required argument: '{name}'", self.task))),
        }
    }

    /// Takes the next parameter, named `name`, or `default` if it is missing.
    ///
    /// # Errors
    /// A `TypeError` naming the task and the argument, if it is given twice or of another type.
    pub fn or_else<T: TaskArgument>(&mut self, name: &str, default: impl FnOnce() -> T) -> TaskResult<T> {
        match self.take(name)? {
            Some(data) => self.decode(name, &data),
            None => Ok(default()),
        }
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// A `TypeError` if there is an argument left that the task does not know.
    pub fn finish(self) -> TaskResult<()> {
        let Self { task, positional, keyword, given, taken, .. } = self;
        if positional.len() > 0 {
            return Err(TaskError::type_error(format!(
                "{task}() takes {taken} positional arguments but {given} were given"
            )));
        }
        match keyword.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(TaskError::type_error(format!("{task}() got an unexpected keyword argument '{name}'")))
            }
        }
    }

    fn take(&mut self, name: &str) -> TaskResult<Option<Cow<'a, [u8]>>> {
        self.taken += 1;
        let named = self.keyword.iter().position(|(keyword, _)| keyword == name);
        match (self.positional.next(), named) {
            (Some(_), Some(_)) => {
                Err(TaskError::type_error(format!("{}() got multiple values for argument '{name}'", self.task)))
            }
            (Some(data), None) => Ok(Some(data)),
            (None, Some(at)) => Ok(Some(self.keyword.swap_remove(at).1)),
            (None, None) => Ok(None),
        }
    }

    fn decode<T: DeserializeOwned>(&self, name: &str, data: &[u8]) -> TaskResult<T> {
        self.format.from_bytes(data).map_err(|error| {
            TaskError::type_error(format!(
                "{}() argument '{name}' is of the wrong type: {}",
                self.task,
                error.message()
            ))
        })
    }
}

/// Deserialises to the `None` of an option, and to nothing else: how serde treats a field that is missing.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
