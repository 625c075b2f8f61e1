//! Push and pull against Debian's `docker-registry`, read back by skopeo.

use std::sync::{Arc, Mutex};

use vortex_oci::{OciError, Reference};
use vortex_registry::{Digest, InstallOutcome, RegistryError};

use crate::support::{Author, DockerRegistry, anonymous, assert_error, module, on, signed, skopeo};

#[tokio::test]
async fn what_is_pushed_is_pulled_and_installed() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let wasm = module(3_000_000, 1);
    let manifest = author.sign("1.2.3", &wasm);
    let source = author.store("source");
    source.install(&manifest, &wasm).unwrap();
    let plugin = source.get_latest(&manifest.name).unwrap();

    let (client, reference) = (anonymous().build().unwrap(), on(&registry.host, "1.2.3"));
    let digest = client
        .push(&reference, plugin.manifest(), plugin.wasm())
        .await
        .unwrap();
    // A second time, nothing is sent.
    let uploads = registry.answered("PUT", "");
    assert!(uploads >= 3);
    let again = client.push(&reference, &manifest, &wasm).await.unwrap();
    assert_eq!(again, digest);
    assert_eq!(registry.answered("PUT", ""), uploads);

    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let telling =
        anonymous().on_progress(move |done, all| teller.lock().unwrap().push((done, all)));
    let telling = telling.build().unwrap();
    assert_eq!(telling.pull(&reference).await.unwrap().wasm(), &wasm[..]);
    let told = std::mem::take(&mut *told.lock().unwrap());
    let all = wasm.len() as u64;
    assert!(told.is_sorted() && told.iter().all(|(_, of)| *of == all));
    assert_eq!(told.last(), Some(&(all, all)));

    let pulled = client.pull(&reference).await.unwrap();
    assert_eq!((pulled.manifest(), pulled.wasm()), (&manifest, &wasm[..]));
    assert_eq!(pulled.digest(), digest);

    let target = author.store("target");
    let installed = client.pull_into(&target, &reference).await.unwrap();
    assert_eq!(installed.outcome, InstallOutcome::Installed);
    assert_eq!(installed.digest, Some(digest));
    assert_eq!(target.get_latest(&manifest.name).unwrap().wasm(), wasm);
    let left = std::fs::read_dir(target.path().join(".downloads")).unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(target.list().unwrap().len(), 1);

    // What is installed needs no registry.
    drop(registry);
    let installed = client.pull_into(&target, &reference).await.unwrap();
    assert_eq!(installed.outcome, InstallOutcome::AlreadyInstalled);
    assert_error!(client.pull(&reference).await, OciError::Transport { .. });
}

#[tokio::test]
async fn an_independent_client_reads_the_same_bytes() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let wasm = module(100_000, 2);
    let manifest = author.sign("1.2.3-rc.1", &wasm);
    let (client, reference) = (
        anonymous().build().unwrap(),
        on(&registry.host, "1.2.3-rc.1"),
    );
    let digest = client.push(&reference, &manifest, &wasm).await.unwrap();

    let source = format!("docker://{reference}");
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &source]);
    assert_eq!(Digest::of(&raw), digest);
    let json: serde_json::Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(
        json["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(json["layers"].as_array().unwrap().len(), 1);
    assert_eq!(json["layers"][0]["mediaType"], "application/wasm");
    let annotation = &json["annotations"]["io.github.vortex-gateway.plugin.signature"];
    assert_eq!(*annotation, manifest.signature);

    let copy = author.temp.path().join("copy");
    let target = format!("dir:{}", copy.display());
    skopeo(&["copy", "--src-tls-verify=false", &source, &target]);
    assert_eq!(
        std::fs::read(copy.join(manifest.checksum.to_string())).unwrap(),
        wasm
    );
    assert_eq!(std::fs::read(copy.join("manifest.json")).unwrap(), raw);

    // And what the other client has carried to another registry is still whole.
    let mirror = DockerRegistry::start();
    let target = format!("docker://{}", on(&mirror.host, "1.2.3-rc.1"));
    let from = format!("dir:{}", copy.display());
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &from,
        &target,
    ]);
    let pinned = on(&mirror.host, "1.2.3-rc.1").pinned(digest);
    let store = author.store("store");
    client.pull_into(&store, &pinned).await.unwrap();
    let version = "1.2.3-rc.1".parse().unwrap();
    assert_eq!(store.get(&manifest.name, &version).unwrap().wasm(), wasm);
}

