//! Calls: a task with its arguments and options, ready to be sent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use celeriac_core::value::to_value;
use celeriac_core::{Error, Map, Priority, QueueName, Result, Signature, TaskId, TaskName, Timestamp, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::{CallOptions, TaskOptions};

/// What can be an argument of a task: anything serde writes and reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task",
    label = "this argument cannot be written to and read from a message",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, and make it `Send + Sync + 'static`"
)]
pub trait TaskArgument: Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> TaskArgument for T {}

/// What can be the output of a task: anything serde writes and reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of a task",
    label = "this output cannot be written to and read from a result",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, and make it `Send + 'static`"
)]
pub trait TaskOutput: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskOutput for T {}

/// A task's definition, as its senders know it. `#[celeriac::task]` writes it.
pub trait Define: 'static {
    /// The name that it is sent and registered under.
    const NAME: &'static str;
    /// The names of its parameters, in order.
    const PARAMETERS: &'static [&'static str];
    /// What it returns when it succeeds.
    type Output: TaskOutput;
    /// The options it is defined with.
    #[must_use]
    fn options() -> TaskOptions;
}

/// The arguments of a call, erased: each is visited once, in order, positional ones without a name.
pub trait CallArgs: Send + Sync {
    /// Shows every argument to `visit`.
    ///
    /// # Errors
    /// The first that `visit` returns.
    fn visit(&self, visit: &mut Visit<'_>) -> Result<()>;
}

/// Sees one argument: its name, if it is a keyword argument, and its value.
pub type Visit<'v> = dyn FnMut(Option<&str>, Argument<'_>) -> Result<()> + 'v;

/// The value of an argument, as its sender has it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Argument<'a> {
    /// A value of the parameter's own type.
    Typed(&'a dyn erased_serde::Serialize),
    /// A value whose parameter's type the sender does not know. Formats that do not describe themselves write it so that any type can be read
    /// from it.
    Value(&'a Value),
}

impl fmt::Debug for Argument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may be secret.
        f.write_str("Argument")
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Serialize + Send + Sync),*> CallArgs for ($($name,)*) {
            #[allow(non_snake_case, reason = "the type parameters' names serve for the values too")]
            fn visit(&self, _visit: &mut Visit<'_>) -> Result<()> {
                let ($($name,)*) = self;
                $(_visit(None, Argument::Typed($name))?;)*
                Ok(())
            }
        }
    };
}

macro_rules! all_tuples {
    ($($name:ident)*) => { all_tuples!(@ [] $($name)*); };
    (@ [$($done:ident)*]) => { tuples!($($done)*); };
    (@ [$($done:ident)*] $next:ident $($rest:ident)*) => {
        tuples!($($done)*);
        all_tuples!(@ [$($done)* $next] $($rest)*);
    };
}

all_tuples!(A B C D E F G H I J K L M N O P);

/// Arguments of a signature made by name.
struct ValueArgs {
    args: Vec<Value>,
    kwargs: Map,
}

impl CallArgs for ValueArgs {
    fn visit(&self, visit: &mut Visit<'_>) -> Result<()> {
        for value in &self.args {
            visit(None, Argument::Value(value))?;
        }
        for (name, value) in &self.kwargs {
            visit(Some(name), Argument::Value(value))?;
        }
        Ok(())
    }
}

/// A task to be called, with the type of its output: what `add::s(2, 3)` makes.
///
/// Options are set by chaining, and hold for this call alone.
#[must_use = "a signature does nothing until it is sent"]
pub struct TypedSignature<R> {
    pub(crate) task: TaskName,
    pub(crate) args: Box<dyn CallArgs>,
    pub(crate) definition: Option<fn() -> TaskOptions>,
    pub(crate) options: CallOptions,
    /// What was wrong with an option; told when the call is sent.
    pub(crate) error: Option<Error>,
    output: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for TypedSignature<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSignature")
            .field("task", &self.task)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A call of the defined task `T` with `args`. What the code written by `#[celeriac::task]` calls.
pub fn signature<T: Define, A: CallArgs + 'static>(args: A) -> TypedSignature<T::Output> {
    TypedSignature {
        task: TaskName::from_static(T::NAME),
        args: Box::new(args),
        definition: Some(T::options),
        options: CallOptions::default(),
        error: None,
        output: PhantomData,
    }
}

