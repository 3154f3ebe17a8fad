"""The rules of the architecture: who imports whom, and how long things are."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "vmsvc").rglob("*.py"))}
SDK = {"openstack", "keystoneauth1", "requests", "os_client_config", "os_service_types"}
#: Layer -> the parts of vmsvc that it may import. The port, and the cache of what came through it, are what the
#: service sees of a cloud.
MAY_IMPORT = {
    "domain": {"domain"},
    "planner": {"planner", "domain"},
    "scheduling": {"scheduling", "planner", "domain"},
    "store": {"store", "domain"},
    "cloud": {"cloud", "domain"},
    "service": {"service", "store", "cloud.port", "cloud.cache", "scheduling", "domain", "tuning"},
    "web": {"web", "service", "domain"},
    "simulator": {"simulator"},
    "client": {"client"},
    "osc": {"osc", "client"},
    "demo": {"client"},
}
#: What the package brings without an extra: the client needs nothing else, so that it can be used anywhere.
CLIENT_PACKAGES = {"httpx", "httpx_sse"}
#: Room of the web layer -> the rooms that it may import.
WEB_ROOMS = {
    "http": {"http"},
    "openapi": {"openapi", "http"},
    "api": {"api", "openapi", "http"},
    "channel": {"channel", "api", "openapi", "http"},
    "outgoing": {"outgoing"},
    "app": {"app", "channel", "api", "openapi", "http"},
}
#: The layers that decide: the standard library alone, the same answer for the same question.
PURE = ("domain", "planner", "scheduling")
#: What a pure layer must not have: clocks, chance, the world.
IMPURE = {
    "time",
    "random",
    "os",
    "io",
    "pathlib",
    "socket",
    "subprocess",
    "threading",
    "asyncio",
    "logging",
    "secrets",
    "uuid",
    "tempfile",
    "shutil",
    "sys",
}


def name_of(path):
    """`service.acting.create_server` for vmsvc/service/acting/create_server.py."""
    return ".".join(path.relative_to(ROOT / "vmsvc").with_suffix("").parts)


def layer_of(path):
    """`service`, or the module itself when it lies above all layers."""
    return name_of(path).partition(".")[0]


@functools.cache
def nodes_of(tree):
    """Every node of a module: a walk costs more than most of what is asked here."""
    return tuple(ast.walk(tree))


def imports_of(tree):
    """Every module that is imported anywhere in the text, inside functions too."""
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def parts_of(path):
    """What of vmsvc a module imports, as `cloud.port`."""
    return {name.removeprefix("vmsvc.") for name in imports_of(MODULES[path]) if name.startswith("vmsvc.")} - {
        "__version__",
        "COMMAND",
    }


def modules_of(*layers):
    """The modules of these layers."""
    return [path for path in MODULES if layer_of(path) in layers]


def modules(*layers):
    """The same, each as a parameter of a test."""
    return [pytest.param(path, id=name_of(path)) for path in modules_of(*layers)]


@pytest.mark.parametrize("path", modules(*MAY_IMPORT))
def test_imports_go_down(path):
    allowed = MAY_IMPORT[layer_of(path)]
    assert not {
        part for part in parts_of(path) if not any(part == one or part.startswith(f"{one}.") for one in allowed)
    }


@pytest.mark.parametrize("path", [path for path in modules("web") if path.id != "web.__init__"])
def test_rooms_of_the_web_layer_import_one_way(path):
    room = name_of(path).split(".")[1]
    rooms = {part.split(".")[1] for part in parts_of(path) if part.startswith("web.")}
    assert rooms <= WEB_ROOMS[room]


def test_each_package_of_the_web_layer_says_where_to_begin():
    for path, tree in MODULES.items():
        if layer_of(path) == "web" and path.name == "__init__.py":
            text = ast.get_docstring(tree)
            assert "In:" in text and "Out:" in text and "Begin with" in text and len(text.splitlines()) <= 8


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in MODULES])
def test_no_module_uses_a_private_name_of_another(path):
    imported = [
        alias
        for node in nodes_of(MODULES[path])
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "vmsvc"
        for alias in node.names
    ]
    modules_ = {alias.asname or alias.name for alias in imported}
    used = {
        node.attr
        for node in nodes_of(MODULES[path])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules_
    }
    assert not [
        name for name in {alias.name for alias in imported} | used if name.startswith("_") and not name.startswith("__")
    ]


@pytest.mark.parametrize("path", modules(*PURE))
def test_domain_planner_and_scheduling_are_pure(path):
    top = {name.partition(".")[0] for name in imports_of(MODULES[path])} - {"vmsvc"}
    assert top <= sys.stdlib_module_names
    assert not top & IMPURE
    called = {ast.unparse(node.func) for node in nodes_of(MODULES[path]) if isinstance(node, ast.Call)}
    assert not called & {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "open", "print", "input"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_first_line_of_a_module_says_in_a_whole_sentence_what_it_is_for(path):
    """A list of modules with their first lines is the map of the code."""
    first = (ast.get_docstring(MODULES[path]) or "").partition("\n")[0]
    assert first.endswith("."), first


def test_the_planner_has_one_door():
    """Others use the names of the package itself, none of its modules."""
    users = {
        name_of(path)
        for path in MODULES
        if layer_of(path) != "planner"
        for part in parts_of(path)
        if part.startswith("planner.") and part.split(".")[1] in _modules_of("planner")
    }
    assert not users


def _modules_of(package):
    return {path.stem for path in (ROOT / "vmsvc" / package).glob("*.py")}


#: Names with an underscore that are public: of named tuples, of the os module, and of Peewee's models and indexes.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
PEEWEE = {"_meta", "_name", "_expressions", "_unique", "_where"}


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in MODULES])
def test_no_module_uses_a_private_attribute_of_another_module_s_objects(path):
    assert not {part for part in parts_of(path) if part.rpartition(".")[2].startswith("_")}
    nodes = nodes_of(MODULES[path])
    own = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    foreign = {
        f"{ast.unparse(node)}:{node.lineno}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in own | PUBLIC | (PEEWEE if name_of(path) == "store.schema" else set())
        and ast.unparse(node.value) != "super()"
    }
    assert not foreign


def test_what_tests_replace_in_the_service_exists():
    """A text such as "vmsvc.service.acting.await_build.LIMIT" in a test names something that its module defines."""
    modules_ = {f"vmsvc.{name_of(path)}": tree for path, tree in MODULES.items()}
    named = {
        (node.value, file.name)
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"vmsvc(\.\w+)+\.(_\w+|[A-Z]\w*)", node.value)
    }
    assert named
    missing = {(name, file) for name, file in named if not _defines(modules_, *name.rpartition(".")[::2])}
    assert not missing


def _defines(modules_, owner, name):
    """True when the module or class `owner` assigns, defines or imports this name."""
    if owner in modules_:
        body = modules_[owner].body
    else:
        module, _, class_name = owner.rpartition(".")
        classes = [node for node in getattr(modules_.get(module), "body", ()) if isinstance(node, ast.ClassDef)]
        body = [statement for node in classes if node.name == class_name for statement in node.body]
    names = {getattr(node, "name", None) for node in body}
    for node in body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return name in names


def test_the_pure_layers_import_in_no_circle():
    imports = {
        name_of(path): {part.rpartition(".")[0] if part.count(".") > 1 else part for part in parts_of(path)}
        for path in MODULES
        if layer_of(path) in PURE
    }
    open_names = set(imports)
    while done := {name for name in open_names if not imports[name] & open_names - {name}}:
        open_names -= done
    assert not open_names


def test_one_module_knows_the_sdk_and_one_the_http_beneath_it():
    knows = {
        name_of(path) for path, tree in MODULES.items() if {name.partition(".")[0] for name in imports_of(tree)} & SDK
    }
    assert knows == {"cloud.openstack.session", "cloud.openstack.http_session"}
    http_session = ROOT / "vmsvc/cloud/openstack/http_session.py"
    assert not any(name.split(".")[0] == "openstack" for name in imports_of(MODULES[http_session]))
    importers = {name_of(path) for path in MODULES if "cloud.openstack.http_session" in parts_of(path)}
    assert importers == {"cloud.openstack.session"}
    assert "openstack.connection" in (ROOT / "vmsvc/cloud/openstack/session.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith(("cloud.port", "cloud.cache"))])
def test_the_port_and_the_cache_know_no_adapter(path):
    assert not {part for part in parts_of(path) if part.startswith("cloud.openstack")}


def test_tornado_is_the_web_s_the_simulator_s_and_the_start_up_s():
    users = {
        layer_of(path)
        for path, tree in MODULES.items()
        if "tornado" in {name.partition(".")[0] for name in imports_of(tree)}
    }
    assert users <= {"web", "simulator", "bootstrap"}


def test_the_simulator_s_models_know_nothing_of_http():
    """The handlers build on the models, and the models on nothing of theirs."""
    handlers = {name_of(path) for path in modules_of("simulator") if name_of(path).endswith("api")}
    handlers |= {f"simulator.{name}" for name in ("http", "control", "server", "__main__")}
    for path in modules_of("simulator"):
        if name_of(path) not in handlers:
            assert "tornado" not in {name.partition(".")[0] for name in imports_of(MODULES[path])}
            assert not {part for part in parts_of(path) if any(part.startswith(f"{one}.") for one in handlers)}


@pytest.mark.parametrize("path", modules("client", "osc", "demo"))
def test_the_client_needs_two_packages_and_its_plugin_what_the_program_has(path):
    """So both work where the extra `service` is not installed."""
    top = {name.partition(".")[0] for name in imports_of(MODULES[path])} - {"vmsvc"} - set(sys.stdlib_module_names)
    assert top <= {"client": CLIENT_PACKAGES, "osc": {"osc_lib"}, "demo": set()}[layer_of(path)]


def test_only_the_client_makes_http_requests_with_httpx():
    users = {layer_of(path) for path, tree in MODULES.items() if CLIENT_PACKAGES & {*map(_top, imports_of(tree))}}
    assert users == {"client"}


def _top(name):
    return name.partition(".")[0]


def test_the_client_s_decisions_know_no_io():
    """`core` and `results` are driven with blocking calls, with `await`, and by tests."""
    for name in ("core", "results", "steps", "errors"):
        tops = {*map(_top, imports_of(MODULES[ROOT / "vmsvc" / "client" / f"{name}.py"]))}
        assert not tops & (CLIENT_PACKAGES | {"asyncio", "socket", "ssl", "threading", "os"})


def test_peewee_and_the_driver_are_the_store_s():
    users = {
        layer_of(path)
        for path, tree in MODULES.items()
        if {name.partition(".")[0] for name in imports_of(tree)} & {"peewee", "playhouse", "psycopg2"}
    }
    assert users == {"store"}


def test_no_layer_reads_the_environment_but_the_start_up():
    starters = ("simulator", "bootstrap", "__main__", "demo", "osc")
    readers = {
        name_of(path)
        for path, tree in MODULES.items()
        if layer_of(path) not in starters
        for node in nodes_of(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert not readers


def test_only_move_writes_a_state():
    """Everybody else goes through the table of life."""
    for path, tree in MODULES.items():
        if layer_of(path) not in ("service", "store"):
            continue
        for node in nodes_of(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "Vm.update",
                "vms.change",
                "Vm.create",
                "Vm.insert",
            ):
                writes = {keyword.arg for keyword in node.keywords}
                owner = name_of(path) == "store.vms" and ast.unparse(node.func) in ("Vm.update", "Vm.insert")
                assert "state" not in writes or owner, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in MODULES])
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 520
    for node in nodes_of(MODULES[path]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 50, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
