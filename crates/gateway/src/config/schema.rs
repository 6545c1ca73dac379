//! The machinery of sections: one list of keys from which values are read, unknown keys are told, and the reference is written.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::environment::Environment;
use super::nearest::nearest;
use super::problem::Problems;
use super::tree::{Node, Source, Value};

/// A key of a section, for the reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What kind of value it takes.
    pub(crate) shape: &'static str,
    pub(crate) default: &'static str,
    pub(crate) about: &'static [&'static str],
    /// The keys of the table that it is, if it is one.
    pub(crate) keys: &'static [Key],
}

/// A type that a setting can have.
pub(crate) trait Setting: Sized {
    /// Its name in the reference.
    const SHAPE: &'static str;
    /// Its keys, if it is a table.
    const KEYS: &'static [Key] = &[];

    /// Reads it, or tells the reader what is wrong.
    fn read(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Self>;
}

/// What reading a configuration needs and finds.
pub(crate) struct Reader<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) problems: &'a mut Problems,
    /// Where each setting that was set stands.
    pub(crate) sources: &'a mut Sources,
}

/// Where each setting stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Where a setting stands; for one that was not set, where the innermost table around it does.
    pub(crate) fn of(&self, key: &str) -> Source {
        let mut key = key;
        loop {
            if let Some(source) = self.0.get(key) {
                return source.clone();
            }
            match key.rsplit_once('.') {
                Some((outer, _)) => key = outer,
                None => return Source::Default,
            }
        }
    }

    /// Whether somebody set it.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

static NOTHING: LazyLock<BTreeMap<String, Node>> = LazyLock::new(BTreeMap::new);

impl Reader<'_> {
    /// The entries of a table; what is no key of it is told, with the nearest that is.
    pub(crate) fn table<'n>(&mut self, node: &'n Node, key: &str, keys: &[Key]) -> Option<&'n BTreeMap<String, Node>> {
        let entries = match &node.value {
            Value::Table(entries) => entries,
            Value::Bare(text) if text.is_empty() => return Some(&NOTHING),
            other => {
                self.problems.refuse(key, node.source.clone(), format!("is {}, and has to be a table of keys", other.kind()));
                return None;
            }
        };
        for (name, entry) in entries {
            if !keys.iter().any(|known| known.name.trim_start_matches("r#") == name) {
                let known = keys.iter().map(|known| known.name.trim_start_matches("r#"));
                let hint = nearest(name, known).map_or(String::new(), |near| format!("; did you mean {}?", join(key, near)));
                self.problems.refuse(join(key, name), entry.source.clone(), format!("is not a key{hint}"));
            }
        }
        Some(entries)
    }

    /// A setting of a table, or its default.
    pub(crate) fn entry<T: Setting>(
        &mut self,
        (entries, around): (&BTreeMap<String, Node>, &Source),
        table: &str,
        name: &str,
        default: &str,
    ) -> Option<T> {
        let key = join(table, name.trim_start_matches("r#"));
        match entries.get(name.trim_start_matches("r#")) {
            // What is missing and has no default is told where its table stands.
            None => T::read(&Node { value: Value::Bare(default.to_owned()), source: around.clone() }, &key, self),
            Some(node) => {
                self.sources.0.insert(key.clone(), node.source.clone());
                T::read(node, &key, self)
            }
        }
    }

    /// An item of a list.
    pub(crate) fn item<T: Setting>(&mut self, node: &Node, key: &str) -> Option<T> {
        self.sources.0.insert(key.to_owned(), node.source.clone());
        T::read(node, key, self)
    }

    /// Tells what is wrong with a value.
    pub(crate) fn refuse<T>(&mut self, node: &Node, key: &str, text: impl Into<String>) -> Option<T> {
        self.problems.refuse(key, node.source.clone(), text);
        None
    }
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

/// Declares a section: a struct whose fields are keys with their types, defaults (as an environment variable would say them) and docs.
macro_rules! section {
    ($(#[doc = $head:literal])* $name:ident { $($(#[doc = $about:literal])* $key:ident: $type:ty = $default:literal,)* }) => {
        $(#[doc = $head])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name { $($(#[doc = $about])* pub(crate) $key: $type,)* }

        impl $crate::config::schema::Setting for $name {
            const SHAPE: &'static str = "table";
            const KEYS: &'static [$crate::config::schema::Key] = &[$($crate::config::schema::Key {
                name: stringify!($key),
                shape: <$type as $crate::config::schema::Setting>::SHAPE,
                default: $default,
                about: &[$($about),*],
                keys: <$type as $crate::config::schema::Setting>::KEYS,
            },)*];

            fn read(
                node: &$crate::config::tree::Node,
                key: &str,
                reader: &mut $crate::config::schema::Reader<'_>,
            ) -> Option<Self> {
                let entries = reader.table(node, key, Self::KEYS)?;
                $(let $key = reader.entry::<$type>((entries, &node.source), key, stringify!($key), $default);)*
                Some(Self { $($key: $key?,)* })
            }
        }
    };
}
pub(crate) use section;
