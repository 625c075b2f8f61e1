//! Several sources of one plugin.

use vortex_oci::{Client, OciError};
use vortex_registry::{InstallOutcome, RegistryError};

use crate::scripted::{Server, Shelf, Then, status};
use crate::support::{
    Author, DockerRegistry, anonymous, assert_error, module, on, passwords, signed,
};

/// A port that nobody listens on any more.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn client(registry: &str, mirrors: &[&str]) -> Client {
    let mut builder = anonymous().attempts(1);
    for mirror in mirrors {
        builder = builder.mirror(registry, mirror).unwrap();
    }
    builder.build().unwrap()
}

#[tokio::test]
async fn mirrors_are_asked_in_order_until_one_serves() {
    let author = Author::new();
    let wasm = module(50_000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let good = Shelf::new(&manifest, &wasm);
    let down = closed_port();
    let empty = Server::start(|_, _| status(404)).await;
    let mut corrupt = good.clone();
    corrupt.wasm = module(50_000, 2).into();
    let corrupt = Server::of(corrupt).await;
    // Signed by somebody whom nobody knows.
    let foreign = signed(&Author::new().key, "1.0.0", &wasm);
    let foreign = Server::of(Shelf::new(&foreign, &wasm)).await;
    // A mirror that has stayed behind, or was turned back.
    let stale = Server::of(Shelf::new(&author.sign("0.9.0", &wasm), &wasm)).await;
    let serving = Server::of(good).await;
    let never = Server::start(|_, _| status(500)).await;
    let registry = DockerRegistry::start();

    let mirrors = [
        &down,
        &empty.host,
        &corrupt.host,
        &foreign.host,
        &stale.host,
        &serving.host,
        &never.host,
    ];
    let mirrors = mirrors.map(String::as_str);
    let client = client(&registry.host, &mirrors);
    let store = author.store("store");
    let reference = on(&registry.host, "1.0.0");
    let installed = client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(installed.outcome, InstallOutcome::Installed);
    assert_eq!(empty.seen().len(), 1);
    assert_eq!(corrupt.blobs().len(), 1);
    assert_eq!(foreign.blobs().len(), 1);
    assert_eq!((stale.seen().len(), stale.blobs().len()), (1, 0));
    assert_eq!(serving.blobs().len(), 1);
    assert!(never.seen().is_empty());
    assert_eq!(registry.answered("GET", "redirect"), 0);
    assert_eq!(client.pull(&reference).await.unwrap().wasm(), wasm);
}

#[tokio::test]
async fn the_registry_is_asked_last_and_pushed_to_alone() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let registry = DockerRegistry::start();
    let mirror = Server::start(|_, _| status(404)).await;
    let client = client(&registry.host, &[&mirror.host]);
    let reference = on(&registry.host, "1.0.0");
    client.push(&reference, &manifest, &wasm).await.unwrap();
    assert!(mirror.seen().is_empty());
    let store = author.store("store");
    client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(mirror.seen().len(), 1);
    // Mirrors are of their own registry alone.
    let other = Server::start(|_, _| status(404)).await;
    let pulled = client.pull(&on(&other.host, "1.0.0")).await;
    assert_error!(pulled, OciError::NotFound { .. });
    assert_eq!(mirror.seen().len(), 1);
}

#[tokio::test]
async fn another_source_continues_what_one_has_begun() {
    let author = Author::new();
    let wasm = module(300_000, 1);
    let shelf = Shelf::new(&author.sign("1.0.0", &wasm), &wasm);
    let breaking = shelf.clone();
    let breaking = Server::start(move |seen, _| match seen.is_blob() {
        false => breaking.serve_manifest(),
        true => breaking.serve_blob(seen, 100_000, Then::Break),
    })
    .await;
    let serving = Server::of(shelf.clone()).await;
    let client = client(&serving.host, &[&breaking.host]);
    let store = author.store("store");
    let reference = on(&serving.host, "1.0.0");
    client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(serving.blobs()[0].range_start(), 100_000);

    // What the first one sent may be the part that is wrong.
    let mut lying = shelf.clone();
    lying.wasm = module(300_000, 2).into();
    let lying = Server::start(move |seen, _| match seen.is_blob() {
        false => lying.serve_manifest(),
        true => lying.serve_blob(seen, 100_000, Then::Break),
    })
    .await;
    let serving = Server::of(shelf).await;
    let client = self::client(&serving.host, &[&lying.host]);
    let store = author.store("other");
    let reference = on(&serving.host, "1.0.0");
    client.pull_into(&store, &reference).await.unwrap();
    let starts: Vec<_> = serving
        .blobs()
        .iter()
        .map(|seen| seen.range_start())
        .collect();
    assert_eq!(starts, [100_000, 0]);
}

#[tokio::test]
async fn when_no_source_serves_each_has_its_say() {
    let author = Author::new();
    let [mirror, registry] = [
        Server::start(|_, _| status(404)).await,
        Server::start(|_, _| status(404)).await,
    ];
    let client = client(&registry.host, &[&mirror.host, &closed_port()]);
    let store = author.store("store");
    let reference = on(&registry.host, "1.0.0");
    let error = client.pull_into(&store, &reference).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&mirror.host) && text.contains(&registry.host),
        "{text}"
    );
    assert!(!error.is_not_found());
    assert_error!(Err::<(), _>(error), OciError::Sources { failures, .. } if failures.len() == 3);
}

#[tokio::test]
async fn what_no_source_can_help_is_not_tried_elsewhere() {
    let author = Author::new();
    let wasm = module(1000, 1);
    let server = Server::of(Shelf::new(&author.sign("1.0.0", &wasm), &wasm)).await;
    let registry = Server::start(|_, _| status(404)).await;
    let client = client(&registry.host, &[&server.host]);
    let store = author.store("store");
    let other = module(1000, 2);
    store
        .install(&author.sign("1.0.0", &other), &other)
        .unwrap();
    let pinned = server.seen();
    assert!(pinned.is_empty());
    let digest = Shelf::new(&author.sign("1.0.0", &wasm), &wasm).digest();
    let pulled = client
        .pull_into(&store, &on(&registry.host, "1.0.0").pinned(digest))
        .await;
    assert_error!(pulled, OciError::Registry(RegistryError::Conflict { .. }));
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_or_none() {
    let ask = [("www-authenticate", "Basic realm=\"x\"")];
    let mirror = Server::start(move |_, _| crate::scripted::answer(401, &ask, "", Then::End)).await;
    let registry = Server::start(|_, _| status(404)).await;
    let client = Client::builder()
        .docker_config(passwords(&[&registry.host], "user", "secret"))
        .mirror(&registry.host, &mirror.host)
        .unwrap()
        .build()
        .unwrap();
    let pulled = client.pull(&on(&registry.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Sources { .. });
    assert_eq!(mirror.seen().len(), 1);
    assert_eq!(mirror.seen()[0].header("authorization"), None);
}
