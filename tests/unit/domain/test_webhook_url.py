"""Where webhooks may go: 50 hostile URLs and addresses, and the good ones."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings, strategies

from vmsvc.domain.errors import InvalidRequest
from vmsvc.domain.webhook_url import Target, parse, refusal

NONE: tuple = ()
PUBLIC = "93.184.216.34"

#: URLs that no look-up is made for.
MALFORMED = [
    "http:/example.com",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "HTTPS://example.com/",
    "//example.com/",
    "https://",
    "https:///path",
    "https://user:secret@example.com/",
    "https://user@example.com/",
    "https://example.com@169.254.169.254/",
    "https://example.com\\@169.254.169.254/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:/",
    "https://example.com:https/",
    "https://example.com/#fragment",
    "https://example.com/#",
    "https://example.com/\r\nHost: other",
    "https://example.com/a b",
    "https://ex\u00e4mple.com/",
    "https://\u0665\u0661.com/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://169.254.43518/",
    "https://127.0.0.1./",
    "https://[::1%25lo]/",
    "https://[fe80::1%eth0]/",
    "https://[::ffff:127.0.0.1/",
    "https://::1/",
    "https://[v1.a]/",
    "https://-example.com/",
    "https://exa mple.com/",
    "https://a..b/",
    "https://" + "a" * 64 + ".com/",
    "https://example.com/" + "a" * 2048,
]

#: Addresses to which no request goes, unless the operator has named a network that holds them.
NOT_GLOBAL = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "198.18.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::7f00:1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2001:0:7f00:1::1",
    "2600::5efe:a00:1",
]

#: Addresses to which no request goes whatever the operator has named.
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
    "224.0.0.1",
    "ff02::1",
    "no address",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_url_of_another_form_is_refused(url):
    with pytest.raises(InvalidRequest) as refused:
        parse(url)
    assert refused.value.field == "url" and "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", "example.com", 443)),
        ("https://Example.com:8443/a/b?c=d&e=%20", Target("https", "example.com", 8443)),
        ("http://receiver.internal./hook", Target("http", "receiver.internal", 80)),
        ("https://93.184.216.34/", Target("https", "93.184.216.34", 443)),
        ("https://[2600::1]:444/", Target("https", "2600::1", 444)),
        ("https://xn--exmple-cua.com/", Target("https", "xn--exmple-cua.com", 443)),
        ("https://a-b_c.example.com/~x!$&'()*+,;=:@", Target("https", "a-b_c.example.com", 443)),
    ],
)
def test_a_plain_url_is_taken(url, target):
    assert parse(url) == target


@pytest.mark.parametrize("address", NOT_GLOBAL + NEVER)
def test_an_address_that_is_not_global_is_refused(address):
    assert refusal("https", [address], NONE)
    assert refusal("https", [PUBLIC, address], NONE), "one bad address of several spoils all"


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_the_operator_allows(address):
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    assert refusal("https", [address], everything)
    assert refusal("http", [address], everything)


@pytest.mark.parametrize("address", [PUBLIC, "2600::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_a_global_address_is_allowed_with_tls_alone(address):
    assert refusal("https", [address], NONE) is None
    assert refusal("http", [address], NONE) == "it must be https"


def test_the_operator_s_networks_are_allowed_without_tls_too():
    networks = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert refusal("http", [address], networks) is None
    assert refusal("http", ["10.1.2.3", "192.168.0.1"], networks)
    assert refusal("https", ["10.1.2.3", PUBLIC], networks) is None
    # A tunnel's address leads elsewhere than where it lies.
    assert refusal("https", ["2002:7f00:1::1"], [ip_network("2002::/16")])


def test_a_name_without_an_address_is_refused():
    assert refusal("https", [], NONE)


@settings(deadline=None)  # a busy machine is no fault
@given(strategies.ip_addresses())
def test_no_ipv6_spelling_of_an_ipv4_address_is_judged_otherwise(address):
    if address.version == 6:
        assert address.is_global or refusal("https", [str(address)], NONE)
        return
    plain = refusal("https", [str(address)], NONE)
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert refusal("https", [str(ip_address(int(ip_address(prefix)) + int(address)))], NONE) == plain
    inside = ip_address(int(ip_address("2002::")) + (int(address) << 80) + 1)
    assert (refusal("https", [str(inside)], NONE) is None) == (plain is None)
