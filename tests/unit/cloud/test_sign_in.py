"""When we cannot sign in the reason is said in words, as the `openstack` command says it, and no secret is in it."""

import json
import os
import socket
from contextlib import closing

import pytest

from tests import certificate
from vmsvc.cloud.openstack.adapter import OpenStack
from vmsvc.domain.errors import CloudError, CloudUnavailable, VmsvcError

SECRET = "open sesame"


@pytest.fixture(name="connect")
def fixture_connect(monkeypatch, tmp_path, io_loop):
    """`await connect(url, VAR=value, …)`: sign in to the cloud `mine` of a clouds.yaml, as the environment has it."""
    made = []
    for name in [name for name in os.environ if name.startswith("OS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    async def connect(url, cloud=None, timeout=2, **environ):
        mine = {
            "auth": {
                "auth_url": url,
                "username": "u",
                "password": SECRET,
                "project_name": "p",
                "user_domain_name": "d",
                "project_domain_name": "d",
            },
            "region_name": "r",
            **(cloud or {}),
        }
        (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"mine": mine, "other": mine}}))
        for name, value in {"OS_CLOUD": "mine", "OS_CLIENT_CONFIG_FILE": tmp_path / "clouds.yaml", **environ}.items():
            monkeypatch.setenv(name, str(value))
        made.append(OpenStack(timeout=timeout))
        await made[-1].connect()

    yield connect
    for one in made:
        io_loop.run_sync(one.close)


async def refused(connecting, kind=CloudUnavailable):
    """Why it is not let in."""
    with pytest.raises(VmsvcError) as caught:
        await connecting
    said = caught.value.message
    assert caught.type is kind
    assert SECRET not in said and "\n" not in said
    return said


