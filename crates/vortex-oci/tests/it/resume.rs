//! Downloads that break off, stall, or never end.

use std::time::Duration;

use vortex_oci::OciError;
use vortex_registry::InstallOutcome;

use crate::scripted::{Server, Shelf, Then, answer, status};
use crate::support::{Author, anonymous, as_child, assert_error, child_dir, module, on};

const LEN: usize = 300_000;

fn shelf(author: &Author) -> Shelf {
    let wasm = module(LEN, 1);
    Shelf::new(&author.sign("1.0.0", &wasm), &wasm)
}

/// A server that breaks every download off after so many bytes, and how often it does so.
async fn breaking(shelf: Shelf, len: usize, times: usize) -> Server {
    let broken = std::sync::atomic::AtomicUsize::new(0);
    Server::start(move |seen, _| {
        if !seen.is_blob() {
            return shelf.serve_manifest();
        }
        let before = broken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match before < times {
            true => shelf.serve_blob(seen, len, Then::Break),
            false => shelf.serve_blob(seen, usize::MAX, Then::End),
        }
    })
    .await
}

fn starts(server: &Server) -> Vec<usize> {
    server
        .blobs()
        .iter()
        .map(|seen| seen.range_start())
        .collect()
}

#[tokio::test]
async fn a_download_that_breaks_off_is_continued_where_it_broke() {
    let author = Author::new();
    let server = breaking(shelf(&author), 100_000, 2).await;
    let client = anonymous().build().unwrap();
    let store = author.store("store");
    let reference = on(&server.host, "1.0.0");
    client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(starts(&server), [0, 100_000, 200_000]);

    let server = breaking(shelf(&author), 100_000, 2).await;
    let pulled = client.pull(&on(&server.host, "1.0.0")).await.unwrap();
    assert_eq!(pulled.wasm(), module(LEN, 1));
    assert_eq!(starts(&server), [0, 100_000, 200_000]);
}

#[tokio::test]
async fn a_later_pull_continues_an_earlier_one() {
    let author = Author::new();
    let server = breaking(shelf(&author), 100_000, 1).await;
    let client = anonymous().attempts(1).build().unwrap();
    let store = author.store("store");
    let reference = on(&server.host, "1.0.0");
    let pulled = client.pull_into(&store, &reference).await;
    assert_error!(pulled, OciError::Transport { .. });
    client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(starts(&server), [0, 100_000]);
}

