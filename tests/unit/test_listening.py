"""Where the service listens, and what it says when it cannot."""

import errno
import socket
from contextlib import ExitStack, closing

import pytest

from vmsvc import bootstrap
from vmsvc.config import ConfigError, Settings


def reached(sockets, address):
    """Does a connection to this address come about?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family)) as client:
        client.settimeout(5)
        return client.connect_ex((address, sockets[0].getsockname()[1])) == 0


def has_address(address):
    """Has this machine the address? A container can know IPv6 and have no address of it, not even on loopback."""
    with closing(socket.socket(socket.AF_INET6)) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
        return True


@pytest.fixture(name="listen")
def fixture_listen():
    """`listen(address)`: the sockets, which are closed in the end."""
    with ExitStack() as stack:

        def listen(address, port=0):
            return [
                stack.enter_context(closing(one))
                for one in bootstrap.listening_sockets(Settings(address=address, port=port))
            ]

        yield listen


@pytest.fixture(
    name="no_ipv6",
    params=[
        OSError(errno.EADDRNOTAVAIL, "none"),
        OSError(errno.EAFNOSUPPORT, "none"),
        socket.gaierror(socket.EAI_NONAME, "none"),
        None,
    ],
    ids=str,
)
def fixture_no_ipv6(request, monkeypatch):
    """The ways in which a kernel without IPv6 says so; None: there is no such socket, and Tornado goes on without."""
    bind = bootstrap.bind_sockets

    def without(port, address, **kwargs):
        if ":" not in address:
            return bind(port, address, **kwargs)
        if request.param is None:
            return []
        raise request.param

    monkeypatch.setattr(bootstrap, "bind_sockets", without)


def test_the_unspecified_address_listens_on_both_families(listen):
    sockets = listen("::")
    assert {one.family for one in sockets} == {socket.AF_INET, socket.AF_INET6}
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert reached(sockets, "127.0.0.1") and reached(sockets, "::1") == has_address("::1")


def test_an_ipv4_client_is_shown_with_its_ipv4_address(listen):
    sockets = listen("::")
    with closing(socket.create_connection(("127.0.0.1", sockets[0].getsockname()[1]))):
        (taker,) = [one for one in sockets if one.family == socket.AF_INET]
        taker.settimeout(5)
        taken, (address, _) = taker.accept()
        taken.close()
    assert address == "127.0.0.1"


@pytest.mark.usefixtures("no_ipv6")
def test_without_ipv6_it_listens_on_ipv4_and_says_so(listen, caplog):
    sockets = listen("::")
    assert [one.family for one in sockets] == [socket.AF_INET]
    assert reached(sockets, "127.0.0.1")
    assert "no IPv6" in caplog.text


@pytest.mark.parametrize(
    "address, url",
    [("127.0.0.1", "127.0.0.1:8888"), ("::", "[::]:8888"), ("::1", "[::1]:8888"), ("localhost", "localhost:8888")],
)
def test_an_address_is_written_as_in_a_url(address, url):
    assert Settings(address=address).authority(8888) == url


# Tornado leaves the socket that it could not bind to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_and_an_address_that_is_none_are_reported_in_words(listen):
    port = listen("::")[0].getsockname()[1]
    with pytest.raises(ConfigError, match=rf"\[::\]:{port} is in use"):
        listen("::", port)
    for address in ("[::1]", "nowhere.invalid", "203.0.113.1"):
        with pytest.raises(ConfigError, match="cannot listen on .*VMSVC_ADDRESS"):
            listen(address)
