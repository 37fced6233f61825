//! The serializers an app knows, and which of them it accepts.

use std::sync::Arc;

use celeriac_core::{ContentType, Error, Result};

use crate::serializer::Serializer;

const FIND: &str = "find serializer";

/// The serializers by name and content type, and the list of those accepted from outside.
///
/// All formats compiled in are known; only JSON is accepted unless [`accept`](Self::accept) says otherwise, as in Celery.
/// pickle is never accepted: reading it runs the sender's code.
///
/// # Examples
/// ```
/// use celeriac_core::ErrorKind;
/// use celeriac_serializer::Serializers;
///
/// let formats = Serializers::new().accept(["json"])?;
/// assert_eq!(formats.for_content_type(Some("application/json"))?.name(), "json");
/// let error = formats.for_content_type(Some("application/x-yaml")).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unsupported);
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Serializers {
    known: Vec<Known>,
    /// Whether a format of that name is accepted once there is one: it is not compiled in.
    awaits_json: bool,
}

#[derive(Clone, Debug)]
struct Known {
    format: Arc<dyn Serializer>,
    /// The format's own, kept because it is asked for with every message.
    content_type: ContentType,
    accepted: bool,
}

impl Known {
    fn new(format: Arc<dyn Serializer>, accepted: bool) -> Self {
        Self { content_type: format.content_type(), format, accepted }
    }
}

impl Default for Serializers {
    fn default() -> Self {
        Self::new()
    }
}

impl Serializers {
    /// All formats compiled in, JSON alone accepted.
    #[must_use]
    pub fn new() -> Self {
        let known = vec![
            #[cfg(feature = "json")]
            Known::new(Arc::new(crate::Json), true),
            #[cfg(feature = "msgpack")]
            Known::new(Arc::new(crate::Msgpack), false),
            #[cfg(feature = "bincode")]
            Known::new(Arc::new(crate::Bincode), false),
            #[cfg(feature = "yaml")]
            Known::new(Arc::new(crate::Yaml), false),
        ];
        Self { known, awaits_json: cfg!(not(feature = "json")) }
    }

    /// Adds a format of the user's own; one of the same name or content type is replaced.
    #[must_use]
    pub fn register(mut self, format: Arc<dyn Serializer>) -> Self {
        let mut new = Known::new(format, false);
        let replaces =
            |known: &mut Known| known.format.name() == new.format.name() || known.content_type == new.content_type;
        // What was accepted stays so.
        let replaced = self.known.extract_if(.., replaces).fold(false, |accepted, known| accepted | known.accepted);
        new.accepted = replaced || new.format.name() == "json" && std::mem::take(&mut self.awaits_json);
        self.known.push(new);
        self
    }

    /// Sets what is accepted from outside, by names or content types. Register formats of your own first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming one that is not known, or pickle.
    pub fn accept<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Result<Self> {
        let names = names.into_iter().map(|name| Ok(self.by_name(name.as_ref())?.name().to_owned()));
        let names = names.collect::<Result<Vec<_>>>()?;
        for known in &mut self.known {
            known.accepted = names.iter().any(|name| name == known.format.name());
        }
        self.awaits_json = false;
        Ok(self)
    }

    /// The format of that name or content type, accepted or not: to encode with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming it and what is known.
    pub fn by_name(&self, name: &str) -> Result<&Arc<dyn Serializer>> {
        self.lookup(name).map(|known| &known.format).ok_or_else(|| {
            if is_pickle(name) {
                return Error::config(FIND, PICKLE);
            }
            let known = self.known.iter().map(|known| known.format.name());
            Error::config(FIND, format!("serializer `{}` is not known, only {}", short(name), quoted(known)))
        })
    }

    /// The format to read a message or result of that content type with. Parameters such as `; charset=utf-8` are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported) naming it and what is accepted;
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if it is missing.
    pub fn for_content_type(&self, content_type: Option<&str>) -> Result<&Arc<dyn Serializer>> {
        let accepted = || quoted(self.accepted().map(|format| format.content_type().as_str().to_owned()));
        let Some(content_type) = content_type.filter(|content_type| !content_type.is_empty()) else {
            return Err(Error::malformed(FIND, format!("content type is missing; accepted are {}", accepted())));
        };
        match self.lookup(content_type) {
            Some(known) if known.accepted => Ok(&known.format),
            _ if is_pickle(content_type) => Err(Error::unsupported(FIND, PICKLE)),
            Some(_) => Err(Error::unsupported(
                FIND,
                format!("content type `{}` is not accepted, only {}", short(content_type), accepted()),
            )),
            None => Err(Error::unsupported(
                FIND,
                format!("content type `{}` is not known; accepted are {}", short(content_type), accepted()),
            )),
        }
    }

    /// The formats accepted from outside.
    pub fn accepted(&self) -> impl Iterator<Item = &Arc<dyn Serializer>> {
        self.known.iter().filter(|known| known.accepted).map(|known| &known.format)
    }

    fn lookup(&self, name: &str) -> Option<&Known> {
        // As it nearly always comes.
        if let Some(known) = self.known.iter().find(|known| known.content_type == *name) {
            return Some(known);
        }
        let name = name.split(';').next().unwrap_or(name).trim();
        self.known.iter().find(|known| {
            known.format.name().eq_ignore_ascii_case(name) || known.content_type.eq_ignore_ascii_case(name)
        })
    }
}

const PICKLE: &str = "`pickle` (`application/x-python-serialize`) is refused: to read it is to run the sender's code; \
                      send json or msgpack";

fn is_pickle(name: &str) -> bool {
    let name = name.split(';').next().unwrap_or(name).trim();
    ["pickle", "application/x-python-serialize"].iter().any(|pickle| pickle.eq_ignore_ascii_case(name))
}

/// At most 64 characters of what came from outside.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn quoted<T: AsRef<str>>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", name.as_ref())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;
    use crate::{ContentEncoding, Json, Visit};

    /// JSON by another name.
    #[derive(Debug)]
    struct Faster;

    impl Serializer for Faster {
        fn name(&self) -> &'static str {
            "faster-json"
        }

        fn content_type(&self) -> ContentType {
            ContentType::JSON
        }

        fn content_encoding(&self) -> ContentEncoding {
            ContentEncoding::Utf8
        }

        fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
            Json.encode(value, out)
        }

        fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
            Json.decode(data, visit)
        }
    }

    #[test]
    fn where_json_is_not_compiled_in_one_of_the_users_own_is_accepted() {
        let without = || Serializers { known: Vec::new(), awaits_json: true };
        let formats = without().register(Arc::new(Json));
        assert!(formats.for_content_type(Some("application/json")).is_ok());
        let none = without().accept::<&str>([]).unwrap().register(Arc::new(Json));
        assert!(none.for_content_type(Some("application/json")).is_err());
    }

    #[test]
    fn what_replaces_an_accepted_format_is_accepted() {
        let formats = Serializers::new().register(Arc::new(Faster));
        assert_eq!(formats.for_content_type(Some("application/json")).unwrap().name(), "faster-json");
        assert_eq!(formats.accepted().count(), 1);
        let none = Serializers::new().accept::<&str>([]).unwrap().register(Arc::new(Faster));
        assert!(none.for_content_type(Some("application/json")).is_err(), "what was not is not");
    }
}
