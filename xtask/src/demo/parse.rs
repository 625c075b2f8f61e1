//! Reads what the demo's programs print.

/// The address in `listening on ADDRESS`.
pub(super) fn listening(line: &str) -> Option<&str> {
    let (_, address) = line.split_once("listening on ")?;
    address.split_whitespace().next()
}

/// One line of the gateway's log about a hook that ran.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HookEvent<'a> {
    pub(super) hook_type: &'a str,
    pub(super) plugin: &'a str,
}

/// The event in `hook on_connect name=header-rewrite allow=true`, whatever
/// a log may have put before it.
pub(super) fn hook_event(line: &str) -> Option<HookEvent<'_>> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "hook");
    words.next()?;
    let hook_type = words.next()?;
    let plugin = words.find_map(|word| word.strip_prefix("name="))?;
    Some(HookEvent { hook_type, plugin })
}

/// The value of a header that the upstream's body repeats, as `name: value`.
pub(super) fn echoed<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether an error speaks of damaged bytes, in whichever words.
pub(super) fn speaks_of_corruption(text: &str) -> bool {
    let text = text.to_lowercase();
    ["corrupt", "digest", "tampered", "damaged", "does not match"]
        .iter()
        .any(|word| text.contains(word))
}

/// Whether a denial says that the CPU budget was used up.
pub(super) fn speaks_of_budget(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("cpu budget") || text.contains("cpu-budget") || text.contains("cpu time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found() {
        assert_eq!(
            listening("listening on 127.0.0.1:8080"),
            Some("127.0.0.1:8080")
        );
        assert_eq!(
            listening("INFO listening on 127.0.0.1:1 (2 plugins)"),
            Some("127.0.0.1:1")
        );
        assert_eq!(listening("loading plugins"), None);
    }

    #[test]
    fn a_hook_event_is_found() {
        let event = HookEvent {
            hook_type: "on_connect",
            plugin: "header-rewrite",
        };
        assert_eq!(
            hook_event("hook on_connect name=header-rewrite allow=true"),
            Some(event)
        );
        assert_eq!(
            hook_event("12:00 INFO hook on_close allow=true name=a").map(|event| event.hook_type),
            Some("on_close")
        );
        assert_eq!(hook_event("hooked on something"), None);
        assert_eq!(hook_event("hook"), None);
    }

    #[test]
    fn an_echoed_header_is_found_in_any_case() {
        let body = "GET / HTTP/1.1\nhost: 127.0.0.1:80\nX-Consumer: demo\r\n";
        assert_eq!(echoed(body, "x-consumer"), Some("demo"));
        assert_eq!(echoed(body, "Host"), Some("127.0.0.1:80"));
        assert_eq!(echoed(body, "user-agent"), None);
    }

    #[test]
    fn errors_are_understood() {
        assert!(speaks_of_corruption(
            "error: Digest mismatch in plugin.wasm"
        ));
        assert!(!speaks_of_corruption("error: no such plugin"));
        assert!(speaks_of_budget("denied: CPU budget of 100 ms exhausted"));
        assert!(!speaks_of_budget("denied by api-key"));
    }
}
