//! A task message's body: arguments, keyword arguments and the embedded signatures.

use std::borrow::Cow;

use celeriac_core::{Error, Result};

use crate::serializer::{Entry, Serializer};

/// The three parts of a task's body, each value still encoded.
///
/// # Wire format
/// A list of exactly three elements: list, map, map (`docs/internals/protocol.rst`, celery 5.7). A body of two kills a
/// Python worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body<'a> {
    /// The positional arguments.
    pub args: Vec<Cow<'a, [u8]>>,
    /// The keyword arguments, in order.
    pub kwargs: Vec<Entry<'a>>,
    /// Callbacks, errbacks, chain and chord, as one encoded map.
    pub embed: Cow<'a, [u8]>,
}

impl<'a> Body<'a> {
    /// An embed with nothing in it, as it is written here and, in JSON, by Python: nearly every message has one, and need not decode it.
    pub const PLAIN_EMBEDS: [&'static [u8]; 2] = [
        br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#,
        br#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#,
    ];

    /// Takes a body apart, copying nothing where the format allows.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) naming what is wrong: no list, not three elements,
    /// arguments that are no list, keyword arguments that are no map.
    pub fn split(format: &dyn Serializer, data: &'a [u8]) -> Result<Self> {
        format.split_body(data)
    }

    /// Puts `arg` before the positional arguments: a chain's next task takes the result first.
    pub fn prepend(&mut self, arg: impl Into<Cow<'a, [u8]>>) {
        self.args.insert(0, arg.into());
    }

    /// Puts the parts together.
    ///
    /// # Errors
    /// As [`Serializer::join_list`].
    pub fn join(&self, format: &dyn Serializer) -> Result<Vec<u8>> {
        let args: Vec<&[u8]> = self.args.iter().map(AsRef::as_ref).collect();
        let kwargs: Vec<(&str, &[u8])> =
            self.kwargs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
        let (mut joined_args, mut joined_kwargs, mut out) = (Vec::new(), Vec::new(), Vec::new());
        format.join_list(&args, &mut joined_args)?;
        format.join_map(&kwargs, &mut joined_kwargs)?;
        format.join_list(&[&joined_args, &joined_kwargs, &self.embed], &mut out)?;
        Ok(out)
    }
}

/// Takes a body apart, part by part.
pub(crate) fn split_parts<'a, S: Serializer + ?Sized>(format: &S, data: &'a [u8]) -> Result<Body<'a>> {
    let parts = format.split_list(data).map_err(|error| wrong("the body is not a list", error))?;
    let count = parts.len();
    let [args, kwargs, embed] = <[Cow<'a, [u8]>; 3]>::try_from(parts)
        .map_err(|_| Error::malformed("split body", format!("the body has {count} elements, not 3")))?;
    Ok(Body {
        args: split_part(
            args,
            |data| format.split_list(data),
            |data| Ok(format.split_list(data)?.into_iter().map(owned).collect()),
        )
        .map_err(|error| wrong("the positional arguments are not a list", error))?,
        kwargs: split_part(
            kwargs,
            |data| format.split_map(data),
            |data| {
                let entries = format.split_map(data)?;
                Ok(entries.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), owned(value))).collect())
            },
        )
        .map_err(|error| wrong("the keyword arguments are not a map", error))?,
        embed,
    })
}

/// Splits a part in place if it borrows from the body, else into parts that own their bytes.
fn split_part<'a, T>(
    part: Cow<'a, [u8]>,
    borrowed: impl FnOnce(&'a [u8]) -> Result<T>,
    owned: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    match part {
        Cow::Borrowed(data) => borrowed(data),
        Cow::Owned(data) => owned(&data),
    }
}

fn owned(bytes: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
    Cow::Owned(bytes.into_owned())
}

fn wrong(what: &'static str, error: Error) -> Error {
    Error::new(error.kind(), "split body", what).with_source(error)
}
