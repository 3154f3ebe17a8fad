"""The dashboard's and Swagger UI's files, and the headers that keep pages to themselves."""

import re
from dataclasses import replace

import pytest
from swagger_ui_bundle import swagger_ui_path

from vmsvc.web.http.settings import WebSettings

VMS = "/api/v1/vm"


@pytest.fixture(name="files", autouse=True)
def _files(tmp_path):
    (tmp_path / "js").mkdir()
    for name in ("app.css", "js/main.js", "icon.svg", "favicon.ico"):
        (tmp_path / name).write_text("x")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path, media_type",
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/app.css", "text/css; charset=utf-8"),
        ("/static/js/main.js", "text/javascript; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/vnd.microsoft.icon"),
        ("/api/v1/", "text/html; charset=utf-8"),
        ("/api/v1/ui/initializer.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_files_have_their_type_and_are_asked_for_again_each_time(call, path, media_type):
    answer = await call("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.headers["Cache-Control"] == "no-cache"
    again = await call("GET", path, headers={"If-None-Match": answer.headers["Etag"]})
    assert again.status == 304


@pytest.mark.gen_test
async def test_the_files_of_the_package_may_be_kept(call):
    answer = await call("GET", "/api/v1/ui/swagger-ui.css")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=86400")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/js",
        "/static/../conftest.py",
        "/static/%2e%2e/x",
        "/static//etc/passwd",
        "/static/..%2f..%2fetc%2fpasswd",
        "/api/v1/ui/",
        "/api/v1/ui/../index.html",
        "/static/x%00.js",
    ],
)
async def test_nothing_outside_the_folder_and_no_folder_is_shown(call, path):
    answer = await call("GET", path)
    assert (answer.status, answer.json["error"]) == (404, "not_found")


@pytest.mark.gen_test
async def test_the_page_of_swagger_ui_runs_only_files_of_ours_that_exist(call):
    page = (await call("GET", "/api/v1/")).raw.decode()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) == 4 and not [link for link in links if "//" in link]
    for link in links:
        assert (await call("GET", f"/api/v1/{link}")).status == 200
    assert "<script>" not in page and not re.search(r"\son\w+=", page)
    assert (swagger_ui_path / "swagger-ui-bundle.js").exists()


@pytest.mark.gen_test
async def test_the_api_without_its_slash_leads_to_the_page(call):
    answer = await call("GET", "/api/v1")
    assert (answer.status, answer.headers["Location"]) == (301, "/api/v1/")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    ["/", "/static/app.css", "/static/none", "/api/v1/", VMS, "/nowhere", "/healthz", "/metrics", f"{VMS}/nobody"],
)
async def test_every_answer_carries_the_headers_of_safety(call, path):
    headers = (await call("GET", path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert "Access-Control-Allow-Origin" not in headers and "Server" not in headers


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("LOCALHOST:8888", 200),
        ("127.0.0.1", 200),
        ("127.8.8.8:1", 200),
        ("[::1]:8888", 200),
        ("localhost.", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("10.0.0.1", 403),
        ("0.0.0.0", 403),
    ],
)
async def test_on_loopback_only_loopback_names_are_ours(call, host, status):
    for path in ("/", VMS, "/metrics", "/api/v1/openapi.json"):
        assert (await call("GET", path, headers={"Host": host})).status == status


@pytest.mark.parametrize(
    "settings, name, allowed",
    [
        (WebSettings(address="0.0.0.0"), "anything.example", True),
        (WebSettings(address="0.0.0.0", hosts=frozenset({"vms.example"})), "vms.example", True),
        (WebSettings(address="0.0.0.0", hosts=frozenset({"vms.example"})), "other.example", False),
        (WebSettings(address="::1", hosts=frozenset({"vms.example"})), "vms.example", True),
        (WebSettings(address="::1", hosts=frozenset({"vms.example"})), "::1", True),
        (WebSettings(address="localhost"), "other.example", False),
    ],
)
def test_names_that_were_configured_are_ours_too(settings, name, allowed):
    assert settings.allows_host(name) == allowed


class TestWithATrustedOrigin:
    """A portal on another origin that was named."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, trusted_origins=frozenset({"https://portal.example"}))

    @pytest.mark.gen_test
    async def test_its_pages_may_ask(self, call):
        headers = {"Origin": "https://portal.example", "Sec-Fetch-Site": "cross-site"}
        assert (await call("POST", VMS, json_body={"is_preemptible": True}, headers=headers)).status == 201
        headers["Origin"] = "http://portal.example"
        assert (await call("POST", VMS, json_body={"is_preemptible": True}, headers=headers)).status == 403


@pytest.mark.gen_test
async def test_the_dashboard_may_not_turn_a_string_into_html(call):
    policy = (await call("GET", "/")).headers["Content-Security-Policy"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/static/" + "a" * 300, "/api/v1/ui/" + "a" * 5000, "/static/" + "a/" * 5000 + "b"])
async def test_a_name_that_no_file_system_takes_is_not_there(call, path):
    assert (await call("GET", path)).status == 404
