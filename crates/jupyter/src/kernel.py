"""Starts a kernel of Python in a run. What the image has comes first, and the kit last: a notebook imports the packages of the image, as
a script would, and only what the image lacks (ipykernel and what that needs) comes from the kit.
"""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
if sys.path and os.path.abspath(sys.path[0]) == here:
    del sys.path[0]
kit = os.path.join(os.path.dirname(here), "lib")
sys.path.append(kit)
before = set(sys.modules)
try:
    from ipykernel import kernelapp
except Exception as error:
    # Packages of the image are too old for the kernel. Better a kernel with some of the kit's than none.
    print(f"the kernel does not work with packages of the image ({error}): it takes those of JupyterLab first", file=sys.stderr)
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path.remove(kit)
    sys.path.insert(0, kit)
    from ipykernel import kernelapp

kernelapp.launch_new_instance()
