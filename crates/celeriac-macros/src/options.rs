//! The attribute's options: their names, types and checks.

use std::time::Duration;

use darling::{Error, FromMeta, Result, ast::NestedMeta};
use proc_macro2::TokenStream;
use syn::{Expr, ExprLit, Lit, LitStr, Meta, Path};

/// All of [`Options`]' names, for the message about an unknown one.
const KNOWN: [&str; 11] = [
    "acks_late",
    "compression",
    "crate",
    "expires",
    "ignore_result",
    "name",
    "priority",
    "queue",
    "result_expires",
    "serializer",
    "track_started",
];

/// What stands in the parentheses of `#[celeriac::task(..)]`.
#[derive(Debug, Default, FromMeta)]
#[darling(default)]
pub(crate) struct Options {
    #[darling(with = read_switch)]
    pub(crate) acks_late: Option<bool>,
    #[darling(with = read_text)]
    pub(crate) compression: Option<LitStr>,
    #[darling(with = read_path, rename = "crate")]
    pub(crate) krate: Option<Path>,
    #[darling(with = read_duration)]
    pub(crate) expires: Option<Duration>,
    #[darling(with = read_switch)]
    pub(crate) ignore_result: Option<bool>,
    #[darling(with = read_name)]
    pub(crate) name: Option<LitStr>,
    #[darling(with = read_level)]
    pub(crate) priority: Option<u8>,
    #[darling(with = read_name)]
    pub(crate) queue: Option<LitStr>,
    #[darling(with = read_duration)]
    pub(crate) result_expires: Option<Duration>,
    #[darling(with = read_text)]
    pub(crate) serializer: Option<LitStr>,
    #[darling(with = read_switch)]
    pub(crate) track_started: Option<bool>,
}

impl Options {
    /// Reads the options; every mistake is reported, not only the first.
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let items = NestedMeta::parse_meta_list(tokens)?;
        Self::from_list(&items).map_err(|error| reworded(error, &KNOWN))
    }
}

/// Turns darling's errors into ours: it says "field" where users know options.
pub(crate) fn reworded(error: Error, known: &[&str]) -> syn::Error {
    let mut all = error.flatten().into_iter().map(|error| {
        let error = syn::Error::from(error);
        let mut text = error.to_string();
        if let Some(rest) = text.strip_prefix("Unknown field: ") {
            let rest = rest.split_once(". Available").map_or(rest, |(name, _)| name).replace(". Did", "; did");
            let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            text = format!("unknown option {rest}\noptions: {known}");
        } else if let Some(rest) = text.strip_prefix("Duplicate field ") {
            text = format!("option {rest} is given twice");
        }
        syn::Error::new(error.span(), text)
    });
    let first = all.next().unwrap_or_else(|| syn::Error::new(proc_macro2::Span::call_site(), "bad options"));
    all.fold(first, |mut sum, error| {
        sum.combine(error);
        sum
    })
}

/// The option's name, for messages.
fn option_name(meta: &Meta) -> String {
    meta.path().get_ident().map(ToString::to_string).unwrap_or_default()
}

/// "`queue` takes text in quotes", at the option.
fn takes(meta: &Meta, what: &str) -> Error {
    let name = option_name(meta);
    match meta {
        Meta::NameValue(pair) => Error::custom(format!("`{name}` takes {what}")).with_span(&pair.value),
        Meta::Path(_) | Meta::List(_) => Error::custom(format!("`{name}` takes {what}")).with_span(meta),
    }
}

/// The literal behind the `=`, if that is what stands there.
fn literal(meta: &Meta) -> Option<&Lit> {
    let Meta::NameValue(pair) = meta else { return None };
    let mut value = &pair.value;
    loop {
        match value {
            // A `macro_rules!` fragment arrives in an invisible group.
            Expr::Group(group) => value = &group.expr,
            Expr::Lit(ExprLit { lit, .. }) => return Some(lit),
            _ => return None,
        }
    }
}

fn quoted<'a>(meta: &'a Meta, example: &str) -> Result<&'a LitStr> {
    match literal(meta) {
        Some(Lit::Str(text)) => Ok(text),
        _ => Err(takes(meta, &format!("text in quotes, as in `{} = \"{example}\"`", option_name(meta)))),
    }
}

fn read_text(meta: &Meta) -> Result<Option<LitStr>> {
    let example = if meta.path().is_ident("serializer") { "json" } else { "zstd" };
    let text = quoted(meta, example)?;
    if text.value().is_empty() {
        return Err(takes(meta, &format!("a name, as in `{} = \"{example}\"`", option_name(meta))));
    }
    Ok(Some(text.clone()))
}

fn read_name(meta: &Meta) -> Result<Option<LitStr>> {
    let example = if meta.path().is_ident("queue") { "mail" } else { "mail.send" };
    let text = quoted(meta, example)?;
    check_name(&option_name(meta), &text.value()).map_err(|why| Error::custom(why).with_span(text))?;
    Ok(Some(text.clone()))
}

