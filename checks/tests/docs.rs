//! What the documentation tells people to type and to configure works: README's commands as a user runs them, each `toml` block and
//! the Kubernetes file by `tidegate check`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use checks::gateway::{binary, loopback};
use checks::{free_ports, has, http, measured, repository, skip, target_folder, wait_until};
use tempfile::TempDir;

const DEV: &str = "cargo run --release -- dev";
const EVERY_TEST: &str = "./test";
const INSTALL: &str = "cargo install --path crates/gateway";
const BUILD: &str = "cargo build 2>&1";
const PUBLISH_LINES: &str = "cargo build 2>&1 | tidegate publish build:demo";
const SUBSCRIBE_LINES: &str = "tidegate subscribe build:demo --since earliest";
const PUBLISH_ORDER: &str = r#"tidegate publish orders:eu --key o-17 --data '{"state":"paid"}'"#;
const SUBSCRIBE_ORDERS: &str = "tidegate subscribe orders:eu";
const CURL: &str = r#"curl -d '{"channel":"orders:eu","key":"o-18","data":{"state":"new"}}' -H 'content-type: application/json' http://127.0.0.1:8001/v1/publish"#;

/// The release build may have to be brought up to date first.
const START_WITHIN: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(20);
/// A client that was cut off waits longer from try to try.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Where the runner ends the test, what it has started ends by itself.
const AT_MOST: &str = "300";

#[test]
fn the_readme_is_true() {
    let readme = read("README.md");
    let expected = [DEV, EVERY_TEST, INSTALL, PUBLISH_LINES, SUBSCRIBE_LINES, PUBLISH_ORDER, SUBSCRIBE_ORDERS, CURL];
    assert_eq!(commands(&readme), expected, "README's commands are not those that this test runs: change it with them");
    let page = format!("http://{DEFAULT_PUBLIC}");
    assert!(readme.contains(&page), "README does not say where the page is");

    let user = User::new();
    let mut gateway = user.start_gateway();
    let (status, body) = http::call(user.public, "GET", "/", "").expect("the page");
    assert!(status == 200 && body.contains("<title>Tidegate"), "{status}: {body}");

    // A build that is half done when the gateway is killed.
    let go_on = user.folder.path().join("go-on");
    let build = format!(
        "{{ printf 'Compiling a\\nwarning: b\\n{{\"c\":1}}\\n'; until [ -e {} ]; do sleep 0.05; done; printf 'Compiling d\\nFinished\\n'; }}",
        go_on.display()
    );
    let subscriber = user.runs(SUBSCRIBE_LINES, "lines");
    let mut publisher = user.runs(&PUBLISH_LINES.replace(BUILD, &build), "publisher");
    let before = "Compiling a\nwarning: b\n{\"c\":1}\n";
    user.prints("lines", before, PATIENCE);
    gateway.kill_hard();
    fs::write(&go_on, "").expect("a file");
    drop(gateway);
    let gateway = user.start_gateway();
    user.prints("lines", &format!("{before}Compiling d\nFinished\n"), BACK_WITHIN);
    let mut published = None;
    wait_until(PATIENCE, || {
        published = publisher.0.try_wait().expect("a child");
        published.is_some()
    });
    assert!(published.is_some_and(|status| status.success()), "the publisher: {published:?} {}", user.output("publisher"));

    user.runs_to_its_end(PUBLISH_ORDER);
    let orders = user.runs(SUBSCRIBE_ORDERS, "orders");
    user.prints("orders", "{\"state\":\"paid\"}\n", PATIENCE);
    if has("curl") {
        let answer = user.runs_to_its_end(CURL);
        assert!(answer.contains("\"offset\":") && answer.contains("\"duplicate\":false"), "{answer}");
        user.prints("orders", "{\"state\":\"paid\"}\n{\"state\":\"new\"}\n", PATIENCE);
    } else {
        skip("README's call of the HTTP API", "curl is not installed");
    }
    drop((subscriber, orders, gateway));
    measured("README", "its commands did what it says, with the gateway killed in the middle");
}

const DEFAULT_PUBLIC: &str = "127.0.0.1:8000";
const DEFAULT_INTERNAL: &str = "127.0.0.1:8001";

/// Somebody who types what the README says, with other ports and another folder for the data.
struct User {
    public: SocketAddr,
    internal: SocketAddr,
    folder: TempDir,
}

