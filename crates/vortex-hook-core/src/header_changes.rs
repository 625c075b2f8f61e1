//! What a hook wants done to headers.

use std::slice;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Header changes: for each name the values that replace all it had, or that are
/// added to them.
///
/// Names are compared without regard to case. An empty list of values removes
/// the header.
///
/// ```
/// use http::HeaderMap;
/// use http::header::{HeaderName, HeaderValue};
/// use vortex_hook_core::HeaderChanges;
///
/// let mut changes = HeaderChanges::new();
/// assert!(changes.insert(HeaderName::from_static("x-tag"), HeaderValue::from_static("a")));
/// assert!(changes.append(HeaderName::from_static("via"), HeaderValue::from_static("1.1 b")));
/// assert!(changes.set(HeaderName::from_static("cookie"), vec![]));
///
/// let mut headers = HeaderMap::new();
/// headers.insert("cookie", HeaderValue::from_static("k=v"));
/// headers.insert("via", HeaderValue::from_static("1.1 a"));
/// changes.apply(&mut headers);
/// assert_eq!(headers["x-tag"], "a");
/// assert!(headers.get_all("via").iter().eq(["1.1 a", "1.1 b"]));
/// assert!(!headers.contains_key("cookie"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct HeaderChanges(Vec<Entry>);

/// What is to be done to the values of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderChange<'a> {
    /// These replace all values; none of them remove the header.
    Replace(&'a [HeaderValue]),
    /// These are added to the values that are there.
    Append(&'a [HeaderValue]),
}

#[derive(Clone, Debug)]
struct Entry {
    name: HeaderName,
    values: Values,
    append: bool,
}

/// One value, as nearly always, or another number of them.
#[derive(Clone, Debug)]
enum Values {
    One(HeaderValue),
    Many(Vec<HeaderValue>),
}

impl Values {
    fn as_slice(&self) -> &[HeaderValue] {
        match self {
            Self::One(value) => slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    fn extend(&mut self, later: Self) {
        if let Self::One(value) = self {
            *self = Self::Many(vec![value.clone()]);
        }
        if let Self::Many(values) = self {
            match later {
                Self::One(value) => values.push(value),
                Self::Many(more) => values.extend(more),
            }
        }
    }
}

impl Entry {
    fn change(&self) -> HeaderChange<'_> {
        let values = self.values.as_slice();
        if self.append {
            HeaderChange::Append(values)
        } else {
            HeaderChange::Replace(values)
        }
    }
}

impl HeaderChanges {
    /// The most names one output, or one run of a chain, may change.
    pub const MAX_NAMES: usize = 256;
    /// The most values one output may set over all names, and one name may have.
    pub const MAX_VALUES: usize = 1024;

    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No changes yet, with room for those of so many names.
    pub(crate) fn with_capacity(names: usize) -> Self {
        Self(Vec::with_capacity(names.min(Self::MAX_NAMES)))
    }

    /// Replaces all values of `name`, in the request and in these changes.
    ///
    /// Returns `false` and changes nothing when [`HeaderChanges::MAX_NAMES`] other names are there.
    #[must_use = "a change that did not fit is not made"]
    pub fn set(&mut self, name: HeaderName, values: Vec<HeaderValue>) -> bool {
        self.put(Entry {
            name,
            values: Values::Many(values),
            append: false,
        })
    }

    /// Replaces all values of `name` by one, see [`HeaderChanges::set`].
    #[must_use = "a change that did not fit is not made"]
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) -> bool {
        self.put(Entry {
            name,
            values: Values::One(value),
            append: false,
        })
    }

    /// Adds a value to those that `name` has, or is to have by these changes.
    ///
    /// Returns `false` and changes nothing when [`HeaderChanges::MAX_NAMES`] other
    /// names are there, or [`HeaderChanges::MAX_VALUES`] values of this one.
    #[must_use = "a change that did not fit is not made"]
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) -> bool {
        self.put(Entry {
            name,
            values: Values::One(value),
            append: true,
        })
    }

    /// The values that replace those of `name`: empty when it is to be removed,
    /// `None` when it is untouched, or only added to.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&[HeaderValue]> {
        match self.find(name)?.change() {
            HeaderChange::Replace(values) => Some(values),
            HeaderChange::Append(_) => None,
        }
    }

    /// Every changed name with what is to be done, in the order of its first change.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, HeaderChange<'_>)> {
        self.0.iter().map(|entry| (&entry.name, entry.change()))
    }

    /// The number of changed names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the changes of a later hook, which win where both replace a name.
    ///
    /// Returns `false` and changes nothing when they do not fit, see
    /// [`HeaderChanges::MAX_NAMES`] and [`HeaderChanges::MAX_VALUES`].
    #[must_use = "changes that did not fit are not made"]
    pub fn merge(&mut self, later: Self) -> bool {
        if self.is_empty() {
            *self = later;
            return true;
        }
        let new = later.0.iter().filter(|e| self.find(&e.name).is_none());
        if self.len() + new.count() > Self::MAX_NAMES || !later.0.iter().all(|e| self.has_room(e)) {
            return false;
        }
        later.0.into_iter().all(|entry| self.put(entry))
    }

    /// Carries the changes out on `headers`.
    ///
    /// A value that would take `headers` past what [`HeaderMap`] can hold is left out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for entry in &self.0 {
            if !entry.append {
                headers.remove(&entry.name);
            }
            for value in entry.values.as_slice() {
                if headers
                    .try_append(entry.name.clone(), value.clone())
                    .is_err()
                {
                    // The names that follow may be there to be removed.
                    break;
                }
            }
        }
    }

    fn find(&self, name: &HeaderName) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == *name)
    }

    /// Whether the values of `entry` may be added to those of its name.
    fn has_room(&self, entry: &Entry) -> bool {
        !entry.append
            || self.find(&entry.name).is_none_or(|old| {
                old.values.as_slice().len() + entry.values.as_slice().len() <= Self::MAX_VALUES
            })
    }

    fn put(&mut self, entry: Entry) -> bool {
        if !self.has_room(&entry) {
            return false;
        }
        let full = self.0.len() >= Self::MAX_NAMES;
        match self.0.iter_mut().find(|old| old.name == entry.name) {
            Some(old) if entry.append => old.values.extend(entry.values),
            Some(old) => *old = entry,
            None if full => return false,
            None => self.0.push(entry),
        }
        true
    }
}

/// Equal when every name has the same changes, in whatever order.
impl PartialEq for HeaderChanges {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(name, change)| {
                other
                    .find(name)
                    .is_some_and(|entry| entry.change() == change)
            })
    }
}

impl Eq for HeaderChanges {}
