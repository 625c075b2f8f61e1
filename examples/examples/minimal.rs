//! The smallest embedding: a store, a key, a chain, a decision.

use vortex_plugins::registry::PublicKey;
use vortex_plugins::{ChainOrder, HookContext, HookInput, HookType, PluginHost, Policy};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(key), Some(plugin)) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: minimal STORE KEY.pub PLUGIN[@VERSION]");
    };
    let policy = Policy::strict([PublicKey::read_pem_file(key)?]);
    let chain = PluginHost::open(store, policy)?.chain(ChainOrder::default(), [plugin.parse()?])?;

    let request = http::Request::get("/hello")
        .header("x-api-key", "k-demo-123")
        .body(())?;
    let input = HookInput::from_request(HookType::PreRequest, &request);
    let output = chain.execute(&HookContext::new(), &input).await?;
    println!(
        "allow: {}, header changes: {:?}",
        output.allow, output.headers
    );
    Ok(())
}
