//! All that a task may be, under the strictest lints a user's crate may have.
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    unreachable_pub,
    unused,
    unused_qualifications,
    future_incompatible,
    nonstandard_style,
    rust_2018_idioms,
    single_use_lifetimes,
    unit_bindings,
    unnameable_types
)]
#![forbid(unsafe_code)]

use celeriac::{State, TaskContext, TaskResult};

/// Sends a letter.
///
/// ```
/// panic!("not run twice");
/// ```
#[celeriac::task(
    name = "mail.send",
    queue = "mail",
    priority = 5,
    expires = "30s",
    ignore_result,
    serializer = "msgpack",
    compression = "zstd",
    acks_late = false,
    track_started,
    result_expires = 3600,
    crate = "::celeriac"
)]
pub async fn send_mail(
    to: String,
    #[arg(default = 3)] tries: u32,
    cx: &TaskContext,
    mut tags: Vec<String>,
    #[arg(default)] note: Option<String>,
    db: State<i64>,
) -> TaskResult<u64> {
    tags.push(to);
    tags.extend(note);
    Ok(tags.len() as u64 + u64::from(tries + cx.retries()) + db.0.unsigned_abs())
}

// Nothing uses this one.
#[celeriac::task]
async fn unused(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task]
fn names(args: u8, cx: u8, self_: u8, options: u8, r#type: u8, s: u8) -> u8 {
    args + cx + self_ + options + r#type + s
}

#[celeriac::task]
pub(crate) async fn r#move() {}

#[deprecated]
#[celeriac::task]
fn old() {}

#[cfg(any())]
#[celeriac::task]
fn absent(missing: Missing) {}

#[celeriac::task]
#[cfg(any())]
fn absent_too(missing: Missing) {}

#[celeriac::task]
fn context_alone(_: &TaskContext, _cx: Option<u8>) -> std::fmt::Result {
    Ok(())
}

/// Modules may hide the prelude and shadow what the expansion would name.
pub mod hostile {
    #![no_implicit_prelude]
    #![allow(missing_docs, dead_code, non_camel_case_types, reason = "only names count here")]

    mod celeriac {}
    mod core {}
    mod std {}
    struct Option;
    struct Result;
    struct String;
    pub trait Into {}
    pub trait Send {}
    type str = u8;
    type bool = u8;

    #[::celeriac::task(queue = "q", serializer = "json", expires = "5m", track_started)]
    pub async fn add(x: i64, #[arg(default)] y: i64, z: ::std::string::String) -> i64 {
        let _ = z;
        x + y
    }
}

macro_rules! define {
    ($name:ident, $ty:ty, $queue:literal, $default:expr) => {
        #[celeriac::task(queue = $queue)]
        fn $name(cx: &TaskContext, #[arg(default = $default)] value: $ty) -> $ty {
            let _ = cx;
            value
        }
    };
}
define!(defined, Vec<u8>, "mail", vec![1]);

fn main() {
    use celeriac::__private::Define;

    #[celeriac::task]
    fn local(x: u8) -> Result<u8, std::num::ParseIntError> {
        Ok(x)
    }

    let _ = (local(1), local::s(2), names(1, 2, 3, 4, 5, 6), r#move(), r#move::s(), defined::s(vec![]));
    let _ = (context_alone::s(None), hostile::add::s(1, 2, String::new()));
    let _ = send_mail::s("a".to_owned(), 3, vec![], None);
    assert_eq!(send_mail::NAME, "mail.send");
    assert_eq!(r#move::NAME, "move");
    assert_eq!(send_mail::PARAMETERS, ["to", "tries", "tags", "note"]);
    assert_eq!(names::PARAMETERS[4], "type");
    let options = send_mail::options();
    assert_eq!(options.expires, Some(std::time::Duration::from_secs(30)));
    assert_eq!(options.result_expires, Some(std::time::Duration::from_secs(3600)));
    assert_eq!((options.acks_late, options.track_started, options.ignore_result), (Some(false), Some(true), Some(true)));
}
