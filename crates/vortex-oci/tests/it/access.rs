//! Registries that want to know who is there, and those behind TLS.

use rcgen::generate_simple_self_signed;
use vortex_oci::{Client, OciError};

use crate::scripted::{Answer, Seen, Server, Shelf, Then, answer, status};
use crate::support::{
    Author, DockerRegistry, anonymous, assert_error, config, module, on, passwords,
};

/// The hash of the password `secret` by bcrypt, the only one that the registry knows.
const HTPASSWD: &str = "user:$2b$04$XLl6ZjIQURIII8P8oMPLiO8uGRtudKF.M4g6kRjtp/jTy0088Gyk2\n";

fn with_password() -> DockerRegistry {
    DockerRegistry::start_with(|directory| {
        let file = directory.join("htpasswd");
        std::fs::write(&file, HTPASSWD).unwrap();
        format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            file.display()
        )
    })
}

#[tokio::test]
async fn a_registry_with_passwords_lets_in_who_has_one() {
    let (author, registry) = (Author::new(), with_password());
    let wasm = module(1000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let reference = on(&registry.host, "1.0.0");
    let client = |password: &str| {
        let config = passwords(&[&registry.host], "user", password);
        Client::builder().docker_config(config).build().unwrap()
    };
    for stranger in [anonymous().build().unwrap(), client("guess")] {
        let pushed = stranger.push(&reference, &manifest, &wasm).await;
        assert_error!(pushed, OciError::Unauthorized { .. });
    }
    let member = client("secret");
    member.push(&reference, &manifest, &wasm).await.unwrap();
    let store = author.store("store");
    member.pull_into(&store, &reference).await.unwrap();
    for stranger in [anonymous().build().unwrap(), client("guess")] {
        let pulled = stranger.pull(&reference).await;
        assert_error!(pulled, OciError::Unauthorized { .. });
    }
}

#[tokio::test]
async fn the_certificate_of_a_registry_is_checked() {
    let certified = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = certified.cert.pem();
    let registry = DockerRegistry::start_with(|directory| {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.join(name));
        std::fs::write(&cert, &pem).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        let (cert, key) = (cert.display(), key.display());
        format!("  tls:\n    certificate: {cert}\n    key: {key}\n")
    });
    let author = Author::new();
    let wasm = module(200_000, 1);
    let manifest = author.sign("1.0.0", &wasm);
    let reference = on(&registry.host, "1.0.0");
    let builder = || anonymous().attempts(1).https(&registry.host).unwrap();
    let trusting = builder().root_certificates(pem.as_bytes()).unwrap();
    let trusting = trusting.build().unwrap();
    trusting.push(&reference, &manifest, &wasm).await.unwrap();
    let store = author.store("store");
    trusting.pull_into(&store, &reference).await.unwrap();

    // Without the root, with another one, and without TLS.
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = builder().root_certificates(other.cert.pem().as_bytes());
    for client in [builder(), other.unwrap()] {
        let pulled = client.build().unwrap().pull(&reference).await;
        assert_error!(pulled, OciError::Transport { .. } | OciError::Setup { .. });
    }
    let plain = anonymous().build().unwrap();
    assert!(plain.pull(&reference).await.is_err());
    assert!(anonymous().root_certificates(b"no certificate").is_err());
}

/// A registry whose token service is at another port of this machine.
async fn with_tokens(shelf: Shelf, token: fn(&Seen) -> Answer) -> (Server, Server) {
    let service = Server::start(move |seen, _| token(seen)).await;
    let realm = format!("http://{}/token", service.host);
    let registry = Server::start(move |seen, _| {
        if seen.header("authorization") == Some("Bearer t0ken") {
            return shelf.serve(seen);
        }
        let ask = format!(
            "Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:other:*\""
        );
        answer(401, &[("www-authenticate", &ask)], "", Then::End)
    })
    .await;
    (registry, service)
}

