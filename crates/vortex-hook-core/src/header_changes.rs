//! What a hook wants done to headers.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Header changes: for each name the values that replace all it had.
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
/// assert!(changes.set(HeaderName::from_static("x-tag"), vec![HeaderValue::from_static("a")]));
/// assert!(changes.set(HeaderName::from_static("cookie"), vec![]));
///
/// let mut headers = HeaderMap::new();
/// headers.insert("cookie", HeaderValue::from_static("k=v"));
/// changes.apply(&mut headers);
/// assert_eq!(headers["x-tag"], "a");
/// assert!(!headers.contains_key("cookie"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges(HeaderMap<Vec<HeaderValue>>);

impl HeaderChanges {
    /// The most names one output, or one run of a chain, may change.
    pub const MAX_NAMES: usize = 256;
    /// The most values one output may set over all names.
    pub const MAX_VALUES: usize = 1024;

    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all values of `name`, in the request and in these changes.
    ///
    /// Returns `false` and changes nothing when [`HeaderChanges::MAX_NAMES`] other names are there.
    #[must_use = "a change that did not fit is not made"]
    pub fn set(&mut self, name: HeaderName, values: Vec<HeaderValue>) -> bool {
        if self.0.len() >= Self::MAX_NAMES && !self.0.contains_key(&name) {
            return false;
        }
        self.0.insert(name, values);
        true
    }

    /// The values that `name` is to have: empty when it is to be removed, `None` when untouched.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&[HeaderValue]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Every changed name with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[HeaderValue])> {
        self.0
            .iter()
            .map(|(name, values)| (name, values.as_slice()))
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

    /// Takes over the changes of a later hook, which win where both change a name.
    ///
    /// Returns `false` and changes nothing when they do not fit, see [`HeaderChanges::MAX_NAMES`].
    #[must_use = "changes that did not fit are not made"]
    pub fn merge(&mut self, later: Self) -> bool {
        let new = later.0.keys().filter(|name| !self.0.contains_key(*name));
        if self.0.len() + new.count() > Self::MAX_NAMES {
            return false;
        }
        // A consumed map names each key with its first value; here that is the only one.
        for (name, values) in later.0 {
            if let Some(name) = name {
                self.0.insert(name, values);
            }
        }
        true
    }

    /// Carries the changes out on `headers`.
    ///
    /// A value that would take `headers` past what [`HeaderMap`] can hold is left out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, values) in self.iter() {
            headers.remove(name);
            for value in values {
                if headers.try_append(name.clone(), value.clone()).is_err() {
                    // The names that follow may be there to be removed.
                    break;
                }
            }
        }
    }
}
