# Set-up shared by scripts/run, scripts/test and scripts/soak: sourced with the working directory at the checkout's root.
# POSIX sh. Everything may be done again: what is there already is left alone.

missing=""                  # what could not be had, one line each; told at the end, nothing is left out silently

say() { printf '%s\n' "$*" >&2; }

note_missing() {
    missing="$missing
  $*"
}

# packages PROGRAM:PACKAGE...: install the Debian packages of programs that are not there.
packages() {
    wanted="" programs=""
    for pair in "$@"; do
        if ! have "${pair%%:*}"; then
            wanted="$wanted ${pair#*:}" programs="$programs ${pair%%:*}"
        fi
    done
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "Installing$wanted ..."
        # shellcheck disable=SC2086  # a list of words
        if ! install_packages $wanted; then
            # the package lists may be old, or not there at all
            apt-get update -qq >&2 && install_packages $wanted || true
        fi
    fi
    for pair in "$@"; do
        if ! have "${pair%%:*}"; then
            note_missing "${pair%%:*} (Debian package ${pair#*:}; to install it, run as root: apt-get install ${pair#*:})"
        fi
    done
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# axe_core: the accessibility rules of the browser tests, as tests/support/axe/package-lock.json pins them by hash.
axe_core() {
    [ ! tests/support/axe/node_modules/.package-lock.json -nt tests/support/axe/package-lock.json ] || return 0
    packages npm:npm
    npm ci --prefix tests/support/axe --ignore-scripts --no-audit --no-fund --silent >&2 ||
        note_missing "axe-core (npm ci --prefix tests/support/axe): no page was tested for its accessibility"
}

# Debian keeps the programs of the PostgreSQL server outside the PATH.
have() {
    command -v "$1" >/dev/null 2>&1 || { [ "$1" = postgres ] && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
}

find_python() {
    # A distribution builds its Python with profile-guided optimisation; one that somebody compiled, often without, takes
    # up to half as much time again for each call (bench/RESULTS.md).
    for candidate in ${PYTHON:-} /usr/bin/python3 python3.13 python3.12 python3.11 python3 python3.14; do
        # some are shims that only say what they would need
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# virtual_environment: .venv with what requirements-dev.lock names, and this checkout as the command smartswitch.
# One environment for running and testing: a person who does both would otherwise hold two, and test what they don't run.
virtual_environment() {
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
        if ! python=$(find_python) && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
            say "Installing python3-venv ..."
            install_packages python3 python3-venv || { apt-get update -qq >&2 && install_packages python3 python3-venv; } || true
            python=$(find_python) || true
        fi
        if [ -z "$python" ]; then
            say "Python 3.11 or newer with venv and ensurepip is needed (Debian: apt-get install python3-venv)."
            exit 1
        fi
        say "Making .venv with $python ..."
        rm -rf .venv
        "$python" -m venv .venv
    fi
    stamp=$(cat requirements-dev.lock pyproject.toml | cksum)
    if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
        say "Installing Python packages into .venv ..."
        export PIP_DISABLE_PIP_VERSION_CHECK=1
        .venv/bin/python -m pip install --quiet --require-hashes -r requirements-dev.lock
        .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
        printf '%s\n' "$stamp" >.venv/installed
    fi
}