impl User {
    fn new() -> Self {
        let [public, internal] = free_ports().map(loopback);
        Self { public, internal, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn start_gateway(&self) -> Running {
        let mut gateway = self.runs(DEV, "gateway");
        let ready = wait_until(START_WITHIN, || {
            assert!(gateway.0.try_wait().expect("a child").is_none(), "the gateway ended: {}", self.output("gateway"));
            http::call(self.internal, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
        });
        assert!(ready.is_some(), "not ready: {}", self.output("gateway"));
        gateway
    }

    /// A command in the repository's root. `tidegate` is on the path, as `cargo install` puts it there.
    fn shell(&self, command: &str) -> Command {
        let command = command.replace(DEFAULT_PUBLIC, &self.public.to_string()).replace(DEFAULT_INTERNAL, &self.internal.to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("timeout");
        shell.args(["-s", "KILL", AT_MOST, "sh", "-c", &command]).current_dir(repository()).stdin(Stdio::null());
        shell.env("no_proxy", "127.0.0.1");
        shell.env("PATH", format!("{}:{path}", target_folder().join("release").display()));
        shell.env("TIDEGATE__PUBLIC__LISTEN", self.public.to_string()).env("TIDEGATE__INTERNAL__LISTEN", self.internal.to_string());
        shell.env("TIDEGATE__BROKER__PATH", self.folder.path().join("data"));
        shell.env("TIDEGATE_URL", format!("ws://{}/ws", self.public)).env("TIDEGATE_API", format!("http://{}", self.internal));
        shell
    }

    /// In the background, with what it prints under a name.
    fn runs(&self, command: &str, name: &str) -> Running {
        let file = |name: &str| fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(name)).expect("a file");
        let mut shell = self.shell(command);
        shell.stdout(file(name)).stderr(file(&format!("{name}.errors"))).process_group(0);
        Running(shell.spawn().unwrap_or_else(|e| panic!("{command}: {e}")))
    }

    fn runs_to_its_end(&self, command: &str) -> String {
        let output = self.shell(command).output().unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until that is exactly what was printed.
    fn prints(&self, name: &str, expected: &str, within: Duration) {
        let printed = || fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        if wait_until(within, || printed() == expected).is_none() {
            assert_eq!(printed(), expected, "{}", self.output(name));
        }
    }

    fn output(&self, name: &str) -> String {
        [name, &format!("{name}.errors")].map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()).join("\n")
    }
}

/// A shell and what it has started, ended with the test.
struct Running(Child);

impl Running {
    /// SIGKILL to all of them.
    fn kill_hard(&mut self) {
        drop(Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status());
        drop(self.0.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.kill_hard();
        }
    }
}

#[test]
fn every_configuration_on_a_page_is_good() {
    let mut pages = vec![repository().join("README.md")];
    pages_in(&repository().join("docs"), &mut pages);
    let mut judged = 0;
    for page in &pages {
        for block in blocks(&fs::read_to_string(page).expect("a page"), "toml") {
            let is_meant_to_be_refused = block.starts_with("# refused");
            let (good, said) = check(&block);
            assert_eq!(good, !is_meant_to_be_refused, "{}:\n{block}\n{said}", page.display());
            judged += 1;
        }
    }
    measured("configurations on pages", &format!("{judged} on {} pages", pages.len()));
    assert!(judged >= 3, "there are blocks to judge");
}

#[test]
fn the_kubernetes_file_fits_its_configuration() {
    let file = read("deploy/kubernetes/tidegate.yaml");
    let (_, rest) = file.split_once("  tidegate.toml: |\n").expect("a configuration");
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let toml: String = lines.map(|line| format!("{}\n", line.trim_start_matches("    "))).collect();
    let (good, said) = check(&toml);
    assert!(good, "{said}");

    let one = |key: &str| {
        let found: Vec<&str> =
            file.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)).map(str::trim).collect();
        assert_eq!(found.len(), 1, "{key} {found:?}");
        found[0]
    };
    assert_eq!(one("replicas:"), "1", "the embedded log is one node's");
    assert_eq!(file.matches("kind: StatefulSet").count(), 1);
    assert!(file.contains("{ name: data, mountPath: /var/lib/tidegate }"), "a volume for the log");
    assert!(toml.contains("path = \"/var/lib/tidegate/log\""), "the log is on it");
    assert!(file.contains("{ name: config, mountPath: /etc/tidegate, readOnly: true }"), "where the image looks for its configuration");
    assert!(read("deploy/Dockerfile").contains("\"/etc/tidegate/tidegate.toml\""));
    for (listener, port) in [("public", 8000), ("internal", 8001)] {
        assert!(toml.contains(&format!("listen = \"0.0.0.0:{port}\"")), "{listener}");
        assert!(file.contains(&format!("{{ name: {listener}, containerPort: {port} }}")), "{listener}");
    }
    let secret =
        file.split_once("name: TIDEGATE_API_KEY\n").is_some_and(|(_, rest)| rest.trim_start().starts_with("valueFrom: { secretKeyRef:"));
    assert!(secret && toml.contains("keys = [\"env:TIDEGATE_API_KEY\"]"), "the key that is given is the key that is asked for");
    let deadline = toml.lines().find_map(|line| line.strip_prefix("deadline = \"")?.strip_suffix("s\"")).expect("a deadline in seconds");
    let [grace, deadline] = [one("terminationGracePeriodSeconds:"), deadline].map(|seconds| seconds.parse::<u32>().expect("seconds"));
    assert!(grace > deadline, "the drain is killed after {grace} s, and may take {deadline}");
}

/// Whether `tidegate check` takes it, and what it says. Secrets of the environment are there.
fn check(toml: &str) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tidegate.toml");
    fs::write(&file, toml).expect("a file");
    let mut command = Command::new(binary("tidegate"));
    command.args(["check", "--config"]).arg(&file);
    for rest in toml.split("\"env:").skip(1) {
        command.env(rest.split('"').next().unwrap_or_default(), "0123456789abcdef0123456789abcdef");
    }
    let output = command.output().expect("tidegate check");
    (output.status.success(), [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
}

/// The commands of the `sh` blocks, without what is said about them.
fn commands(page: &str) -> Vec<String> {
    let lines = blocks(page, "sh").concat();
    lines.lines().map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let (mut blocks, mut inside) = (Vec::<String>::new(), false);
    for line in page.lines() {
        match line.trim() {
            "```" => inside = false,
            line if line == fence => {
                blocks.push(String::new());
                inside = true;
            }
            _ if inside => blocks.iter_mut().last().into_iter().for_each(|block| *block += &format!("{line}\n")),
            _ => {}
        }
    }
    blocks
}

fn pages_in(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.extension().and_then(|extension| extension.to_str()) {
            _ if entry.is_dir() => pages_in(&entry, pages),
            Some("md") => pages.push(entry),
            _ => {}
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}