/// Why `text` cannot be a name; as the types `TaskName` and `QueueName` see it.
pub(crate) fn check_name(what: &str, text: &str) -> std::result::Result<(), String> {
    match text.len() {
        0 => Err(format!("`{what}` is empty: a name has 1 to 255 bytes")),
        1..=255 => Ok(()),
        length => Err(format!("`{what}` has {length} bytes: a name has 1 to 255 bytes")),
    }
}

fn read_path(meta: &Meta) -> Result<Option<Path>> {
    let text = quoted(meta, "::celeriac")?;
    match text.parse_with(Path::parse_mod_style) {
        Ok(path) => Ok(Some(path)),
        Err(_) => {
            Err(Error::custom("`crate` takes a path in quotes, as in `crate = \"my_crate::celeriac\"`").with_span(text))
        }
    }
}

fn read_switch(meta: &Meta) -> Result<Option<bool>> {
    match (meta, literal(meta)) {
        (Meta::Path(_), _) => Ok(Some(true)),
        (_, Some(Lit::Bool(value))) => Ok(Some(value.value)),
        _ => Err(takes(meta, "`true` or `false`, or stands alone for `true`")),
    }
}

fn read_level(meta: &Meta) -> Result<Option<u8>> {
    const WHAT: &str = "a whole number from 0 to 255; higher is more urgent";
    match literal(meta) {
        Some(Lit::Int(number)) => number.base10_parse().map(Some).map_err(|_| takes(meta, WHAT)),
        _ => Err(takes(meta, WHAT)),
    }
}

fn read_duration(meta: &Meta) -> Result<Option<Duration>> {
    const WHAT: &str =
        "a whole number of seconds, or one with a unit in quotes: `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`, `\"2d\"`";
    let parsed = match literal(meta) {
        Some(Lit::Int(seconds)) if seconds.suffix().is_empty() => seconds.base10_parse().ok().map(Duration::from_secs),
        Some(Lit::Str(text)) => parse_duration(&text.value()),
        _ => None,
    };
    parsed.map(Some).ok_or_else(|| takes(meta, WHAT))
}

/// Reads `500ms`, `30s`, `5m`, `1h` or `2d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn refusal(tokens: TokenStream) -> String {
        Options::parse(tokens).unwrap_err().into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_duration("2d"), Some(Duration::from_secs(172_800)));
        for bad in ["", "30", "s", "1.5s", "-1s", "30 s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_option_is_read() {
        let options = Options::parse(quote! {
            name = "mail.send", queue = "mail", priority = 5, expires = "30s", ignore_result, serializer = "msgpack",
            compression = "zstd", acks_late = false, track_started, result_expires = 60, crate = "path::to::celeriac",
        })
        .unwrap();
        assert_eq!(options.name.unwrap().value(), "mail.send");
        assert_eq!(options.queue.unwrap().value(), "mail");
        assert_eq!(options.priority, Some(5));
        assert_eq!(options.expires, Some(Duration::from_secs(30)));
        assert_eq!(options.ignore_result, Some(true));
        assert_eq!(options.serializer.unwrap().value(), "msgpack");
        assert_eq!(options.compression.unwrap().value(), "zstd");
        assert_eq!(options.acks_late, Some(false));
        assert_eq!(options.track_started, Some(true));
        assert_eq!(options.result_expires, Some(Duration::from_secs(60)));
        assert_eq!(options.krate.unwrap().segments.len(), 3);
    }

    #[test]
    fn mistakes_are_named_and_all_of_them_reported() {
        let unknown = refusal(quote!(quue = "mail"));
        assert!(
            unknown.starts_with("unknown option `quue`; did you mean `queue`?\noptions: `acks_late`, "),
            "{unknown}"
        );
        let far = refusal(quote!(zzz = 1));
        assert!(far.starts_with("unknown option `zzz`\noptions: "), "{far}");
        assert_eq!(refusal(quote!(queue = "a", queue = "b")), "option `queue` is given twice");
        assert_eq!(refusal(quote!(queue = 5)), "`queue` takes text in quotes, as in `queue = \"mail\"`");
        assert_eq!(refusal(quote!(name = "")), "`name` is empty: a name has 1 to 255 bytes");
        assert!(refusal(quote!(priority = 256)).starts_with("`priority` takes a whole number from 0 to 255"));
        assert!(refusal(quote!(priority = -1)).starts_with("`priority` takes a whole number from 0 to 255"));
        assert!(refusal(quote!(expires = 1.5)).starts_with("`expires` takes a whole number of seconds"));
        assert!(refusal(quote!(acks_late = "yes")).starts_with("`acks_late` takes `true` or `false`"));
        assert!(refusal(quote!(queue)).starts_with("`queue` takes text"));
        assert!(refusal(quote!(queue("mail"))).starts_with("`queue` takes text"));
        assert!(refusal(quote!(crate = "no path")).starts_with("`crate` takes a path"));
        assert_eq!(refusal(quote!(queue = 5, name = "")).matches("; ").count(), 1);
    }

    #[test]
    fn a_long_name_is_refused() {
        assert!(check_name("name", &"x".repeat(255)).is_ok());
        assert_eq!(
            check_name("name", &"x".repeat(256)).unwrap_err(),
            "`name` has 256 bytes: a name has 1 to 255 bytes"
        );
    }
}