@pytest.fixture(name="silent")
def fixture_silent():
    """The address of a server that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(name="pair")
def fixture_pair(tmp_path):
    """Files of a certificate and its key."""
    return certificate.make(tmp_path)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "url, words",
    [
        ("http://keystone.invalid:5000/v3", ["http://keystone.invalid:5000", "name is not known"]),
        ("http://127.0.0.1:1/v3", ["http://127.0.0.1:1 refuses the connection"]),
        ("http://me:hush@127.0.0.1:1/v3", ["http://127.0.0.1:1 refuses the connection"]),
        ("127.0.0.1:5000/v3", ["OS_AUTH_URL", "no URL", "127.0.0.1:5000"]),
        ("me:hush@127.0.0.1:5000/v3", ["no URL"]),
    ],
)
async def test_an_address_where_no_keystone_is(connect, url, words):
    said = await refused(connect(url))
    assert all(word in said for word in words), said
    assert "hush" not in said


@pytest.mark.gen_test
async def test_a_keystone_that_says_nothing(connect, silent):
    assert f"{silent} does not answer in time" in await refused(connect(f"{silent}/v3", timeout=0.3))


@pytest.mark.gen_test
async def test_an_address_with_nothing_of_keystones(connect, rogue):
    rogue.nothing = True
    said = await refused(connect(f"{rogue.url}/nothing"))
    assert "there is no Keystone at" in said and "auth_url" in said, said


@pytest.mark.gen_test
async def test_a_certificate_of_a_private_ca_counts_when_os_cacert_names_it_beside_os_cloud(connect, rogue, pair):
    rogue.speak_tls(*pair)
    said = await refused(connect(f"{rogue.url}/v3"))
    assert rogue.url in said and "self-signed certificate" in said and "OS_CACERT" in said
    await connect(f"{rogue.url}/v3", OS_CACERT=pair[0])
    assert rogue.sign_ins == 1
    said = await refused(connect(f"{rogue.url}/v3", OS_CACERT="/nowhere/ca.pem"))
    assert "/nowhere/ca.pem" in said
    await connect(f"{rogue.url}/v3", OS_CACERT="", OS_INSECURE="true")
    await connect(f"{rogue.url}/v3", {"cacert": str(pair[0])}, OS_INSECURE="")


@pytest.mark.gen_test
@pytest.mark.parametrize("of, words", [({"address": "127.0.0.2"}, "127.0.0.1"), ({"days": -1}, "expired")])
async def test_a_certificate_that_no_ca_mends(connect, rogue, tmp_path, of, words):
    pair = certificate.make(tmp_path, **of)
    rogue.speak_tls(*pair)
    said = await refused(connect(f"{rogue.url}/v3", OS_CACERT=pair[0]))
    assert "cannot be verified" in said and words in said and "OS_CACERT" not in said


@pytest.mark.gen_test
async def test_https_where_http_is_spoken_and_the_other_way_round(connect, rogue, pair):
    said = await refused(connect(f"https://127.0.0.1:{rogue.port}/v3"))
    assert "does not speak TLS; does its address begin with http://?" in said
    rogue.speak_tls(*pair)
    said = await refused(connect(f"http://127.0.0.1:{rogue.port}/v3"))
    assert "does its address begin with https://?" in said


@pytest.mark.gen_test
async def test_a_login_that_keystone_refuses(connect, rogue):
    rogue.password = "another"
    said = await refused(connect(f"{rogue.url}/v3"))
    assert f"Keystone at {rogue.url} does not accept the service's credentials (Wrong." in said
    assert all(word in said for word in ("user", "domain", "password", "project"))


@pytest.mark.gen_test
async def test_a_keystone_that_repeats_what_it_was_sent(connect, rogue, monkeypatch):
    monkeypatch.setattr(
        rogue, "sign_in", lambda asked: (401, {"error": {"code": 401, "title": "no", "message": json.dumps(asked)}}, {})
    )
    assert "***" in await refused(connect(f"{rogue.url}/v3"))
    said = await refused(
        connect(
            f"{rogue.url}/v3",
            {
                "auth": {
                    "auth_url": f"{rogue.url}/v3",
                    "username": "u",
                    "password": "hush",
                    "project_name": "p",
                    "user_domain_name": "d",
                    "project_domain_name": "d",
                }
            },
        )
    )
    assert "hush" not in said


@pytest.mark.gen_test
async def test_a_cloud_that_the_file_has_not(connect, rogue, tmp_path):
    said = await refused(connect(f"{rogue.url}/v3", OS_CLOUD="mein"), CloudError)
    assert all(word in said for word in ("'mein'", str(tmp_path / "clouds.yaml"), "mine, other")), said


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "text, words",
    [
        (None, "there is no"),
        ("clouds: {mine: {password: open sesame", "not valid YAML"),
        ("- mine", "valid mapping"),
        ("clouds: mine", "cannot be used"),
        ("clouds: {mine: yours}", "cannot be used"),
        ("clouds: {}", "no clouds in"),
    ],
)
async def test_a_file_that_is_none(connect, rogue, tmp_path, caplog, text, words):
    path = tmp_path / "other.yaml"
    if text is not None:
        path.write_text(text)
    said = await refused(connect(f"{rogue.url}/v3", OS_CLIENT_CONFIG_FILE=path), CloudError)
    assert words in said, said
    assert SECRET not in caplog.text


@pytest.mark.gen_test
async def test_settings_that_lack_something(connect, rogue):
    auth = {"auth_url": f"{rogue.url}/v3"}
    assert "password" in await refused(connect("", {"auth": auth | {"username": "u"}}), CloudError)
    assert "auth_url" in await refused(connect("", {"auth": {"username": "u", "password": SECRET}}), CloudError)
    assert "magic" in await refused(connect("", {"auth": auth, "auth_type": "magic"}), CloudError)


@pytest.mark.gen_test
@pytest.mark.parametrize("cloud", [{"region_name": "elsewhere"}, {"interface": "internal"}])
async def test_a_region_or_an_interface_that_the_catalogue_has_not(connect, rogue, cloud):
    said = await refused(connect(f"{rogue.url}/v3", cloud), CloudError)
    assert all(word in said for word in (*cloud.values(), "it has: r (public)", "OS_REGION_NAME")), said


@pytest.mark.gen_test
async def test_a_service_of_the_catalogue_that_is_not_there(connect, rogue, monkeypatch):
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        nowhere = f"http://127.0.0.1:{gone.getsockname()[1]}"
    sign_in = rogue.sign_in

    def elsewhere(asked):
        status, body, headers = sign_in(asked)
        body["token"]["catalog"][0]["endpoints"][0]["url"] = f"{nowhere}/compute/v2.1"
        return status, body, headers

    monkeypatch.setattr(rogue, "sign_in", elsewhere)
    said = await refused(connect(f"{rogue.url}/v3"))
    assert "compute" in said and nowhere in said, said


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
async def test_a_proxy_is_asked_for_a_cloud_elsewhere_and_never_for_one_on_this_machine(connect, rogue, name):
    await connect(f"{rogue.url}/v3", **{name: "http://127.0.0.1:1"})
    said = await refused(connect("http://192.0.2.1:5000/v3"))
    assert "http://192.0.2.1:5000: the proxy of the environment" in said and "refused" in said


@pytest.mark.gen_test
async def test_a_call_that_finds_nobody_says_who_was_asked(connect, rogue, monkeypatch):
    rogue.keep_alive = False
    made = []
    sign_in = OpenStack.connect
    monkeypatch.setattr(OpenStack, "connect", lambda self: made.append(self) or sign_in(self))
    await connect(f"{rogue.url}/v3")
    rogue.vanish()
    with pytest.raises(CloudUnavailable, match=f"{rogue.url} refuses the connection"):
        await made[0].servers()
