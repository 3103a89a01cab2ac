#!/bin/sh
# Usage: create_venv.sh DIR. Makes DIR a virtual environment of Python 3.11 or 3.12 unless it is one already.
# Another Python may be named: PYTHON=/path/to/python3.12 make book
set -eu
dir=$1

fits() { # is "$1" a Python that we support and that can make environments?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))' >/dev/null 2>&1
}

if fits "$dir/bin/python"; then
    exit 0
fi
if [ -e "$dir/bin/python" ]; then
    echo "error: $dir holds $("$dir/bin/python" --version 2>&1), but Python 3.11 or 3.12 is needed." >&2
    echo "       Remove it (rm -r $dir) and run this again." >&2
    exit 1
fi

if [ -n "${PYTHON:-}" ] && ! fits "$PYTHON"; then
    echo "error: PYTHON=$PYTHON is not a Python 3.11 or 3.12 that can make a virtual environment." >&2
    exit 1
fi

# A shim of pyenv is on the PATH even when its version is not selected, so every candidate is run;
# the versions that pyenv holds come last.
for candidate in "${PYTHON:-}" python3.11 python3.12 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11.*/bin/python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python3; do
    if [ -n "$candidate" ] && fits "$candidate"; then
        echo "making $dir with $("$candidate" -c 'import sys; print(sys.executable, sys.version.split()[0])')"
        exec "$candidate" -m venv --clear "$dir"
    fi
done

echo "error: found no Python 3.11 or 3.12 that can make a virtual environment." >&2
echo "       On Debian or Ubuntu: apt install python3.11-venv (or python3.12-venv)." >&2
echo "       Elsewhere: install Python 3.12 from python.org, or 'pyenv install 3.12'." >&2
echo "       One in an unusual place can be named: PYTHON=/path/to/python3.12 make book" >&2
exit 1
