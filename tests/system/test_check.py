"""`python -m vmsvc check` says in words what is wrong, and changes nothing."""

import re

import pytest

from tests.system.processes import output_of


@pytest.fixture(name="says")
def fixture_says(environ):
    """`status, said = await says(VMSVC_…="…")`: what the check says of these settings, line by line."""

    async def says(**changes):
        own = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ, **changes}
        status, said, complained = await output_of("check", environ=own)
        return status, said.splitlines() + complained.splitlines()

    return says


def found(said, level, part):
    """The texts of the lines of one kind."""
    return [line.split(maxsplit=2)[2] for line in said if re.match(f"{level} +{part} ", line)]


@pytest.mark.gen_test(timeout=60)
async def test_a_sound_installation_is_found_sound_and_left_as_it_is(says, sim, database):
    before = sim.servers(), database.rows("SELECT * FROM deployment")
    sim.quota("admin", cores=1_000_000)
    status, said = await says()
    assert status == 0, said
    assert "0 of 1000000 cores" in found(said, "ok", "quota")[0]
    assert not [line for line in said if not line.startswith("ok ")]
    assert {line.split()[1] for line in said} == {
        "database",
        "credentials",
        "flavor",
        "image",
        "network",
        "quota",
        "clock",
    }
    assert (sim.servers(), database.rows("SELECT * FROM deployment")) == before


@pytest.mark.gen_test(timeout=60)
async def test_everything_that_is_wrong_is_reported_in_one_run(says, sim, database):
    sim.settings(token_seconds=3600)
    sim.quota("admin", cores=0)
    sim.call("POST", "/sim/clock", {"advance": 120})
    name = database.url.partition("?")[0].rpartition("/")[2]
    database.command(f"ALTER DATABASE {name} SET search_path = nobody")
    status, said = await says(VMSVC_FLAVOR="m9.none", VMSVC_IMAGE="")
    assert status == 1
    assert "m9.none" in found(said, "WRONG", "flavor")[0]
    assert "not even one" in found(said, "WRONG", "quota")[0]
    assert "120 s ahead" in found(said, "WRONG", "clock")[0] or "119 s ahead" in found(said, "WRONG", "clock")[0]
    assert "CREATE" in found(said, "WRONG", "database")[0]


@pytest.mark.gen_test(timeout=60)
async def test_credentials_that_are_refused_are_named_and_never_shown(says, environ, tmp_path):
    clouds = tmp_path / "clouds.yaml"
    with open(environ["OS_CLIENT_CONFIG_FILE"], encoding="utf-8") as real:
        clouds.write_text(re.sub(r"password: [^,]+", "password: open-sesame", real.read()), encoding="utf-8")
    status, said = await says(OS_CLIENT_CONFIG_FILE=str(clouds))
    assert status == 1
    assert "does not accept" in found(said, "WRONG", "credentials")[0]
    assert "open-sesame" not in "".join(said)


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_does_not_answer_is_reported_without_its_password(says):
    status, said = await says(VMSVC_DATABASE_URL="postgresql://vmsvc:open-sesame@127.0.0.1:1/vmsvc")
    assert status == 1
    assert "VMSVC_DATABASE_URL" in found(said, "WRONG", "database")[0]
    assert "open-sesame" not in "".join(said)
    assert found(said, "ok", "quota")


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=60)
async def test_with_a_member_s_credentials_it_says_what_stays_unseen(says, mode):
    status, said = await says()
    assert status == 0
    assert found(said, "ok", "credentials")[0].startswith(f"{mode} mode")


@pytest.mark.gen_test(timeout=60)
async def test_a_database_whose_vms_are_all_in_another_cloud_is_found_before_they_are_written_off(
    says, new_process, environ, sim
):
    process = new_process(environ)
    client = await process.ready()
    await client.fill(2)
    process.tell_to_stop()
    await process.exit_status()
    for server in sim.servers():
        sim.vanish(server)
    status, said = await says()
    assert status == 1
    assert "2 VMs and not one of them" in found(said, "WRONG", "cloud")[0]


@pytest.mark.gen_test(timeout=60)
async def test_servers_that_a_restored_backup_does_not_know_are_found(says, new_process, environ, database, sim):
    process = new_process(environ)
    client = await process.ready()
    await client.fill(2)
    process.tell_to_stop()
    await process.exit_status()
    database.rows("DELETE FROM vm")
    status, said = await says()
    assert status == 0
    assert "2 servers were made with this database" in found(said, "look", "cloud")[0]
    database.rows("UPDATE deployment SET id = 'another'")
    status, said = await says()
    assert status == 0
    assert "2 servers were made by a vmsvc with another database" in found(said, "look", "cloud")[0]
    assert len(sim.servers()) == 2


def test_an_unknown_setting_is_the_first_thing_that_is_reported(io_loop, says):
    status, said = io_loop.run_sync(lambda: says(VMSVC_GRACE="1"))
    assert status == 2 and "VMSVC_GRACE" in said[0]


@pytest.mark.gen_test(timeout=60)
async def test_the_access_rule_is_reported_and_a_missing_token_file_is_wrong(says, tmp_path):
    status, said = await says(VMSVC_AUTH="token", VMSVC_TOKEN_FILE=str(tmp_path / "none"))
    assert status == 1 and "token new" in found(said, "WRONG", "access")[0]
    status, said = await says(VMSVC_AUTH="keystone", VMSVC_MEMBER_ROLES="creator")
    assert status == 0 and "creator may create" in found(said, "ok", "access")[0]


@pytest.mark.gen_test(timeout=60)
async def test_a_trusted_proxy_whose_name_has_no_address_is_reported(says):
    status, said = await says(VMSVC_TRUSTED_PROXIES="127.0.0.1,localhost,nobody.invalid")
    assert status == 0, said
    assert "trusted proxy nobody.invalid has no address now" in found(said, "look", "access")[0]
    assert re.search(r"trusted proxy localhost is .*127\.0\.0\.1", found(said, "ok", "access")[0])


@pytest.mark.gen_test(timeout=60)
async def test_a_failed_sign_in_is_explained_for_people(says, environ, tmp_path):
    clouds = tmp_path / "clouds.yaml"
    with open(environ["OS_CLIENT_CONFIG_FILE"], encoding="utf-8") as real:
        clouds.write_text(re.sub(r"http://[^/]+", "http://127.0.0.1:1", real.read()), encoding="utf-8")
    status, said = await says(OS_CLIENT_CONFIG_FILE=str(clouds))
    assert status == 1
    assert found(said, "WRONG", "credentials") == ["http://127.0.0.1:1 refuses the connection: nobody listens there"]
    status, said = await says(OS_CLIENT_CONFIG_FILE=str(clouds), OS_CLOUD="nowhere")
    assert status == 1
    assert str(clouds) in found(said, "WRONG", "credentials")[0]
    assert "sim-admin, sim-demo" in found(said, "WRONG", "credentials")[0]
    assert not [line for line in said if "Traceback" in line]
