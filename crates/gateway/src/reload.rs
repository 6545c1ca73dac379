//! Reading the configuration again, at SIGHUP or when the file changes: what can change does, the rest is told and stays.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tidegate::{Gate, Tls};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::{self, Api};
use crate::config::{self, Config, Environment};
use crate::doors::Doors;
use crate::logging::{self, LogFilter};
use crate::serve::{Purpose, gate_settings};

/// An editor saves in several steps; what happens within this time is one change.
const SETTLE: Duration = Duration::from_millis(200);

/// What can be changed while it runs.
pub(crate) struct Running {
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    pub(crate) doors: Doors,
    pub(crate) api: Api,
    pub(crate) tls: Option<Tls>,
    pub(crate) filter: LogFilter,
}

/// Notices SIGHUP and changes of the file.
pub(crate) struct Watch {
    file: PathBuf,
    hangup: Signal,
    changes: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Notices from now on.
    ///
    /// # Errors
    /// The system has no place for a signal handler.
    pub(crate) fn begin(file: PathBuf) -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let (changed, changes) = mpsc::channel(1);
        let watcher = watch_file(&file, changed);
        Ok(Self { file, hangup, changes, _watcher: watcher })
    }

    /// Reloads what runs, whenever it was told to since it began.
    pub(crate) async fn reload(mut self, mut running: Running) {
        loop {
            tokio::select! {
                told = self.hangup.recv() => if told.is_none() { return },
                Some(()) = self.changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    // What came meanwhile is the same change.
                    let _ = self.changes.try_recv();
                }
            }
            running.reload(&self.file);
        }
    }
}

/// Its folder is watched, since editors and Kubernetes replace files instead of writing into them. Where that is impossible SIGHUP is left.
fn watch_file(file: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let path = std::path::absolute(file).ok()?;
    let folder = path.parent()?.to_owned();
    let name = path.file_name()?.to_owned();
    let told = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let ours = event.paths.iter().any(|path| path.file_name().is_some_and(|found| found == name || found == "..data"));
        if ours && !event.kind.is_access() {
            // A change that waits already stands for this one too.
            let _ = changed.try_send(());
        }
    };
    let watched = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watched.map_err(|error| tracing::warn!(%error, "the configuration's folder can't be watched; SIGHUP reloads")).ok()
}

impl Running {
    fn reload(&mut self, file: &Path) {
        let environment = Environment::capture();
        let loaded = match config::load(file, &environment) {
            Ok(loaded) => loaded,
            Err(error) => return tracing::error!("not reloaded, nothing changed: {error}"),
        };
        if let (Some(tls), Some(files)) = (&self.tls, &loaded.config.public.tls)
            && let Err(error) = tls.reload(&files.cert.0, &files.key.0)
        {
            return tracing::error!("not reloaded, nothing changed: public.tls: {error}");
        }
        loaded.risks.iter().for_each(|risk| tracing::warn!("{risk}"));
        let (next, kept) = keep_fixed(&self.config, loaded.config);
        kept.iter().for_each(|key| tracing::warn!("{key} can't be changed while it runs; it takes effect at the next start"));
        self.apply(next, &environment);
        tracing::info!("configuration reloaded");
    }

    fn apply(&mut self, config: Config, environment: &Environment) {
        self.gate.reconfigure(gate_settings(&config, &Purpose::Serve(PathBuf::new())));
        self.doors.set(config.anonymous());
        self.api.reconfigure(api::Settings::of(&config));
        self.filter.set(environment.get(logging::VARIABLE).unwrap_or(&config.log.level));
        self.config = config;
    }
}

/// The new configuration with what can't be changed as it was, and the keys of that which should have changed.
fn keep_fixed(old: &Config, mut new: Config) -> (Config, Vec<&'static str>) {
    let mut kept = Vec::new();
    macro_rules! keep {
        ($($field:ident).+) => {
            if old.$($field).+ != new.$($field).+ {
                new.$($field).+ = old.$($field).+.clone();
                kept.push(concat!($(".", stringify!($field)),+).trim_start_matches('.'));
            }
        };
    }
    // Port 0 means: any. The one that was taken is as good as another.
    if new.public.listen.port() == 0 {
        new.public.listen = old.public.listen;
    }
    if new.internal.listen.port() == 0 {
        new.internal.listen = old.internal.listen;
    }
    keep!(public.listen);
    keep!(public.path);
    if old.public.tls.is_some() != new.public.tls.is_some() {
        keep!(public.tls);
    }
    keep!(internal.listen);
    keep!(limits.upgrade);
    keep!(limits.outbound_memory);
    keep!(broker);
    (new, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        config::read(text, &Environment::default()).unwrap().config
    }

    #[test]
    fn what_is_fixed_stays_and_is_named() {
        let old = config("[public]\nlisten = '127.0.0.1:7000'\n[limits]\nper_user = 1");
        let new = config("[public]\nlisten = '127.0.0.1:7001'\n[limits]\nper_user = 2\n[broker]\nmemory = '8MiB'");
        let (next, kept) = keep_fixed(&old, new);
        assert_eq!(kept, ["public.listen", "broker"]);
        assert_eq!((next.public.listen.port(), next.limits.per_user), (7000, 2));
    }
}
