//! A running plugin that a newer fleet index revokes.

use vortex_plugins::registry::{FleetIndex, Refusal};
use vortex_plugins::{
    ChainError, ChainOrder, HookChain, HookContext, HookInput, HookType, PluginHost, SandboxError,
};

use crate::facade::Store;
use crate::util::cpu;

#[test]
fn a_revoked_plugin_stops_where_it_runs_until_it_is_replaced() {
    let store = Store::new();
    store.put("gate", "1.0.0", "allow");
    store.put("gate", "1.0.1", "deny-429");
    store.put("other", "1.0.0", "allow");
    let policy = store.policy().with_index_keys([store.key.public_key()], 1);
    let host = PluginHost::new(store.registry(policy), cpu(10_000)).unwrap();
    let specs = ["gate@1.0.0", "other"].map(|spec| spec.parse().unwrap());
    let [gate, other] = specs.map(|spec| host.chain(ChainOrder::Registration, [spec]).unwrap());
    let run = |chain: &HookChain| {
        let input = HookInput::new(HookType::PreRequest);
        futures_executor::block_on(chain.execute(&HookContext::new(), &input))
    };
    assert!(run(&gate).unwrap().allow);
    assert!(host.stop_revoked().unwrap().is_empty());
    assert!(run(&gate).unwrap().allow);

    let mut index = FleetIndex::new(1, 1_750_000_000, 4_000_000_000);
    index
        .revocations
        .versions
        .insert("gate@1.0.0".parse().unwrap());
    host.registry()
        .update_index(&index.sign(&[&store.key]).unwrap())
        .unwrap();
    let stopped = host.stop_revoked().unwrap();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].refusal, Refusal::RevokedVersion);

    // It fails where it stands: what it guarded is not open now.
    match run(&gate) {
        Err(ChainError::Hook { source, .. }) => assert!(matches!(
            source.downcast_ref(),
            Some(SandboxError::Unloaded { .. })
        )),
        other => panic!("{other:?}"),
    }
    assert!(run(&other).unwrap().allow);
    assert!(host.load(&"gate@1.0.0".parse().unwrap()).is_err());

    assert_eq!(host.replace(&"gate@1.0.1".parse().unwrap()).unwrap(), 1);
    assert_eq!(run(&gate).unwrap().deny_status(), 429);
    assert!(host.stop_revoked().unwrap().is_empty());
}
