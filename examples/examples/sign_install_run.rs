//! The life of a plugin, step by step: make a key, sign and install, run.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use vortex_plugins::registry::{PluginManifest, PrivateKey, PublicKey, Registry, Release};
use vortex_plugins::{ChainOrder, HookContext, HookInput, HookType, PluginHost, Policy};

const USAGE: &str = "usage:
  sign_install_run keygen --out DIR
  sign_install_run install --store STORE --key KEY --name NAME --version VERSION --hooks TYPE[,TYPE…] FILE.wasm
  sign_install_run run --store STORE --key KEY.pub PLUGIN[@VERSION] INPUT.json";

fn main() -> Result<()> {
    let mut args = Args(std::env::args().skip(1).collect());
    match args.next()?.as_str() {
        "keygen" => keygen(args),
        "install" => install(args),
        "run" => run(args),
        _ => bail!(USAGE),
    }
}

/// Makes `demo.key` (private, readable by its owner only) and `demo.pub`.
fn keygen(mut args: Args) -> Result<()> {
    let dir = args.option("--out")?;
    let dir = Path::new(&dir);
    let key = PrivateKey::generate()?;
    key.write_pem_file(dir.join("demo.key"))?;
    key.public_key().write_pem_file(dir.join("demo.pub"))?;
    println!("key {}", key.public_key().key_id());
    Ok(())
}

/// Signs a module and installs it in a store that trusts the key.
fn install(mut args: Args) -> Result<()> {
    let (store, key) = (args.option("--store")?, args.option("--key")?);
    let (name, version) = (args.option("--name")?, args.option("--version")?);
    let hooks = args.option("--hooks")?;
    let file = args.next()?;

    let key = PrivateKey::read_pem_file(key)?;
    let wasm = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
    let hook_types = hooks
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<HookType>, _>>()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: now,
    };
    let manifest = PluginManifest::new(name.parse()?, version.parse()?, hook_types, &wasm).sign(
        &wasm,
        release,
        &[&key],
    )?;
    let registry = Registry::open(store, Policy::strict([key.public_key()]))?;
    registry.install(&manifest, &wasm)?;
    println!("{name} {version} sha256:{}", manifest.checksum);
    Ok(())
}

/// Runs one input against an installed plugin and prints its answer.
fn run(mut args: Args) -> Result<()> {
    let (store, key) = (args.option("--store")?, args.option("--key")?);
    let (plugin, input) = (args.next()?, args.next()?);

    let json = std::fs::read(&input).with_context(|| format!("cannot read {input}"))?;
    let input = HookInput::from_json(&json)?;
    let policy = Policy::strict([PublicKey::read_pem_file(key)?]);
    let chain = PluginHost::open(store, policy)?.chain(ChainOrder::default(), [plugin.parse()?])?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let output = runtime.block_on(chain.execute(&HookContext::new(), &input))?;
    println!("{}", String::from_utf8_lossy(&output.to_json()));
    Ok(())
}

/// What is left of the command line.
struct Args(Vec<String>);

impl Args {
    /// The next word that belongs to no option.
    fn next(&mut self) -> Result<String> {
        if self.0.is_empty() {
            bail!(USAGE);
        }
        Ok(self.0.remove(0))
    }

    /// The value of an option, wherever it stands.
    fn option(&mut self, name: &str) -> Result<String> {
        let at = self.0.iter().position(|arg| arg == name);
        let Some(at) = at.filter(|at| at + 1 < self.0.len()) else {
            bail!("{name} is missing\n{USAGE}");
        };
        let value = self.0.remove(at + 1);
        self.0.remove(at);
        Ok(value)
    }
}
