//! Signatures and canvas as data, in Celery's own dict form.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::name::TaskName;
use crate::value::{Map, Value};

/// A task to be called: its name, arguments and options. What a chain, a callback or a schedule holds.
///
/// # Wire format
/// `celery/canvas.py::Signature` as a dict (celery 5.7): `task, args, kwargs, options, subtask_type, immutable`.
///
/// # Examples
/// ```
/// use celeriac_core::{Signature, Value};
///
/// let mul = Signature::named("tasks.mul").arg(3).option("queue", "maths");
/// let chain = Signature::chain(vec![mul.clone(), mul]);
/// assert_eq!(chain.to_value().get("subtask_type"), Some(&Value::from("chain")));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Signature {
    /// The task's name; `celery.chain`, `celery.group` and the like for canvas.
    pub task: TaskName,
    /// Positional arguments. A call's own come before them.
    pub args: Vec<Value>,
    /// Keyword arguments. A call's own override them.
    pub kwargs: Map,
    /// Publish options by Celery's names: `task_id`, `queue`, `countdown`, `link`, `chain` and so on.
    pub options: Map,
    /// `chain`, `group`, `chord`, `xmap`, `xstarmap` or `chunks`; `None` for a plain task.
    pub subtask_type: Option<String>,
    /// Whether a call's own arguments are ignored.
    pub immutable: bool,
    /// Keys that are not known, kept as they came.
    pub extra: Map,
}

impl Signature {
    /// A call of the task with the literal name `task`, without arguments.
    ///
    /// # Panics
    /// If the name is empty or longer than 255 bytes: a programmer's error. For names that are not literals see
    /// [`Signature::new`].
    #[must_use]
    #[track_caller]
    pub fn named(task: &'static str) -> Self {
        Self::new(TaskName::from_static(task))
    }

    /// A call of the task named `task`, without arguments.
    #[must_use]
    pub fn new(task: TaskName) -> Self {
        Self {
            task,
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            subtask_type: None,
            immutable: false,
            extra: Map::new(),
        }
    }

    /// Adds a positional argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Sets a keyword argument.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// Sets a publish option, by Celery's name.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Makes the signature ignore the arguments it is called with.
    #[must_use]
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    fn composite(task: &'static str, subtask_type: &str, kwargs: Map) -> Self {
        let mut signature = Self::named(task);
        signature.kwargs = kwargs;
        signature.subtask_type = Some(subtask_type.to_owned());
        signature
    }

    /// One after the other, each with the result of the one before.
    #[must_use]
    pub fn chain(tasks: Vec<Self>) -> Self {
        Self::composite("celery.chain", "chain", [("tasks".to_owned(), list(&tasks))].into_iter().collect())
    }

    /// All at once.
    #[must_use]
    pub fn group(tasks: Vec<Self>) -> Self {
        Self::composite("celery.group", "group", [("tasks".to_owned(), list(&tasks))].into_iter().collect())
    }

    /// All of `header` at once, then `body` with the list of their results.
    #[must_use]
    pub fn chord(header: Vec<Self>, body: &Self) -> Self {
        let kwargs = [
            ("kwargs".to_owned(), Value::Map(Map::new())),
            ("header".to_owned(), Self::group(header).to_value()),
            ("body".to_owned(), body.to_value()),
        ];
        Self::composite("celery.chord", "chord", kwargs.into_iter().collect())
    }

