//! The embedded broker keeps every law, in memory and on disk.

mod broker_support;

use std::time::Duration;

use broker_support::open;
use tidegate::broker::EmbeddedSettings;
use tidegate_core::broker::{Broker, contract};

const TIME: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_law_holds_in_memory() {
    for (law, check) in contract::LAWS {
        let broker = open(EmbeddedSettings::default()).await;
        tokio::time::timeout(TIME, check(&broker)).await.unwrap_or_else(|_| panic!("{law}: something never came"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_law_holds_on_disk() {
    for (law, check) in contract::LAWS {
        let directory = tempfile::tempdir().expect("a directory");
        let broker = open(EmbeddedSettings::fsync(directory.path())).await;
        tokio::time::timeout(TIME, check(&broker)).await.unwrap_or_else(|_| panic!("{law}: something never came"));
    }
}

/// With almost no memory everything is read from disk, and with tiny segments everything is moved again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_law_holds_on_disk_without_a_cache() {
    for (law, check) in contract::LAWS {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = EmbeddedSettings { segment_bytes: 4096, memory_bytes: 200_000, ..EmbeddedSettings::fsync(directory.path()) };
        let broker = open(settings).await;
        tokio::time::timeout(TIME, check(&broker)).await.unwrap_or_else(|_| panic!("{law}: something never came"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_deleted_under_it_is_a_new_epoch() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let broker = open(EmbeddedSettings::fsync(&path)).await;
    let lose = Box::pin(async move { std::fs::remove_dir_all(path).expect("removed") });
    tokio::time::timeout(TIME, contract::a_lost_log_is_a_new_epoch(&broker, lose)).await.expect("in time");
}

/// Only the files of the log, while its lock stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_deleted_under_it_are_a_new_epoch() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    let broker = open(EmbeddedSettings::fsync(&path)).await;
    let lose = Box::pin(async move { std::fs::remove_file(path.join("0000000001.log")).expect("removed") });
    tokio::time::timeout(TIME, contract::a_lost_log_is_a_new_epoch(&broker, lose)).await.expect("in time");
}

#[tokio::test]
async fn a_closed_broker_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    for settings in [EmbeddedSettings::default(), EmbeddedSettings::fsync(directory.path())] {
        let broker = open(settings).await;
        broker.close();
        let rule = contract::rule(tidegate_core::ChannelKind::Log);
        let answer = broker.publish(&rule, contract::message(&broker_support::name("a"), 1)).await;
        assert_eq!(answer, Err(tidegate_core::broker::BrokerError::Closed));
    }
}
