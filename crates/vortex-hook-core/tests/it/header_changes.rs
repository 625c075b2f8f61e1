//! `HeaderChanges`: collecting them and carrying them out.

use http::header::{HeaderMap, HeaderValue};
use vortex_hook_core::HeaderChanges;

use crate::util::{changes, listed, name, values};

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn a_change_replaces_every_value() {
    let mut map = headers(&[("a", "1"), ("b", "2"), ("a", "3")]);
    changes(&[("a", &["new"])]).apply(&mut map);
    assert_eq!(map, headers(&[("a", "new"), ("b", "2")]));
}

#[test]
fn a_change_to_several_values_keeps_their_order() {
    let mut map = headers(&[("set-cookie", "old")]);
    changes(&[("Set-Cookie", &["a=1", "b=2", "a=1"])]).apply(&mut map);
    assert_eq!(
        listed(&map),
        [
            ("set-cookie", &b"a=1"[..]),
            ("set-cookie", b"b=2"),
            ("set-cookie", b"a=1")
        ]
    );
}

#[test]
fn no_values_remove_a_header() {
    let mut map = headers(&[("cookie", "a"), ("cookie", "b"), ("x", "1")]);
    changes(&[("Cookie", &[]), ("absent", &[])]).apply(&mut map);
    assert_eq!(map, headers(&[("x", "1")]));
    HeaderChanges::new().apply(&mut map);
    assert_eq!(map, headers(&[("x", "1")]));
}

#[test]
fn an_empty_value_is_no_removal() {
    let mut map = headers(&[("a", "1")]);
    changes(&[("a", &[""])]).apply(&mut map);
    assert_eq!(map, headers(&[("a", "")]));
}

#[test]
fn a_full_map_does_not_panic_and_removals_are_still_made() {
    let mut map = HeaderMap::new();
    map.append("cookie", HeaderValue::from_static("secret"));
    let mut i = 0;
    while map
        .try_append(name(&format!("x-{i}")), HeaderValue::from_static("v"))
        .is_ok()
    {
        i += 1;
    }
    let full = map.len();
    changes(&[("y", &["1"]), ("cookie", &[]), ("x-7", &["new"])]).apply(&mut map);
    assert!(!map.contains_key("y"));
    assert!(!map.contains_key("cookie"));
    assert_eq!(map["x-7"], "new");
    assert_eq!(map.len(), full - 1);
}

#[test]
fn set_says_when_there_is_no_room() {
    let mut full = HeaderChanges::new();
    for i in 0..HeaderChanges::MAX_NAMES {
        assert!(full.set(name(&format!("x-{i}")), values(&["1"])));
    }
    let before = full.clone();
    assert!(!full.set(name("y"), values(&["1"])));
    assert_eq!(full, before);
    assert!(full.set(name("X-0"), values(&["2", "3"])));
    assert_eq!(full.get(&name("x-0")), Some(&values(&["2", "3"])[..]));
    assert_eq!(full.len(), 256);
}

#[test]
fn merge_lets_the_later_win_or_changes_nothing() {
    let mut merged = changes(&[("a", &["1"]), ("b", &["2", "3"])]);
    assert!(merged.merge(changes(&[("B", &["4"]), ("c", &[])])));
    let expected = changes(&[("a", &["1"]), ("b", &["4"]), ("c", &[])]);
    assert_eq!(merged, expected);

    let mut later = HeaderChanges::new();
    for i in 0..HeaderChanges::MAX_NAMES - 3 {
        assert!(later.set(name(&format!("x-{i}")), vec![]));
    }
    assert!(later.set(name("a"), values(&["9"])));
    let mut room = merged.clone();
    assert!(room.merge(later.clone()));
    assert_eq!(room.len(), HeaderChanges::MAX_NAMES);

    assert!(later.set(name("one-too-many"), vec![]));
    assert!(!merged.merge(later));
    assert_eq!(merged, expected);
}

#[test]
fn what_is_set_is_listed() {
    let changes = changes(&[("a", &["1"]), ("b", &[])]);
    assert_eq!((changes.len(), changes.is_empty()), (2, false));
    let all: Vec<_> = changes.iter().map(|(n, v)| (n.as_str(), v.len())).collect();
    assert_eq!(all, [("a", 1), ("b", 0)]);
    assert_eq!(changes.get(&name("A")).map(<[_]>::len), Some(1));
    assert_eq!(changes.get(&name("b")), Some(&[][..]));
    assert_eq!(changes.get(&name("c")), None);
    assert!(HeaderChanges::new().is_empty());
}
