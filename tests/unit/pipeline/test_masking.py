import pytest

from pytest_tradeperf.pipeline.masking import quoted, redacted, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host.example/p?s=AAPL", "https://host.example/p?s=AAPL"),
        ("https://ghp_token@host.example/p", "https://host.example/p"),
        ("https://host.example/p?access_token=abc&s=1", "https://host.example/p?access_token=***&s=1"),
        ("https://host.example/p?APIKEY=abc", "https://host.example/p?APIKEY=***"),
        ("https://host.example/p#fragment", "https://host.example/p"),
        ("https://me:p#w@host.example/p", "https://host.example/p"),
        ("https://host.example:8443/p?q=1", "https://host.example:8443/p?q=1"),
    ],
)
def test_messages_about_requests_never_hold_a_secret(url, shown):
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://bob:s3cr/et@db/x", "postgresql://bob:***@db/x"),
        ("postgresql://bob:s3@cr?e#t@db/x", "postgresql://bob:***@db/x"),
        ("postgresql://bob@corp:s3cret@db/x", "postgresql://bob@corp:***@db/x"),
        ("postgresql://:s3cret@db/x", "postgresql://:***@db/x"),
        ("postgresql://bob:s3\ncret@db/x", "postgresql://bob:***@db/x"),
        ("postgresql://db/x?user=bob&password=s3cret", "postgresql://db/x?user=bob&password=***"),
        ("postgresql://db/x?pass%77ord=s3#cret&a=1", "postgresql://db/x?pass%77ord=***&a=1"),
        ("postgresql://bob@db:5432/x", "postgresql://bob@db:5432/x"),
        ("sqlite:///folder/signals.db", "sqlite:///folder/signals.db"),
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("Name: me@corp.example", "Name: me@corp.example"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown):
    assert without_secrets(address) == shown


def test_what_is_no_address_is_quoted_without_credentials():
    assert quoted("postgresql:/db?password=s3cret") == "'postgresql:/db?password=***'"
    assert quoted("postgresql:/bob:s3cret@db") == "one with credentials"
    assert quoted(None) == "'None'"
