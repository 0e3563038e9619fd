#!/bin/sh
# Make the virtual environment with exactly the locked dependencies. Usage: install_python.sh PYTHON VENV
set -eu
python=$1 venv=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "open-ncp needs Python 3.11 or newer; $python is $("$python" -V)" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    echo "installing python3-venv" >&2
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing locked dependencies into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
# A lab starts a dozen processes of ours; without compiled modules each would compile them anew.
PYTHONDONTWRITEBYTECODE= "$venv/bin/python" -m compileall -q ncp sdn ipam firewall topologies labs
