"""What is an address of a PostgreSQL, and that nobody reads a part of a password in what is said of one that is not."""

import pytest

from vmsvc import config
from vmsvc.store.address import BadAddress, parse_url

SECRET = "Zx9Qw7"


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("postgresql://u:p@h:1/d", {"user": "u", "password": "p", "host": "h", "port": "1", "dbname": "d"}),
        ("postgres://u@h/d", {"user": "u", "host": "h", "dbname": "d"}),
        ("host=h dbname=d password='a b'", {"host": "h", "dbname": "d", "password": "a b"}),
        ("postgresql://u:p%40%2F%3F@h/d", {"user": "u", "password": "p@/?", "host": "h", "dbname": "d"}),
        ("postgresql://u:a#b?c@h/d", {"user": "u", "password": "a#b?c", "host": "h", "dbname": "d"}),
        (
            "postgresql://a:1,b:2/d?target_session_attrs=read-write&sslmode=require",
            {"host": "a,b", "port": "1,2", "dbname": "d", "target_session_attrs": "read-write", "sslmode": "require"},
        ),
        ("postgresql://u@/d?host=/var/run/a folder", {"user": "u", "dbname": "d", "host": "/var/run/a folder"}),
        ("postgresql://[::1]:5432/d", {"host": "::1", "port": "5432", "dbname": "d"}),
        ("service=main", {"service": "main"}),
        ("host=@abstract", {"host": "@abstract"}),
    ],
)
def test_whatever_libpq_takes_is_taken(text, wanted):
    assert parse_url(text).parameters == wanted
    assert config.load({"VMSVC_DATABASE_URL": text, "VMSVC_LISTEN_URL": text}).listen_url == text


@pytest.mark.parametrize(
    "options, session, left",
    [
        ("-csearch_path=own", {"search_path": "own"}, None),
        ("-c search_path=own,public --work-mem=5MB", {"search_path": "own,public", "work_mem": "5MB"}, None),
        (r"-csearch_path=\"a\ b\"", {"search_path": '"a b"'}, None),
        ("endpoint=abc -c geqo=off", {"geqo": "off"}, "endpoint=abc"),
    ],
)
def test_options_are_kept_and_those_that_are_settings_go_with_each_transaction(options, session, left):
    escaped = options.replace("\\", "\\\\")
    found = parse_url(f"host=h options='{escaped}'")
    assert (found.session, found.parameters.get("options")) == (session, left)


@pytest.mark.parametrize(
    "text",
    [
        f"mysql://u:{SECRET}@h/d",
        f"postgresql+psycopg2://u:{SECRET}@h/d",
        f"jdbc:postgresql://h/d?password={SECRET}",
        f"postgresql:/u:{SECRET}@h/d",
        SECRET,
        f"u:{SECRET}@h",
        f"postgresql://u:x@{SECRET}@h/d",
        f"postgresql://u:x/{SECRET}@h/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:{SECRET}%ff@h/d",
        f"postgresql://h:{SECRET}/d",
        f"postgresql://u@h/d?{SECRET}=1",
        f"postgresql://u@h/d?password={SECRET}&{SECRET}",
        f"host=h password=a {SECRET}",
        f"host=h password=a {SECRET}=1",
        f"host=h password='{SECRET}",
        f" postgresql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}\0@h/d",
        f"host=h port={SECRET}",
        "   ",
    ],
)
@pytest.mark.parametrize("name", ["VMSVC_DATABASE_URL", "VMSVC_LISTEN_URL"])
def test_anything_else_is_refused_and_not_repeated(text, name):
    with pytest.raises(BadAddress):
        parse_url(text)
    with pytest.raises(config.ConfigError, match=f"{name}: it is no address of a PostgreSQL") as told:
        config.load({"VMSVC_DATABASE_URL": "postgresql://h/d", name: text})
    shown = [str(told.value)]
    cause = told.value
    while cause := (cause.__cause__ or (cause.__context__ if not cause.__suppress_context__ else None)):
        shown.append(str(cause))
    assert not any(SECRET[at : at + 3] in one for one in shown for at in range(4))