fn shelf(author: &Author) -> Shelf {
    let wasm = module(1000, 1);
    Shelf::new(&author.sign("1.0.0", &wasm), &wasm)
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_then_used() {
    let author = Author::new();
    let (registry, service) = with_tokens(shelf(&author), |seen| {
        // The user `user` with the password `secret`.
        match seen.header("authorization") {
            Some("Basic dXNlcjpzZWNyZXQ=") => answer(200, &[], r#"{"token": "t0ken"}"#, Then::End),
            _ => status(401),
        }
    })
    .await;
    let reference = on(&registry.host, "1.0.0");
    let config = passwords(&[&registry.host], "user", "secret");
    let client = Client::builder().docker_config(config).build().unwrap();
    let store = author.store("store");
    client.pull_into(&store, &reference).await.unwrap();
    // Once for manifest and module, for this repository and this purpose.
    let asked = service.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?service=the+registry&scope=repository%3Ateam%2Fredirect%3Apull"
    );
    let with_password = |seen: &Seen| {
        seen.header("authorization")
            .is_some_and(|a| a.starts_with("Basic"))
    };
    assert!(!registry.seen().iter().any(with_password));

    // Without a password it is asked for all the same, and refused here.
    let stranger = anonymous().build().unwrap();
    let pulled = stranger.pull(&reference).await;
    assert_error!(pulled, OciError::Unauthorized { .. });
    assert_eq!(service.seen()[1].header("authorization"), None);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let author = Author::new();
    let (registry, service) = with_tokens(shelf(&author), |seen| {
        match seen.method == "POST" && seen.body.contains("&refresh_token=identity%2Btoken") {
            true => answer(200, &[], r#"{"access_token": "t0ken"}"#, Then::End),
            false => status(401),
        }
    })
    .await;
    let auths = serde_json::json!({ registry.host.clone(): { "identitytoken": "identity+token" } });
    let config = config(&serde_json::json!({ "auths": auths }));
    let client = Client::builder().docker_config(config).build().unwrap();
    client.pull(&on(&registry.host, "1.0.0")).await.unwrap();
    assert_eq!(service.seen().len(), 1);
    assert!(service.seen()[0].body.contains("grant_type=refresh_token"));
}

#[tokio::test]
async fn token_services_that_misbehave_are_given_up() {
    let author = Author::new();
    let scripts: [fn(&Seen) -> Answer; 6] = [
        |_| answer(200, &[], "{\"token\": \"", Then::Flood),
        |_| answer(200, &[], "{}", Then::End),
        |_| answer(200, &[], "{\"token\": \"a\\r\\nX-Y: z\"}", Then::End),
        |_| answer(307, &[("location", "/elsewhere")], "", Then::End),
        // One that the registry does not accept.
        |_| answer(200, &[], "{\"token\": \"other\"}", Then::End),
        |_| status(500),
    ];
    for script in scripts {
        let (registry, service) = with_tokens(shelf(&author), script).await;
        let config = passwords(&[&registry.host], "user", "secret");
        let client = Client::builder().docker_config(config).attempts(1);
        let pulled = client
            .build()
            .unwrap()
            .pull(&on(&registry.host, "1.0.0"))
            .await;
        assert_error!(
            pulled,
            OciError::TooLarge { .. }
                | OciError::Malformed { .. }
                | OciError::Status { .. }
                | OciError::Unauthorized { .. }
        );
        assert_eq!(service.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_token_service_beyond_the_rules_is_not_asked() {
    for realm in ["http://192.0.2.1/token", "file:///etc/passwd", "token", ""] {
        let server = Server::start(move |_, _| {
            let ask = format!("Bearer realm=\"{realm}\"");
            answer(401, &[("www-authenticate", &ask)], "", Then::End)
        })
        .await;
        let config = passwords(&[&server.host], "user", "secret");
        let client = Client::builder().docker_config(config).build().unwrap();
        let pulled = client.pull(&on(&server.host, "1.0.0")).await;
        assert_error!(
            pulled,
            OciError::Redirect { .. } | OciError::Malformed { .. }
        );
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn other_ways_to_authenticate_are_not_tried() {
    for ask in ["Negotiate", "Digest realm=\"x\"", ""] {
        let server =
            Server::start(move |_, _| answer(401, &[("www-authenticate", ask)], "", Then::End))
                .await;
        let config = passwords(&[&server.host], "user", "secret");
        let client = Client::builder().docker_config(config).build().unwrap();
        let pulled = client.pull(&on(&server.host, "1.0.0")).await;
        assert_error!(pulled, OciError::Unauthorized { .. });
        assert_eq!(server.seen()[0].header("authorization"), None);
        assert_eq!(server.seen().len(), 1);
    }
}
