//! The `#[celeriac::task]` attribute.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate, which re-exports the attribute. What it expands to names
//! `::celeriac` alone, so a user's `Cargo.toml` needs nothing else.

mod expand;
mod options;
mod params;
mod signature;

use proc_macro::TokenStream;

/// Makes a task of a function.
///
/// The function stays what it is and can still be called. Beside it stands a type of the same name: `add::s(2, 3)` makes the task's
/// signature, and `tasks![add]` registers it with an app. So no module, struct or other type of that name can stand in the same place, and a
/// link to the function from documentation is written ``[`add`](fn@add)``.
///
/// ```ignore
/// use celeriac::prelude::*;
///
/// #[celeriac::task]
/// async fn add(x: i64, y: i64) -> i64 {
///     x + y
/// }
///
/// #[celeriac::task(name = "mail.send", queue = "mail", expires = "30m", ignore_result)]
/// async fn send_mail(cx: &TaskContext, to: String, #[arg(default = 3)] tries: u32, db: State<Db>) -> TaskResult<()> {
///     // ...
/// }
/// ```
///
/// # Options
///
/// What is not set here is left to the call and to the app's configuration.
///
/// | option | takes | meaning |
/// |---|---|---|
/// | `name` | text of 1 to 255 bytes | the name the task is registered and sent under; the function's own name when not given |
/// | `queue` | text of 1 to 255 bytes | the queue its messages go to |
/// | `priority` | 0 to 255 | the priority of its messages; higher is more urgent |
/// | `expires` | a duration | how long after sending a message may still be started |
/// | `ignore_result` | a switch | store no result |
/// | `serializer` | text | how its arguments are encoded, such as `"json"` or `"msgpack"` |
/// | `compression` | text | how its messages are compressed, such as `"zstd"` |
/// | `acks_late` | a switch | acknowledge after the work (repeats the task after a crash) or, with `false`, before it |
/// | `track_started` | a switch | store the state `STARTED` when the work begins |
/// | `result_expires` | a duration | how long its result is kept |
/// | `crate` | a path in quotes | where celeriac is found, when not at `::celeriac` |
///
/// A duration is a whole number of seconds (`expires = 90`) or a whole number with a unit: `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"2d"`.
/// A switch stands alone (`acks_late`) or takes `true` or `false`.
///
/// # Parameters
///
/// - `&TaskContext`, at most one, in any place: the running task. It is not an argument.
/// - `State<T>`: state of the app. It is not an argument.
/// - Everything else is an argument, at most 16 of them: an owned type that serde encodes and decodes. Its name is its keyword for callers
///   who use keywords, such as Python's. An `Option<T>` may be left out and is `None` then; `#[arg(default)]` and `#[arg(default = 3)]` say
///   what other types become when they are left out of a message.
///
/// # Return type
///
/// Any owned type that serde encodes and decodes. If its last path segment is `Result` or `TaskResult`, the task fails with the error and
/// its output is the first generic argument.
///
/// # Functions that do not await
///
/// A function without `async` is a task too: a worker runs it on a thread where it may block.
#[proc_macro_attribute]
pub fn task(options: TokenStream, function: TokenStream) -> TokenStream {
    expand::task(options.into(), function.into(), cfg!(feature = "worker")).into()
}
