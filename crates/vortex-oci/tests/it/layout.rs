//! Manifests that are not what they should be.

use vortex_oci::OciError;
use vortex_registry::{Digest, RegistryError};

use crate::scripted::{MANIFEST_TYPE, Server, Shelf, Then, answer};
use crate::support::{Author, anonymous, assert_error, module, on};

async fn pull(author: &Author, shelf: Shelf, version: &str) -> Result<(), OciError> {
    let server = Server::of(shelf).await;
    let client = anonymous().attempts(1).build().unwrap();
    let store = author.store("store");
    let pulled = client.pull_into(&store, &on(&server.host, version)).await;
    assert_eq!(store.list().unwrap().is_empty(), pulled.is_err());
    pulled.map(|_| ())
}

#[tokio::test]
async fn a_layout_that_is_not_ours_is_refused_before_the_module_is_fetched() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let shelf = Shelf::new(&author.sign("1.0.0", &wasm), &wasm);
    for (from, to) in [
        ("\"application/wasm\"", "\"application/octet-stream\""),
        ("\"plugin.wasm\"", "\"plugin.exe\""),
        ("vnd.wasm.config.v0", "vnd.oci.image.config.v1"),
        ("\"schemaVersion\":2", "\"schemaVersion\":1"),
        ("\"size\":1000", "\"size\":67108865"),
        ("\"size\":1000", "\"size\":18446744073709551616"),
        (
            "\"layers\":[",
            "\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"\",\"size\":1},",
        ),
        ("image.version", "image.revision"),
    ] {
        let shelf = shelf.edited(from, to);
        let server = Server::of(shelf).await;
        let client = anonymous().build().unwrap();
        let pulled = client.pull(&on(&server.host, "1.0.0")).await;
        assert_error!(
            pulled,
            OciError::Malformed { .. } | OciError::TooLarge { .. }
        );
        assert!(server.blobs().is_empty(), "{to}");
        assert_eq!(server.seen().len(), 1, "{to}");
    }
    pull(&author, shelf, "1.0.0").await.unwrap();
}

#[tokio::test]
async fn a_limit_of_the_store_counts_before_the_module_is_fetched() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let server = Server::of(Shelf::new(&author.sign("1.0.0", &wasm), &wasm)).await;
    let mut limits = vortex_registry::Limits::default();
    limits.wasm_bytes = 999;
    let store = author.store("store").with_limits(limits);
    let client = anonymous().build().unwrap();
    let pulled = client.pull_into(&store, &on(&server.host, "1.0.0")).await;
    assert_error!(pulled, OciError::TooLarge { limit: 999, .. });
    assert!(server.blobs().is_empty());
}

#[tokio::test]
async fn what_is_said_outside_the_signature_must_be_what_is_signed() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let shelf = Shelf::new(&author.sign("1.0.0", &wasm), &wasm);
    // An old version under the tag and name of a newer one.
    let relabelled = shelf.edited("\"1.0.0\"", "\"1.1.0\"");
    assert_error!(
        pull(&author, relabelled, "1.1.0").await,
        OciError::Registry(RegistryError::Corrupt { .. })
    );
    for (from, to) in [("addresses", "passwords"), ("pre_request", "post_response")] {
        assert_error!(
            pull(&author, shelf.edited(from, to), "1.0.0").await,
            OciError::Registry(RegistryError::Corrupt { .. })
        );
    }
    // Another module under the old signature.
    let other = module(1000, 2);
    let [checksum, other_checksum] = [&wasm, &other].map(|wasm| Digest::of(wasm).to_string());
    let mut swapped = shelf.edited(&checksum, &other_checksum);
    swapped.wasm = other.into();
    assert_error!(
        pull(&author, swapped, "1.0.0").await,
        OciError::Registry(RegistryError::Corrupt { .. })
    );
}

#[tokio::test]
async fn a_pinned_manifest_has_the_digest() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let shelf = Shelf::new(&author.sign("1.0.0", &wasm), &wasm);
    let digest = shelf.digest();
    let reference = |server: &Server| on(&server.host, "1.0.0").pinned(digest);
    let server = Server::of(shelf.clone()).await;
    let client = anonymous().build().unwrap();
    let store = author.store("store");
    client.pull_into(&store, &reference(&server)).await.unwrap();
    assert!(
        server.seen()[0]
            .path
            .ends_with(&format!("/manifests/sha256:{digest}"))
    );
    // As good as the original, but another one.
    let server = Server::of(shelf.edited("{\"annotations\"", "{ \"annotations\"")).await;
    let pulled = client
        .pull_into(&author.store("other"), &reference(&server))
        .await;
    assert_error!(pulled, OciError::Digest { expected, .. } if expected == digest);
    assert!(server.blobs().is_empty());
}

#[tokio::test]
async fn a_module_has_the_digest() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let mut shelf = Shelf::new(&author.sign("1.0.0", &wasm), &wasm);
    shelf.wasm = module(1000, 2).into();
    let server = Server::of(shelf).await;
    let client = anonymous().build().unwrap();
    let reference = on(&server.host, "1.0.0");
    let store = author.store("store");
    for _ in 0..2 {
        let pulled = client.pull_into(&store, &reference).await;
        assert_error!(
            pulled,
            OciError::Digest {
                what: "the module",
                ..
            }
        );
    }
    // What was wrong is not continued.
    assert!(server.blobs().iter().all(|seen| seen.range_start() == 0));
    assert_eq!(server.blobs().len(), 2);
    assert_error!(client.pull(&reference).await, OciError::Digest { .. });
}

#[tokio::test]
async fn manifests_are_bounded_and_typed() {
    let client = anonymous().attempts(1).build().unwrap();
    let headers = [("content-type", MANIFEST_TYPE)];
    let server = Server::start(move |_, _| answer(200, &headers, "{", Then::Flood)).await;
    assert_error!(
        client.pull(&on(&server.host, "1.0.0")).await,
        OciError::TooLarge {
            what: "the manifest",
            ..
        }
    );
    let headers = [
        ("content-type", MANIFEST_TYPE),
        ("content-length", "99999999"),
    ];
    let server = Server::start(move |_, _| answer(200, &headers, "{", Then::Hang)).await;
    assert_error!(
        client.pull(&on(&server.host, "1.0.0")).await,
        OciError::TooLarge {
            what: "the manifest",
            ..
        }
    );
    for wrong in ["text/html", "application/vnd.oci.image.index.v1+json", ""] {
        let headers = [("content-type", wrong)];
        let server = Server::start(move |_, _| answer(200, &headers, "{}", Then::End)).await;
        assert_error!(
            client.pull(&on(&server.host, "1.0.0")).await,
            OciError::Malformed {
                what: "the manifest",
                ..
            }
        );
    }
}

#[tokio::test]
async fn errors_of_a_server_are_quoted_shortly_and_harmlessly() {
    let server = Server::start(|_, _| answer(403, &[], "\x1b[2Jno", Then::Flood)).await;
    let client = anonymous().build().unwrap();
    let error = client.pull(&on(&server.host, "1.0.0")).await.unwrap_err();
    assert_error!(Err::<(), _>(&error), OciError::Status { status: 403, .. });
    let text = error.to_string();
    assert!(text.len() < 500 && !text.contains('\x1b'), "{text}");
    let server = Server::start(|_, _| answer(403, &[], "\x1b[2Jno", Then::End)).await;
    let error = client.pull(&on(&server.host, "1.0.0")).await.unwrap_err();
    assert!(error.to_string().contains("[2Jno"), "{error}");
}
