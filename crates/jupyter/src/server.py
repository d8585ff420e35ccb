"""Starts JupyterLab in a run: `server.py KIT ROOT`, with the token as the first line of standard input.

KIT is the directory of a kit, or empty: then the image has JupyterLab. Python must have been started with `-I` for a kit. The kit comes
first for this process alone; nothing of it is in the environment, so kernels and terminals do not see it there. The token stays in
memory: it is on no command line, in no environment and in no file.
"""
import os
import shutil
import sys
import tempfile

token = sys.stdin.readline().strip()
kit, root = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path not in ("", os.path.dirname(os.path.abspath(sys.argv[0])))]
# An image may give its user a home in which nothing can be written.
if not os.access(os.path.expanduser("~"), os.W_OK):
    scratch = tempfile.mkdtemp(prefix="jupyter-")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        os.environ.setdefault(name, os.path.join(scratch, name.lower()))

options = []
if kit:
    sys.path.insert(0, os.path.join(kit, "lib"))
    from jupyter_core import paths

    # What users and images have of kernels stays there; extensions of the server are those of the kit.
    paths.ENV_JUPYTER_PATH.insert(0, os.path.join(kit, "share", "jupyter"))
    paths.ENV_CONFIG_PATH[:] = [os.path.join(kit, "etc", "jupyter")]
    paths.SYSTEM_CONFIG_PATH[:] = []
    options.append("--LabApp.app_dir=" + os.path.join(kit, "share", "jupyter", "lab"))

# Terminals start what the user's account names, and `sh` where it names nothing.
if not os.environ.get("SHELL"):
    os.environ["SHELL"] = shutil.which("bash") or "/bin/sh"

from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp

# These files have the token.
for name in ("write_server_info_file", "write_browser_open_file", "write_browser_open_files"):
    if hasattr(ServerApp, name):
        setattr(ServerApp, name, lambda self: None)

options += [
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=8888",
    "--ServerApp.port_retries=0",
    "--ServerApp.base_url=/",
    "--ServerApp.root_dir=" + root,
    "--ServerApp.open_browser=False",
    "--ServerApp.allow_root=True",
    "--ServerApp.allow_remote_access=True",
    "--ServerApp.trust_xheaders=True",
    "--ServerApp.quit_button=False",
    "--ServerApp.log_level=WARN",
    "--IdentityProvider.token=" + token,
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
    "--LabApp.extension_manager=readonly",
]
sys.argv[1:] = []
LabApp.launch_instance(argv=options)