#[tokio::test]
async fn a_tag_that_is_moved_to_another_version_is_refused() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let [old, new] = ["1.1.0", "1.2.0"].map(|version| on(&registry.host, version));
    let wasm = module(1000, 1);
    for reference in [&old, &new] {
        let manifest = author.sign(&reference.version().unwrap().to_string(), &wasm);
        client.push(reference, &manifest, &wasm).await.unwrap();
    }
    let digest = client.pull(&new).await.unwrap().digest();
    let [from, to] = [&old, &new].map(|reference| format!("docker://{reference}"));
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &from,
        &to,
    ]);

    let store = author.store("store");
    assert_error!(
        client.pull_into(&store, &new).await,
        OciError::WrongPlugin { version, .. } if version.to_string() == "1.1.0"
    );
    assert_error!(client.pull(&new).await, OciError::WrongPlugin { .. });
    assert!(store.list().unwrap().is_empty());
    // Who has pinned the digest does not care where the tag points.
    let pulled = client.pull(&new.clone().pinned(digest)).await.unwrap();
    assert_eq!(pulled.manifest().version.to_string(), "1.2.0");
    // And who has pinned the old one does not get it for the new one.
    let old_digest = client.pull(&old).await.unwrap().digest();
    assert_error!(
        client.pull(&new.pinned(old_digest)).await,
        OciError::WrongPlugin { .. }
    );
}

#[tokio::test]
async fn another_plugin_in_the_repository_is_refused() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let wasm = module(1000, 1);
    let reference = on(&registry.host, "1.0.0");
    client
        .push(&reference, &author.sign("1.0.0", &wasm), &wasm)
        .await
        .unwrap();
    let other = Reference::parse(&format!("{}/team/guard:1.0.0", registry.host)).unwrap();
    let [from, to] = [&reference, &other].map(|reference| format!("docker://{reference}"));
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &from,
        &to,
    ]);
    assert_error!(
        client.pull_into(&author.store("store"), &other).await,
        OciError::WrongPlugin { name, .. } if name.as_str() == "redirect"
    );
}

#[tokio::test]
async fn a_published_version_does_not_change() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let reference = on(&registry.host, "1.0.0");
    let [first, second] = [1, 2].map(|seed| module(1000, seed));
    let manifest = author.sign("1.0.0", &first);
    let digest = client.push(&reference, &manifest, &first).await.unwrap();
    let other = author.sign("1.0.0", &second);
    assert_error!(
        client.push(&reference, &other, &second).await,
        OciError::AlreadyPublished { existing, .. } if existing == digest
    );
    assert_eq!(client.pull(&reference).await.unwrap().wasm(), first);

    // A store that has the one does not take the other, and says so before it downloads it.
    let store = author.store("store");
    store.install(&other, &second).unwrap();
    assert_error!(
        client.pull_into(&store, &reference.pinned(digest)).await,
        OciError::Registry(RegistryError::Conflict { .. })
    );
    let blob = format!("/blobs/sha256:{}", manifest.checksum);
    assert_eq!(registry.answered("GET", &blob), 1);
}

#[tokio::test]
async fn only_what_fits_the_reference_is_pushed() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let wasm = module(1000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let good = on(&registry.host, "1.0.0");
    let guard = Reference::parse(&format!("{}/team/guard:1.0.0", registry.host)).unwrap();
    let pinned = good.clone().pinned(Digest::of(b""));
    for bad in [on(&registry.host, "1.0.1"), guard, pinned] {
        let pushed = client.push(&bad, &manifest, &wasm).await;
        assert_error!(pushed, OciError::Unpublishable { .. });
    }
    let pushed = client.push(&good, &manifest, &wasm[1..]).await;
    assert_error!(pushed, OciError::Unpublishable { .. });
    let small = anonymous().max_wasm_bytes(999).build().unwrap();
    let pushed = small.push(&good, &manifest, &wasm).await;
    assert_error!(pushed, OciError::TooLarge { limit: 999, .. });
    assert_eq!(registry.answered("PUT", ""), 0);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let error = client.pull(&on(&registry.host, "1.0.0")).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let wasm = module(1000, 1);
    let reference = on(&registry.host, "1.0.0");
    client
        .push(&reference, &author.sign("1.0.0", &wasm), &wasm)
        .await
        .unwrap();
    for missing in [
        on(&registry.host, "1.0.1"),
        reference.pinned(Digest::of(b"another")),
    ] {
        let error = client.pull(&missing).await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
    }
}

#[tokio::test]
async fn what_nobody_trusted_has_signed_stays_outside() {
    let (author, registry) = (Author::new(), DockerRegistry::start());
    let client = anonymous().build().unwrap();
    let wasm = module(1000, 1);
    let stranger = Author::new();
    let foreign = signed(&stranger.key, "1.0.0", &wasm);
    let mut unsigned = author.sign("1.0.1", &wasm);
    unsigned.signature.clear();
    for manifest in [&foreign, &unsigned] {
        let reference = on(&registry.host, &manifest.version.to_string());
        client.push(&reference, manifest, &wasm).await.unwrap();
    }
    let store = author.store("store");
    assert_error!(
        client.pull_into(&store, &on(&registry.host, "1.0.0")).await,
        OciError::Registry(RegistryError::UntrustedKey { .. })
    );
    assert_error!(
        client.pull_into(&store, &on(&registry.host, "1.0.1")).await,
        OciError::Registry(RegistryError::Unsigned { .. })
    );
    assert!(store.list().unwrap().is_empty());
    let left = std::fs::read_dir(store.path().join(".downloads")).unwrap();
    assert_eq!(left.count(), 0);
}
