"""The SDK is slow to import: nobody pays before the first connect()."""

import subprocess
import sys


def test_importing_the_adapter_imports_no_sdk():
    code = (
        "import sys, vmsvc.cloud.openstack.adapter; "
        "print([name for name in ('openstack', 'keystoneauth1', 'requests', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
