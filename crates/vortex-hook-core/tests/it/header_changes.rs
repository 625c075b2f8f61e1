//! `HeaderChanges`: collecting them and carrying them out.

use http::header::{HeaderMap, HeaderValue};
use vortex_hook_core::{HeaderChange, HeaderChanges};

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
    let all: Vec<_> = changes.iter().map(|(n, c)| (n.as_str(), c)).collect();
    let one = values(&["1"]);
    assert_eq!(
        all,
        [
            ("a", HeaderChange::Replace(&one)),
            ("b", HeaderChange::Replace(&[]))
        ]
    );
    assert_eq!(changes.get(&name("A")).map(<[_]>::len), Some(1));
    assert_eq!(changes.get(&name("b")), Some(&[][..]));
    assert_eq!(changes.get(&name("c")), None);
    assert!(HeaderChanges::new().is_empty());
}

fn value(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).unwrap()
}

#[test]
fn an_appended_value_comes_after_those_that_are_there() {
    let mut changes = HeaderChanges::new();
    assert!(changes.append(name("Via"), value("b")));
    assert!(changes.append(name("via"), value("c")));
    assert_eq!(changes.get(&name("via")), None, "nothing is replaced");
    assert_eq!(
        changes.iter().collect::<Vec<_>>(),
        [(&name("via"), HeaderChange::Append(&values(&["b", "c"])))]
    );
    let mut map = headers(&[("via", "a")]);
    changes.apply(&mut map);
    assert_eq!(map, headers(&[("via", "a"), ("via", "b"), ("via", "c")]));
}

#[test]
fn the_last_replacement_counts_and_what_was_appended_since() {
    let mut changes = HeaderChanges::new();
    assert!(changes.append(name("a"), value("lost")));
    assert!(changes.insert(name("a"), value("1")));
    assert!(changes.append(name("a"), value("2")));
    let expected = values(&["1", "2"]);
    assert_eq!(changes.get(&name("a")), Some(&expected[..]));
    let mut map = headers(&[("a", "old")]);
    changes.apply(&mut map);
    assert_eq!(map, headers(&[("a", "1"), ("a", "2")]));
}

#[test]
fn merged_appends_add_up() {
    let appended = |text| {
        let mut changes = HeaderChanges::new();
        assert!(changes.append(name("a"), value(text)));
        changes
    };
    let mut merged = appended("1");
    assert!(merged.merge(appended("2")));
    let both = values(&["1", "2"]);
    let all: Vec<_> = merged.iter().collect();
    assert_eq!(all, [(&name("a"), HeaderChange::Append(&both))]);

    let mut replaced = changes(&[("a", &["0"])]);
    assert!(replaced.merge(merged.clone()));
    assert_eq!(replaced, changes(&[("a", &["0", "1", "2"])]));
    assert!(merged.merge(changes(&[("a", &["9"])])));
    assert_eq!(merged, changes(&[("a", &["9"])]));
}

#[test]
fn values_of_one_name_are_bounded() {
    let mut changes = HeaderChanges::new();
    for _ in 0..HeaderChanges::MAX_VALUES {
        assert!(changes.append(name("a"), value("v")));
    }
    let full = changes.clone();
    assert!(!changes.append(name("a"), value("v")));
    let mut more = HeaderChanges::new();
    assert!(more.append(name("b"), value("v")) && more.append(name("a"), value("v")));
    assert!(!changes.merge(more), "one too many in a merge");
    assert_eq!(changes, full);
    assert!(changes.insert(name("a"), value("v")), "a replacement fits");
}

#[test]
fn equality_looks_at_how_values_are_meant() {
    let mut appended = HeaderChanges::new();
    assert!(appended.append(name("a"), value("1")));
    assert_ne!(appended, changes(&[("a", &["1"])]));
    assert_eq!(
        changes(&[("a", &["1"]), ("b", &["2"])]),
        changes(&[("b", &["2"]), ("a", &["1"])])
    );
    assert_ne!(
        changes(&[("a", &["1"]), ("b", &["2"])]),
        changes(&[("a", &["1"]), ("c", &["2"])])
    );
}