#[tokio::test]
async fn a_pull_continues_what_a_killed_process_has_left() {
    const TEST: &str = "resume::a_pull_continues_what_a_killed_process_has_left";
    const PATIENCE: Duration = Duration::from_secs(60);
    if let Some(dir) = child_dir(TEST) {
        let host = std::fs::read_to_string(dir.join("host")).unwrap();
        let key = vortex_registry::PrivateKey::read_pem_file(dir.join("key.pem")).unwrap();
        let policy = vortex_registry::Policy::strict([key.public_key()]);
        let store = vortex_registry::Registry::open(dir.join("store"), policy).unwrap();
        let client = anonymous().build().unwrap();
        client.pull_into(&store, &on(&host, "1.0.0")).await.unwrap();
        return;
    }
    let author = Author::new();
    let shelf = shelf(&author);
    let server = Server::start(move |seen, _| match (seen.is_blob(), seen.range_start()) {
        (false, _) => shelf.serve_manifest(),
        (true, 0) => shelf.serve_blob(seen, 100_000, Then::Hang),
        (true, _) => shelf.serve_blob(seen, usize::MAX, Then::End),
    })
    .await;
    let dir = author.temp.path();
    author.key.write_pem_file(dir.join("key.pem")).unwrap();
    std::fs::write(dir.join("host"), &server.host).unwrap();
    let mut child = as_child(TEST, dir).spawn().unwrap();
    let downloads = dir.join("store/.downloads");
    let received = async {
        loop {
            let len = std::fs::read_dir(&downloads).ok().and_then(|mut entries| {
                let metadata = entries.next()?.ok()?.metadata().ok()?;
                Some(metadata.len())
            });
            if len == Some(100_000) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, received).await.unwrap();

    // As long as the other lives, nobody else downloads.
    let store = author.store("store");
    let reference = on(&server.host, "1.0.0");
    let hurried = anonymous()
        .deadline(Duration::from_millis(500))
        .build()
        .unwrap();
    let pulled = hurried.pull_into(&store, &reference).await;
    assert_error!(pulled, OciError::Deadline { .. });
    assert_eq!(starts(&server), [0]);

    child.kill().unwrap();
    child.wait().unwrap();
    let client = anonymous().build().unwrap();
    let installed = client.pull_into(&store, &reference).await.unwrap();
    assert_eq!(installed.outcome, InstallOutcome::Installed);
    assert_eq!(starts(&server), [0, 100_000]);
}

#[tokio::test]
async fn what_was_left_and_is_wrong_is_downloaded_again() {
    let author = Author::new();
    let shelf = shelf(&author);
    let client = anonymous().build().unwrap();
    for left in [vec![0; 1000], vec![0; LEN], vec![0; LEN + 1]] {
        let server = Server::of(shelf.clone()).await;
        let store = author.store(&format!("store-{}", left.len()));
        let downloads = store.path().join(".downloads");
        std::fs::create_dir_all(&downloads).unwrap();
        let checksum = vortex_registry::Digest::of(&shelf.wasm);
        std::fs::write(downloads.join(checksum.to_string()), &left).unwrap();
        client
            .pull_into(&store, &on(&server.host, "1.0.0"))
            .await
            .unwrap();
        assert_eq!(starts(&server).last(), Some(&0));
    }
}

#[tokio::test]
async fn servers_that_know_no_ranges_start_again() {
    let author = Author::new();
    for refusal in [200, 416] {
        let shelf = shelf(&author);
        let server = Server::start(move |seen, before| {
            if !seen.is_blob() {
                return shelf.serve_manifest();
            }
            match (before, seen.range_start()) {
                (1, _) => shelf.serve_blob(seen, 100_000, Then::Break),
                (_, 0) => shelf.serve_blob(seen, usize::MAX, Then::End),
                _ if refusal == 416 => status(416),
                _ => answer(200, &[], shelf.wasm.clone(), Then::End),
            }
        })
        .await;
        let client = anonymous().build().unwrap();
        let pulled = client.pull(&on(&server.host, "1.0.0")).await.unwrap();
        assert_eq!(pulled.wasm(), module(LEN, 1));
    }
}

#[tokio::test]
async fn another_part_than_the_one_asked_for_is_refused() {
    let author = Author::new();
    for range in [
        "bytes 0-299999/300000",
        "bytes 100000-299999/300001",
        "pages 1-2/3",
        "",
    ] {
        let shelf = shelf(&author);
        // The bytes are right, and only the range says otherwise.
        let server = Server::start(move |seen, _| match (seen.is_blob(), seen.range_start()) {
            (false, _) => shelf.serve_manifest(),
            (true, 0) => shelf.serve_blob(seen, 100_000, Then::Break),
            _ => answer(
                206,
                &[("content-range", range)],
                shelf.wasm.slice(100_000..),
                Then::End,
            ),
        })
        .await;
        let client = anonymous().build().unwrap();
        let pulled = client.pull(&on(&server.host, "1.0.0")).await;
        assert_error!(
            pulled,
            OciError::Malformed {
                what: "the module",
                ..
            }
        );
        assert_eq!(starts(&server), [0, 100_000]);
    }
}

#[tokio::test]
async fn a_module_that_does_not_end_is_given_up() {
    let author = Author::new();
    let shelf = shelf(&author);
    let server = Server::start(move |seen, _| match seen.is_blob() {
        false => shelf.serve_manifest(),
        true => shelf.serve_blob(seen, usize::MAX, Then::Flood),
    })
    .await;
    let client = anonymous().build().unwrap();
    let store = author.store("store");
    let reference = on(&server.host, "1.0.0");
    let pulled = client.pull_into(&store, &reference).await;
    assert_error!(
        pulled,
        OciError::Malformed {
            what: "the module",
            ..
        }
    );
    let pulled = client.pull(&reference).await;
    assert_error!(
        pulled,
        OciError::Malformed {
            what: "the module",
            ..
        }
    );
    for entry in std::fs::read_dir(store.path().join(".downloads")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= LEN as u64);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let author = Author::new();
    let shelf = shelf(&author);
    let server = Server::start(move |seen, _| match seen.is_blob() {
        false => shelf.serve_manifest(),
        true => shelf.serve_blob(seen, 1000, Then::Hang),
    })
    .await;
    let limit = Duration::from_millis(200);
    let client = anonymous().stall_limit(limit).attempts(3).build().unwrap();
    let pulled = client.pull(&on(&server.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Stalled { .. });
    assert_eq!(starts(&server), [0, 1000, 2000]);

    // One that does not even begin to answer.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let pulled = client.pull(&on(&host, "1.0.0")).await;
    assert_error!(pulled, OciError::Stalled { .. });
}

#[tokio::test]
async fn a_server_that_trickles_meets_the_deadline() {
    let author = Author::new();
    let shelf = shelf(&author);
    let server = Server::start(move |seen, _| match seen.is_blob() {
        false => shelf.serve_manifest(),
        true => shelf.serve_blob(seen, 10, Then::Trickle),
    })
    .await;
    let client = anonymous()
        .deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    let pulled = client.pull(&on(&server.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Deadline { .. });
    assert_eq!(starts(&server), [0]);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let author = Author::new();
    let shelf = shelf(&author);
    let server = Server::start(move |seen, before| match before {
        0 | 2 => status(503),
        _ => shelf.serve(seen),
    })
    .await;
    let client = anonymous().attempts(2).build().unwrap();
    client.pull(&on(&server.host, "1.0.0")).await.unwrap();
    assert_eq!(server.seen().len(), 4);

    let server = Server::start(|_, _| status(503)).await;
    let pulled = client.pull(&on(&server.host, "1.0.0")).await;
    assert_error!(pulled, OciError::Status { status: 503, .. });
    assert_eq!(server.seen().len(), 2);
}
