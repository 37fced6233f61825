//! The items that `#[celeriac::task]` expands to, as small as they can be. Stands in for `celeriac` in the tests of the macro.
#![allow(missing_docs, missing_debug_implementations, clippy::all, reason = "a stub")]

use std::marker::PhantomData;
use std::time::Duration;

pub use celeriac_macros::task;
use serde_json::Value;

pub struct TaskContext {
    pub db: i64,
}

impl TaskContext {
    pub fn retries(&self) -> u32 {
        0
    }
}

#[derive(Debug)]
pub struct TaskError(pub String);

impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub type TaskResult<T = (), E = TaskError> = Result<T, E>;

pub struct State<T>(pub T);

#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    pub acks_late: Option<bool>,
    pub compression: Option<String>,
    pub expires: Option<Duration>,
    pub ignore_result: Option<bool>,
    pub priority: Option<u8>,
    pub queue: Option<String>,
    pub result_expires: Option<Duration>,
    pub serializer: Option<String>,
    pub track_started: Option<bool>,
}

#[derive(Debug)]
pub struct TypedSignature<T> {
    pub name: &'static str,
    pub args: Vec<Value>,
    output: PhantomData<fn() -> T>,
}

#[doc(hidden)]
pub mod __private {
    use std::future::Future;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be an argument of a task",
        label = "not an argument",
        note = "an argument is `Serialize + DeserializeOwned + Send + 'static`: derive serde's `Serialize` and `Deserialize` for it"
    )]
    pub trait TaskArgument: Serialize + DeserializeOwned + Send + 'static {}
    #[diagnostic::do_not_recommend]
    impl<T: Serialize + DeserializeOwned + Send + 'static> TaskArgument for T {}

    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be the result of a task",
        label = "not a result",
        note = "a result is `Serialize + DeserializeOwned + Send + 'static`: derive serde's `Serialize` and `Deserialize` for it"
    )]
    pub trait TaskOutput: Serialize + DeserializeOwned + Send + 'static {}
    #[diagnostic::do_not_recommend]
    impl<T: Serialize + DeserializeOwned + Send + 'static> TaskOutput for T {}

    pub trait Define: Send + 'static {
        const NAME: &'static str;
        const PARAMETERS: &'static [&'static str];
        type Output;
        fn options() -> TaskOptions;
    }

    pub trait Task: Define {
        const BLOCKING: bool;
        fn run<'a>(
            cx: &'a TaskContext,
            args: Arguments<'a>,
        ) -> impl Future<Output = TaskResult<Self::Output>> + Send + 'a;
    }

    pub struct Arguments<'a> {
        pub values: &'a [(&'a str, &'a str)],
        pub taken: usize,
    }

    impl Arguments<'_> {
        pub fn required<T: TaskArgument>(&mut self, name: &'static str) -> TaskResult<T> {
            self.or_missing(name)?.map_or_else(
                || Ok(serde_json::from_str("null").map_err(|_| TaskError(format!("missing `{name}`")))?),
                Ok,
            )
        }

        pub fn or_else<T: TaskArgument>(&mut self, name: &'static str, default: impl FnOnce() -> T) -> TaskResult<T> {
            Ok(self.or_missing(name)?.unwrap_or_else(default))
        }

        fn or_missing<T: TaskArgument>(&mut self, name: &str) -> TaskResult<Option<T>> {
            let Some((_, text)) = self.values.iter().find(|(known, _)| *known == name) else { return Ok(None) };
            self.taken += 1;
            Ok(Some(serde_json::from_str(text)?))
        }

        pub fn finish(self) -> TaskResult<()> {
            if self.taken == self.values.len() { Ok(()) } else { Err(TaskError("too many".to_owned())) }
        }
    }

    #[diagnostic::on_unimplemented(message = "`{Self}` cannot be taken from the worker")]
    pub trait FromContext: Sized {
        fn from_context(cx: &TaskContext) -> TaskResult<Self>;
    }

    impl FromContext for State<i64> {
        fn from_context(cx: &TaskContext) -> TaskResult<Self> {
            Ok(State(cx.db))
        }
    }

    pub trait IntoArguments {
        fn values(self) -> Vec<Value>;
    }
    macro_rules! tuples {
        ($(($($name:ident)*))*) => {$(
            #[allow(non_snake_case, reason = "type parameters")]
            impl<$($name: TaskArgument),*> IntoArguments for ($($name,)*) {
                fn values(self) -> Vec<Value> {
                    let ($($name,)*) = self;
                    vec![$(serde_json::to_value($name).unwrap()),*]
                }
            }
        )*};
    }
    tuples!(() (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F));

    pub fn signature<D: Define, A: IntoArguments>(args: A) -> TypedSignature<D::Output> {
        TypedSignature { name: D::NAME, args: args.values(), output: PhantomData }
    }

    pub fn queue_name(name: &'static str) -> String {
        name.to_owned()
    }

    pub fn priority(level: u8) -> u8 {
        level
    }

    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be the error of a task",
        note = "it must convert into `TaskError`, as every `std::error::Error` does"
    )]
    pub trait IntoTaskError {
        fn into_task_error(self) -> TaskError;
    }
    #[diagnostic::do_not_recommend]
    impl<E: Into<TaskError>> IntoTaskError for E {
        fn into_task_error(self) -> TaskError {
            self.into()
        }
    }

    pub fn into_task_error<E: IntoTaskError>(error: E) -> TaskError {
        error.into_task_error()
    }
}