    /// What the signature is made of.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming the part of a composite that is missing or not a signature.
    pub fn canvas(&self) -> Result<Canvas> {
        let part = |name: &'static str| {
            self.kwargs.get(name).ok_or_else(|| malformed(format!("`{}` has no `{name}`", self.task)))
        };
        let tasks = |value: &Value| match value {
            Value::List(items) => items.iter().map(Self::from_value).collect::<Result<Vec<_>>>(),
            // A chord's header may come as a group's signature.
            Value::Map(_) => match Self::from_value(value)?.canvas()? {
                Canvas::Group(tasks) => Ok(tasks),
                _ => Err(malformed(format!("the header of `{}` is no group", self.task))),
            },
            _ => Err(malformed(format!("the tasks of `{}` are no list", self.task))),
        };
        Ok(match self.subtask_type.as_deref() {
            Some("chain") => Canvas::Chain(tasks(part("tasks")?)?),
            Some("group") => Canvas::Group(tasks(part("tasks")?)?),
            Some("chord") => {
                Canvas::Chord { header: tasks(part("header")?)?, body: Box::new(Self::from_value(part("body")?)?) }
            }
            Some(kind @ ("xmap" | "xstarmap" | "chunks")) => {
                let task = Box::new(Self::from_value(part("task")?)?);
                let items = part("it")?.clone();
                match kind {
                    "xmap" => Canvas::Map { task, items },
                    "xstarmap" => Canvas::Starmap { task, items },
                    _ => Canvas::Chunks {
                        task,
                        items,
                        size: part("n")?.as_i64().ok_or_else(|| malformed("`n` of chunks is no integer".to_owned()))?,
                    },
                }
            }
            _ => Canvas::Task,
        })
    }

    /// The dict form.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut dict = Map::new();
        dict.insert("task".to_owned(), Value::from(self.task.as_str()));
        dict.insert("args".to_owned(), Value::List(self.args.clone()));
        dict.insert("kwargs".to_owned(), Value::Map(self.kwargs.clone()));
        dict.insert("options".to_owned(), Value::Map(self.options.clone()));
        dict.insert("subtask_type".to_owned(), self.subtask_type.as_deref().map_or(Value::Null, Value::from));
        dict.insert("immutable".to_owned(), Value::Bool(self.immutable));
        for (name, value) in &self.extra {
            dict.insert(name, value.clone());
        }
        Value::Map(dict)
    }

    /// Reads the dict form; only `task` must be there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming the key that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<Self> {
        let Value::Map(dict) = value else { return Err(malformed("a signature is no table".to_owned())) };
        let task = dict.get("task").and_then(Value::as_str).ok_or_else(|| malformed("`task` is missing".to_owned()))?;
        let mut signature = Self::new(task.parse().map_err(|_| malformed(format!("`{task}` is no task name")))?);
        for (name, value) in dict {
            match (name, value) {
                ("task", _) | ("args" | "kwargs" | "options" | "subtask_type" | "immutable", Value::Null) => {}
                ("args", Value::List(args)) => signature.args.clone_from(args),
                ("kwargs", Value::Map(kwargs)) => signature.kwargs.clone_from(kwargs),
                ("options", Value::Map(options)) => signature.options.clone_from(options),
                ("subtask_type", Value::Str(kind)) => signature.subtask_type = Some(kind.clone()),
                ("immutable", Value::Bool(immutable)) => signature.immutable = *immutable,
                ("args" | "kwargs" | "options" | "subtask_type" | "immutable", _) => {
                    return Err(malformed(format!("`{name}` of `{task}` is of the wrong type")));
                }
                _ => {
                    signature.extra.insert(name, value.clone());
                }
            }
        }
        Ok(signature)
    }
}

fn list(tasks: &[Signature]) -> Value {
    Value::List(tasks.iter().map(Signature::to_value).collect())
}

fn malformed(message: String) -> Error {
    Error::malformed("read signature", message)
}

/// What a signature is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Canvas {
    /// A plain task.
    Task,
    /// One after the other, in this order.
    Chain(Vec<Signature>),
    /// All at once.
    Group(Vec<Signature>),
    /// All of the header at once, then the body with their results.
    Chord {
        /// The tasks whose results are gathered.
        header: Vec<Signature>,
        /// The task that gets them.
        body: Box<Signature>,
    },
    /// The task for each item, in one go.
    Map {
        /// The task.
        task: Box<Signature>,
        /// The list of its arguments.
        items: Value,
    },
    /// The task for each item, spread to its arguments, in one go.
    Starmap {
        /// The task.
        task: Box<Signature>,
        /// The list of its lists of arguments.
        items: Value,
    },
    /// The task for each item, `size` items a message.
    Chunks {
        /// The task.
        task: Box<Signature>,
        /// The list of its lists of arguments.
        items: Value,
        /// Items a message.
        size: i64,
    },
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(|error| D::Error::custom(error.message()))
    }
}

/// The third element of a task's body: what follows the task.
///
/// # Wire format
/// `embed` of protocol 2, `celery/app/amqp.py::as_task_v2` (celery 5.7). Always all four keys: a missing one breaks Python's
/// failure path.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Embed {
    /// Called with the result.
    pub callbacks: Option<Vec<Signature>>,
    /// Called on failure.
    pub errbacks: Option<Vec<Signature>>,
    /// The rest of the chain, the next step last.
    pub chain: Option<Vec<Signature>>,
    /// The body of the chord that the task reports to.
    pub chord: Option<Box<Signature>>,
}

impl Embed {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let none = |list: &Option<Vec<Signature>>| list.as_ref().is_none_or(Vec::is_empty);
        none(&self.callbacks) && none(&self.errbacks) && none(&self.chain) && self.chord.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_keeps_keys_it_does_not_know() {
        let json = r#"{"task":"t","args":[1],"kwargs":{},"options":{"queue":"q"},"subtask_type":null,"immutable":false,"chord_size":3}"#;
        let signature: Signature = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&signature).unwrap(), json);
    }

    #[test]
    fn the_least_signature_is_a_task_name() {
        let signature: Signature = serde_json::from_str(r#"{"task":"t"}"#).unwrap();
        assert_eq!(signature, Signature::named("t"));
    }

    #[test]
    fn a_malformed_signature_names_the_key() {
        for (json, what) in [(r#"{"args":[]}"#, "`task`"), (r#"{"task":"t","args":{}}"#, "`args`"), ("[]", "no table")]
        {
            let error = serde_json::from_str::<Signature>(json).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_chord_takes_both_forms_of_header() {
        let task = Signature::named("t");
        let chord = Signature::chord(vec![task.clone(), task.clone()], &task);
        let mut plain = chord.clone();
        plain.kwargs.insert("header".to_owned(), Value::List(vec![task.to_value(), task.to_value()]));
        assert_eq!(chord.canvas().unwrap(), plain.canvas().unwrap());
    }
}
