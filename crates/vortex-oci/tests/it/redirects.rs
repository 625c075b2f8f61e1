//! Where a registry may send its client, and what the client takes along.

use vortex_oci::{Client, OciError};

use crate::scripted::{Seen, Server, Shelf, Then, answer, status};
use crate::support::{Author, anonymous, assert_error, module, on, passwords};

fn shelf(author: &Author) -> Shelf {
    let wasm = module(100_000, 1);
    Shelf::new(&author.sign("1.0.0", &wasm), &wasm)
}

/// A registry that wants a password, and has its modules elsewhere.
async fn redirecting(shelf: Shelf, location: String) -> Server {
    Server::start(move |seen, _| {
        if seen.header("authorization") != Some("Basic dXNlcjpzZWNyZXQ=") {
            let ask = [("www-authenticate", "Basic realm=\"x\"")];
            return answer(401, &ask, "", Then::End);
        }
        match seen.is_blob() {
            false => shelf.serve_manifest(),
            true => answer(307, &[("location", &location)], "", Then::End),
        }
    })
    .await
}

fn member(server: &Server) -> Client {
    let config = passwords(&[&server.host], "user", "secret");
    Client::builder().docker_config(config).build().unwrap()
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let author = Author::new();
    let shelf = shelf(&author);
    let blobs = shelf.clone();
    let broken = std::sync::atomic::AtomicBool::new(false);
    let storage = Server::start(move |seen, _| {
        match broken.swap(true, std::sync::atomic::Ordering::SeqCst) {
            false => blobs.serve_blob(seen, 40_000, Then::Break),
            true => blobs.serve_blob(seen, usize::MAX, Then::End),
        }
    })
    .await;
    let location = format!("http://{}/blobs/x?signature=y", storage.host);
    let registry = redirecting(shelf, location).await;
    // Even though the config has a password for the storage as well.
    let config = passwords(&[&registry.host, &storage.host], "user", "secret");
    let client = Client::builder().docker_config(config).build().unwrap();
    let reference = on(&registry.host, "1.0.0");
    let pulled = client.pull(&reference).await.unwrap();
    assert_eq!(pulled.wasm(), module(100_000, 1));
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].range_start(), 40_000);
    for seen in seen {
        assert_eq!(seen.path, "/blobs/x?signature=y");
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("referer"), None);
    }
}

#[tokio::test]
async fn who_is_redirected_to_gets_no_answer_to_a_challenge() {
    let author = Author::new();
    let storage = Server::start(|_, _| {
        let ask = [("www-authenticate", "Basic realm=\"x\"")];
        answer(401, &ask, "", Then::End)
    })
    .await;
    let location = format!("http://{}/blobs/x", storage.host);
    let registry = redirecting(shelf(&author), location).await;
    let config = passwords(&[&registry.host, &storage.host], "user", "secret");
    let client = Client::builder().docker_config(config).build().unwrap();
    let pulled = client.pull(&on(&registry.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Unauthorized { .. });
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_beyond_the_rules_are_not_followed() {
    let author = Author::new();
    for location in [
        "http://192.0.2.1/blob",
        "http://registry.example.com/blob",
        "https://user:secret@registry.example.com/blob",
        "file:///etc/passwd",
        "ftp://registry.example.com/blob",
    ] {
        let registry = redirecting(shelf(&author), location.to_owned()).await;
        let pulled = member(&registry).pull(&on(&registry.host, "1.0.0")).await;
        let error = pulled.unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_error!(Err::<(), _>(&error), OciError::Redirect { .. });
    }
    let registry = redirecting(shelf(&author), "http://[".to_owned()).await;
    let pulled = member(&registry).pull(&on(&registry.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Malformed { .. });
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let author = Author::new();
    let registry = redirecting(shelf(&author), "/v2/blobs/again".to_owned()).await;
    let pulled = member(&registry).pull(&on(&registry.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Redirect { .. });
    // The manifest without and with the password, the module, and three redirects.
    assert_eq!(registry.seen().len(), 6);
}

#[tokio::test]
async fn an_upload_goes_elsewhere_without_credentials() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let is_known = |seen: &Seen| seen.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=");
    let storage = Server::start(|_, _| status(201)).await;
    let location = format!("http://{}/upload?state=s", storage.host);
    let registry = Server::start(move |seen, _| {
        if !is_known(seen) {
            let ask = [("www-authenticate", "Basic realm=\"x\"")];
            return answer(401, &ask, "", Then::End);
        }
        match seen.method.as_str() {
            "POST" => answer(202, &[("location", &location)], "", Then::End),
            "PUT" => status(201),
            _ => status(404),
        }
    })
    .await;
    let reference = on(&registry.host, "1.0.0");
    member(&registry)
        .push(&reference, &manifest, &wasm)
        .await
        .unwrap();
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].path.starts_with("/upload?state=s&digest=sha256%3A"));
    assert!(
        seen.iter()
            .all(|seen| seen.header("authorization").is_none())
    );

    let registry = Server::start(|seen, _| match seen.method.as_str() {
        "POST" => answer(
            202,
            &[("location", "http://192.0.2.1/upload")],
            "",
            Then::End,
        ),
        _ => status(404),
    })
    .await;
    let client = anonymous().build().unwrap();
    let pushed = client
        .push(&on(&registry.host, "1.0.0"), &manifest, &wasm)
        .await;
    assert_error!(pushed, OciError::Redirect { .. });
}