impl<R> TypedSignature<R> {
    /// The task's name.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.task
    }

    /// The call as data, for what keeps it: arguments as values, and all options, those that the task is defined with too.
    ///
    /// # Errors
    /// What sending it would tell: an option that cannot be, an argument that cannot be written.
    pub fn into_signature(self) -> Result<Signature> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let options = match self.definition {
            Some(definition) => self.options.or(definition()),
            None => self.options,
        };
        let mut signature = Signature::new(self.task);
        signature.options = options.to_map();
        self.args.visit(&mut |name, argument| {
            let value = match argument {
                Argument::Typed(value) => to_value(value)?,
                Argument::Value(value) => value.clone(),
            };
            match name {
                None => signature.args.push(value),
                Some(name) => drop(signature.kwargs.insert(name, value)),
            }
            Ok(())
        })?;
        Ok(signature)
    }

    fn checked<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.error.get_or_insert(error)).ok()
    }

    /// Sends it to this queue. Default: the task's, else the routing table's, else the default queue.
    ///
    /// A name that cannot be a queue's is told when the call is sent.
    pub fn queue(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.queue = self.checked(QueueName::new(name));
        self
    }

    /// Sets its priority, 0 to 255, higher first. Default: the task's, else 0.
    pub fn priority(mut self, priority: impl Into<Priority>) -> Self {
        self.options.priority = Some(priority.into());
        self
    }

    /// Does not start it before this long from now.
    pub fn countdown(mut self, wait: Duration) -> Self {
        self.options.countdown = Some(wait);
        self
    }

    /// Does not start it before this instant. Wins over a countdown.
    pub fn eta(mut self, instant: impl Into<Timestamp>) -> Self {
        self.options.eta = Some(instant.into());
        self
    }

    /// Does not start it after this long from now: it is then revoked.
    pub fn expires(mut self, after: Duration) -> Self {
        self.options.expires = Some(after);
        self
    }

    /// Does not start it after this instant: it is then revoked.
    pub fn expires_at(mut self, instant: impl Into<Timestamp>) -> Self {
        self.options.expires_at = Some(instant.into());
        self
    }

    /// Sends it under this id. Default: a fresh one.
    ///
    /// A text that cannot be an id is told when the call is sent.
    pub fn task_id(mut self, id: impl Into<Cow<'static, str>>) -> Self {
        self.options.task_id = self.checked(TaskId::new(id));
        self
    }

    /// Adds a header of the caller's own.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.headers.insert(name, value);
        self
    }

    /// Writes the body in this format, by name, such as `msgpack`. Default: the task's, else the producer's.
    pub fn serializer(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.serializer = Some(name.into());
        self
    }

    /// Compresses the body, by Celery's name, such as `zlib`. Default: the task's, else none.
    pub fn compression(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.compression = Some(name.into());
        self
    }

    /// Whether no result is stored. Default: the task's, else it is.
    pub fn ignore_result(mut self, ignore: bool) -> Self {
        self.options.ignore_result = Some(ignore);
        self
    }

    /// Sets a name to show instead of the task's.
    pub fn shadow(mut self, name: impl Into<String>) -> Self {
        self.options.shadow = Some(name.into());
        self
    }

    /// Has a worker in Python ask it to end after it has run for so long. Workers in Rust have no limits.
    pub fn soft_time_limit(mut self, limit: Duration) -> Self {
        self.options.soft_time_limit = Some(limit);
        self
    }

    /// Has a worker in Python end it by force after it has run for so long. Workers in Rust have no limits.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.options.time_limit = Some(limit);
        self
    }
}

/// Whatever can be sent: a [`TypedSignature`], or a [`Signature`] made by name, whose output is a [`Value`].
pub trait IntoCall {
    /// The type of the result.
    type Output;
    /// Turns it into a call.
    fn into_call(self) -> TypedSignature<Self::Output>;
}

impl<R> IntoCall for TypedSignature<R> {
    type Output = R;
    fn into_call(self) -> Self {
        self
    }
}

impl IntoCall for Signature {
    type Output = Value;
    fn into_call(self) -> TypedSignature<Value> {
        let composite = self.subtask_type.is_some().then(|| {
            Error::unsupported("send", format!("`{}` is a canvas signature; send its tasks one by one", self.task))
        });
        let (options, error) = match CallOptions::from_map(self.options) {
            Ok(options) => (options, None),
            Err(error) => (CallOptions::default(), Some(error)),
        };
        TypedSignature {
            task: self.task,
            args: Box::new(ValueArgs { args: self.args, kwargs: self.kwargs }),
            definition: None,
            options,
            error: composite.or(error),
            output: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use celeriac_core::ErrorKind;

    use super::*;

    struct Mail;

    impl Define for Mail {
        const NAME: &'static str = "mail.send";
        const PARAMETERS: &'static [&'static str] = &["to", "tries"];
        type Output = ();
        fn options() -> TaskOptions {
            TaskOptions {
                queue: Some(QueueName::from_static("mail")),
                priority: Some(Priority(5)),
                ..TaskOptions::default()
            }
        }
    }

    #[test]
    fn a_call_as_data_has_its_arguments_and_the_options_of_its_task() {
        let call = signature::<Mail, _>(("a@b".to_owned(), Some(3))).priority(9).expires(Duration::from_secs(60));
        let expected = Signature::named("mail.send").arg("a@b").arg(3).option("expires", 60);
        let expected = expected.option("priority", 9).option("queue", "mail");
        assert_eq!(call.into_signature().unwrap(), expected);
        let named = Signature::named("mail.send").kwarg("to", "a@b").option("countdown", 1.5);
        assert_eq!(named.clone().into_call().into_signature().unwrap(), named);
    }

    #[test]
    fn a_call_that_cannot_be_sent_cannot_be_kept() {
        let call = signature::<Mail, _>(("a@b".to_owned(),)).queue("");
        assert_eq!(call.into_signature().unwrap_err().kind(), ErrorKind::Config);
        let chain = Signature::chain(vec![Signature::named("a")]);
        assert_eq!(chain.into_call().into_signature().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
