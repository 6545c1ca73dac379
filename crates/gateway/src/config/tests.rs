//! Configurations that are refused or risky, each told with its key and its line; and the environment over the file.

use super::*;

/// What comes out of a text that is refused or risky.
fn told(text: &str) -> (Vec<Problem>, Vec<Problem>) {
    match read(text, &Environment::default()) {
        Ok(loaded) => (Vec::new(), loaded.risks),
        Err(Refused(problems)) => (problems, Vec::new()),
    }
}

fn finds(problems: &[Problem], key: &str, line: usize, part: &str) -> bool {
    problems.iter().any(|problem| problem.key == key && problem.source == Source::Line(line) && problem.text.contains(part))
}

/// Text, key, line, a part of what is said.
type Case = (&'static str, &'static str, usize, &'static str);

const REFUSED: &[Case] = &[
    ("[public]\nlisten = \"8000\"", "public.listen", 2, "address and port"),
    ("[public]\nlisten = 8000", "public.listen", 2, "is a number"),
    ("[public]\nlisen = \"127.0.0.1:8000\"", "public.lisen", 2, "did you mean public.listen?"),
    ("[pubic]\nlisten = \"127.0.0.1:8000\"", "pubic", 1, "did you mean public?"),
    ("[public]\npath = \"ws\"", "public.path", 2, "begins with /"),
    ("[public]\npath = \"/ws?x\"", "public.path", 2, "plain path"),
    ("[public]\norigins = [\"*\"]", "public.origins.0", 2, "every page of the web"),
    ("[public]\norigins = [\n  \"https://a.example\",\n  \"https://b.example/\",\n]", "public.origins.1", 4, "not an origin"),
    ("[public]\norigins = \"https://a.example\"", "public.origins", 2, "has to be a list"),
    ("[public]\ntrusted_proxies = [\"10.0.0.300\"]", "public.trusted_proxies.0", 2, "network"),
    ("[public]\ntls = { cert = \"cert.pem\", key = \"file:key.pem\" }", "public.tls.cert", 2, "file:PATH"),
    ("[public]\ntls = { cert = \"file:cert.pem\" }", "public.tls.key", 2, "file:PATH"),
    ("[internal]\nlisten = \"0.0.0.0:8001\"", "internal.listen", 2, "anybody could publish"),
    ("[internal]\nlisten = \"127.0.0.1:8000\"", "internal.listen", 2, "same address"),
    ("[internal]\nkeys = [\"env:TIDEGATE_TEST_NO_SUCH\"]", "internal.keys.0", 2, "has no TIDEGATE_TEST_NO_SUCH"),
    ("[internal]\nkeys = [\"file:/no/such/file\"]", "internal.keys.0", 2, "can't be read"),
    ("[heartbeat]\nping = \"25\"", "heartbeat.ping", 2, "duration"),
    ("[heartbeat]\nping = 25", "heartbeat.ping", 2, "is a number"),
    ("[heartbeat]\nping = \"off\"", "heartbeat.ping", 2, "duration"),
    ("[heartbeat]\nping = \"100ms\"", "heartbeat.ping", 2, "at least 1s"),
    ("[heartbeat]\n\nmissed = 0", "heartbeat.missed", 3, "every peer is dead"),
    ("[heartbeat]\nmissed = -1", "heartbeat.missed", 2, "whole number"),
    ("[outbox]\nbytes = \"lots\"", "outbox.bytes", 2, "size"),
    ("[outbox]\nbytes = \"32KiB\"", "outbox.bytes", 2, "smaller than limits.message"),
    ("[outbox]\nmessages = 0", "outbox.messages", 2, "at least 8"),
    ("[outbox]\nstall = \"0s\"", "outbox.stall", 2, "at least 1s"),
    ("[limits]\nmessage = \"10B\"", "limits.message", 2, "at least 1 KiB"),
    ("[limits]\nmessage = \"1GiB\"", "limits.message", 2, "at most 64 MiB"),
    ("[limits]\nrate = { per_second = 0, burst = 40 }", "limits.rate.per_second", 2, "at least 1"),
    ("[limits]\nrate = { per_secnd = 1 }", "limits.rate.per_secnd", 2, "did you mean limits.rate.per_second?"),
    ("[limits]\nrate = 20", "limits.rate", 2, "table"),
    ("[limits]\nconnections = 0", "limits.connections", 2, "at least 1"),
    ("[limits]\noutbound_memory = \"101%\"", "limits.outbound_memory", 2, "1% to 100%"),
    ("[limits]\napi_body = \"1KiB\"", "limits.api_body", 2, "smaller than limits.message"),
    ("[auth]\nanonymous = {}", "auth.anonymous", 2, "grants nothing"),
    ("[auth]\nanonymous = { subscribe = [\"a*\"] }", "auth.anonymous.subscribe.0", 2, "star stands alone"),
    ("[auth]\nsession = \"1s\"", "auth.session", 2, "at least 1m"),
    ("[auth]\n[auth.jwt]\naudience = \"x\"", "auth.jwt", 2, "not in this version yet"),
    ("[auth]\nticket = { ttl = \"30s\" }", "auth.ticket", 2, "not in this version yet"),
    ("[hooks]\nconnect = \"http://127.0.0.1:3000\"", "hooks", 1, "not in this version yet"),
    ("[log]\nlevel = \"tidegate=loud\"", "log.level", 2, "not a filter"),
    ("[log]\nlevel = \"verbose\"", "log.level", 2, "not a filter"),
    ("[drain]\nannounce = \"2m\"", "drain.announce", 2, "everybody would be cut"),
    ("[broker]\nkind = \"redis\"", "broker.kind", 2, "not in this version yet"),
    ("[broker]\nkind = \"kafka\"", "broker.kind", 2, "has to be \"embedded\""),
    ("[broker]\nurl = \"redis://127.0.0.1\"", "broker.url", 2, "not in this version yet"),
    ("[broker]\ndurability = \"bus\"", "broker.durability", 2, "has none"),
    ("[broker]\nmemory = \"1KiB\"", "broker.memory", 2, "at least 1 MiB"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"queue\"", "channel.0.kind", 3, "\"event\", \"log\" or \"state\""),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\n[[channel]]\nmatch = \"**:a\"\nkind = \"log\"", "channel.1.match", 5, "last segment"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\noverflow = \"sample\"", "channel.0.overflow", 4, "does not fit"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\nretention = { messages = 0 }", "channel.0.retention.messages", 4, "at least 1"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\nretention = { bytes = \"1KiB\" }", "channel.0.retention.bytes", 4, "could not be kept"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\nflush_window = \"2s\"", "channel.0.flush_window", 4, "1s at most"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\nretain = 1", "channel.0.retain", 4, "is not a key"),
    ("[[channel]]\nmatch = \"a\"", "channel.0.kind", 1, "\"event\", \"log\" or \"state\""),
    ("[public\n", "not TOML", 1, ""),
    ("[limits]\nmessage = \"64KiB\"\nmessage = \"1MiB\"", "not TOML", 3, "duplicate"),
];

const RISKY: &[Case] = &[
    ("[public]\nlisten = \"0.0.0.0:8000\"", "public.listen", 2, "without TLS"),
    ("[public]\norigins = []", "public.origins", 2, "every browser is refused"),
    ("[public]\norigins = [\"http://app.example.com\"]", "public.origins.0", 2, "not https"),
    ("[public]\ntrusted_proxies = [\"0.0.0.0/0\"]", "public.trusted_proxies.0", 2, "claim any address"),
    ("[internal]\nkeys = [\"a long key that stands in the file\"]", "internal.keys.0", 2, "stands in the file itself"),
    ("[internal]\nkeys = [\"short\"]", "internal.keys.0", 2, "can be guessed"),
    ("[heartbeat]\nping = \"90s\"", "heartbeat.ping", 2, "idle limit"),
    ("[heartbeat]\nping = \"1s\"", "heartbeat.ping", 2, "phones"),
    ("[heartbeat]\nidle = \"30s\"", "heartbeat.idle", 2, "again and again"),
    ("[heartbeat]\nmissed = 50", "heartbeat.missed", 2, "only"),
    ("[outbox]\nbytes = \"64MiB\"", "outbox.bytes", 2, "adds age"),
    ("[outbox]\nstall = \"1h\"", "outbox.stall", 2, "keeps its memory"),
    ("[limits]\nmessage = \"8MiB\"\n[outbox]\nbytes = \"8MiB\"", "limits.message", 2, "delays"),
    ("[limits]\nrate = { per_second = 100, burst = 10 }", "limits.rate.burst", 2, "never reached"),
    ("[limits]\nconnections = 10\nper_address = 20", "limits.per_address", 3, "every place"),
    ("[limits]\noutbound_memory = \"90%\"", "limits.outbound_memory", 2, "leaves little"),
    ("[limits]\nauthenticate = \"1h\"", "limits.authenticate", 2, "strangers"),
    ("[drain]\nwindow = \"2m\"\ndeadline = \"60s\"", "drain.deadline", 3, "are cut instead"),
    ("[drain]\nannounce = \"0s\"", "drain.announce", 2, "load balancers"),
    ("[broker]\ndurability = \"memory\"\n[[channel]]\nmatch = \"a\"\nkind = \"log\"", "broker.durability", 2, "loses every log"),
    (
        "[[channel]]\nmatch = \"a:**\"\nkind = \"log\"\n[[channel]]\nmatch = \"a:b\"\nkind = \"state\"",
        "channel.1.match",
        5,
        "never reached",
    ),
    ("[[channel]]\nmatch = \"a\"\nkind = \"event\"\nretention = { messages = 5 }", "channel.0.retention", 4, "nothing is kept"),
    ("[[channel]]\nmatch = \"a\"\nkind = \"log\"\nretention = { age = \"10s\" }", "channel.0.retention.age", 4, "gap"),
    (
        "[public]\nlisten = \"0.0.0.0:8000\"\n[auth]\nanonymous = { subscribe = [\"a\"], publish = [\"a\"] }",
        "auth.anonymous.publish",
        4,
        "without a name",
    ),
    (
        "[auth]\nanonymous = { subscribe = [\"a\", \"b:*\"] }\n[[channel]]\nmatch = \"a\"\nkind = \"log\"",
        "auth.anonymous.subscribe.1",
        2,
        "meets no [[channel]]",
    ),
];

#[test]
fn bad_configurations_are_refused_with_key_and_line() {
    for (text, key, line, part) in REFUSED {
        let (refused, _) = told(text);
        assert!(finds(&refused, key, *line, part), "{text}\n{refused:#?}");
    }
}

#[test]
fn risky_configurations_are_told_with_key_and_line() {
    for (text, key, line, part) in RISKY {
        let (refused, risky) = told(text);
        assert!(refused.is_empty(), "{text}\n{refused:#?}");
        assert!(finds(&risky, key, *line, part), "{text}\n{risky:#?}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let (refused, _) = told("[public]\nlisten = 1\npath = 2\n[heartbeat]\nping = \"x\"\n[nothing]\n");
    assert_eq!(refused.len(), 4, "{refused:#?}");
}

fn with(variables: &[(&str, &str)]) -> Environment {
    Environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = with(&[
        ("TIDEGATE__LIMITS__RATE__PER_SECOND", "7"),
        ("TIDEGATE__PUBLIC__ORIGINS", "https://a.example, https://b.example"),
        ("TIDEGATE__HEARTBEAT__IDLE", "5m"),
        ("TIDEGATE__CHANNEL__0__KIND", "state"),
        ("TIDEGATE__CHANNEL__1", "{ match = 'b', kind = 'event' }"),
        ("TIDEGATE__AUTH__ANONYMOUS", "{ subscribe = ['a'] }"),
        ("TIDEGATE__OUTBOX__BYTES", "1MiB"),
        ("OTHER__LIMITS__MESSAGE", "nonsense"),
    ]);
    let text = "[limits]\nrate = { per_second = 5, burst = 50 }\n[[channel]]\nmatch = \"a\"\nkind = \"log\"";
    let config = read(text, &environment).unwrap().config;
    assert_eq!((config.limits.rate.per_second, config.limits.rate.burst), (7, 50));
    assert_eq!(config.public.origins.len(), 2);
    assert_eq!(config.heartbeat.idle.0, Some(std::time::Duration::from_secs(300)));
    assert_eq!((config.channel[0].kind, config.channel[1].kind), (channel::Kind::State, channel::Kind::Event));
    assert_eq!(config.auth.anonymous.unwrap().subscribe.len(), 1);
    assert_eq!(config.outbox.bytes.0, 1 << 20);
}

#[test]
fn a_bad_variable_is_told_by_its_name() {
    for (name, value, key) in [
        ("TIDEGATE__LIMITS__MESSAGE", "lots", "limits.message"),
        ("TIDEGATE__LIMITS__MESAGE", "64KiB", "limits.mesage"),
        ("TIDEGATE__HEARTBEAT__PING", "0s", "heartbeat.ping"),
        ("TIDEGATE__PUBLIC__ORIGINS", "[", "public.origins"),
        ("TIDEGATE__PUBLIC__LISTEN__PORT", "1", "public.listen.port"),
    ] {
        let text = "[public]\nlisten = \"127.0.0.1:8000\"";
        let Refused(problems) = read(text, &with(&[(name, value)])).unwrap_err();
        let found = problems.iter().any(|problem| problem.key == key && problem.source == Source::Variable(name.into()));
        assert!(found, "{name}={value}: {problems:#?}");
        assert!(problems[0].to_string().contains(name), "{}", problems[0]);
    }
}

#[test]
fn secrets_are_never_shown() {
    let environment = with(&[("KEY", "a secret that nobody may see"), ("TIDEGATE__INTERNAL__KEYS", "env:KEY")]);
    let loaded = read("", &environment).unwrap();
    assert_eq!(loaded.config.internal.keys[0].expose(), b"a secret that nobody may see");
    let shown = format!("{loaded:?}{}{}", explain(&loaded.config), tell_risks(&loaded.risks));
    assert!(!shown.contains("nobody may see"), "{shown}");
    let pasted = read("[internal]\nkeys = [\"canary-in-the-file\", 5]", &Environment::default()).unwrap_err();
    assert!(!pasted.to_string().contains("canary"), "{pasted}");
}

#[test]
fn the_documented_example_is_good() {
    let text = include_str!("example.toml");
    let environment = with(&[("TIDEGATE_API_KEY", "0123456789abcdef0123456789abcdef")]);
    let loaded = read(text, &environment).unwrap();
    assert_eq!(loaded.config.channel.len(), 1);
    let unsaid = read("", &Environment::default()).unwrap().config;
    assert_eq!(loaded.config.limits, unsaid.limits, "what it writes out are the defaults");
    assert_eq!(loaded.config.heartbeat, unsaid.heartbeat);
    assert_eq!(loaded.config.outbox, unsaid.outbox);
    assert_eq!(loaded.config.drain, unsaid.drain);
    assert_eq!(loaded.config.broker, unsaid.broker);
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == reference(), "run: cargo run -p tidegate-gateway -- config-reference > docs/reference/configuration.md");
}
