#!/usr/bin/env bash
# The worker's half of tpu_vm.sh, which copies it to ~/selfevo on every worker: installs, starts the run in the
# background, starts it again when it ends in 75, tells its state, shows its log, stops it. All it keeps lies in
# ~/selfevo: NAME.yaml (config), NAME.log, NAME.pid, NAME.exit (exit code), NAME.restarts. A run holds NAME.lock as long
# as any process of it lives, so a stale pid file never counts as a run.
set -euo pipefail

# Exit codes: apart from those of ssh and gcloud, so that tpu_vm.sh can tell them.
readonly ALIVE=41 NO_PYTHON=42 INSTALL_FAILED=43 NOT_INSTALLED=44 STILL_SAVING=45
readonly AGAIN=75 # selfevo was preempted, and everything is saved

ROOT=$HOME/selfevo
VENV=$ROOT/venv
SELF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")
HOST=$(hostname)

fail() { # CODE WORDS...
  local code=$1
  shift
  echo "$HOST: error: $*" >&2
  exit "$code"
}

# A shared lock for the question, so that two who ask do not take each other for a run.
alive() { ! flock --nonblock --shared "$BASE.lock" true; }

content() { if [[ -f $1 ]]; then cat "$1"; fi; }

state() { # one line that tpu_vm.sh reads
  local words
  if alive; then
    words="running $(content "$BASE.pid") $(content "$BASE.restarts")"
  elif [[ -f $BASE.exit ]]; then
    words="exited $(content "$BASE.exit")"
    if [[ -f $BASE.stopped ]]; then words+=' stopped'; fi
  elif [[ -f $BASE.pid ]]; then
    words=died # the machine went down, or the runner was killed
  elif [[ -x $VENV/bin/selfevo ]]; then
    words=idle
  else
    words=not-installed
  fi
  echo "selfevo-worker $HOST $words"
}

# --- install ------------------------------------------------------------------------------------------------------

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

make_venv() {
  local python uv
  if [[ -x $VENV/bin/python ]] && new_enough "$VENV/bin/python"; then return; fi
  for python in python3.12 python3.13 python3.11 python3; do
    if ! new_enough "$python"; then continue; fi
    rm -rf "$VENV"
    if "$python" -m venv "$VENV" >>"$ROOT/install.log" 2>&1; then return; fi # Debian may lack its venv module
  done
  # TPU images come with an older Python: uv brings a newer one, and needs no root. --target leaves the system's alone.
  uv=$(command -v uv || echo "$ROOT/uv/bin/uv")
  if [[ ! -x $uv ]]; then
    python3 -m pip install --quiet --target "$ROOT/uv" uv >>"$ROOT/install.log" 2>&1 || true
  fi
  rm -rf "$VENV"
  if ! { "$uv" python install 3.12 && "$uv" venv --quiet --seed --python 3.12 "$VENV"; } \
    >>"$ROOT/install.log" 2>&1; then
    fail "$NO_PYTHON" "no Python 3.11 or newer with venv, and uv brought none ($ROOT/install.log);" \
      "try: sudo apt-get install -y python3.11 python3.11-venv, or another --runtime-version"
  fi
}

install() { # WHAT EXTRAS: a tarball of the source, a folder of it, or a requirement for pip (with its extras)
  local what=$1 extras=$2
  mkdir -p "$ROOT"
  if alive; then fail "$ALIVE" "a run is alive (pid $(content "$BASE.pid")); stop it first"; fi
  : >"$ROOT/install.log"
  if [[ -f $what ]]; then
    rm -rf "$ROOT/source"
    mkdir "$ROOT/source"
    tar -xzf "$what" -C "$ROOT/source"
    what=$ROOT/source
  fi
  if [[ -d $what ]]; then what="${what}[$extras]"; fi
  make_venv
  local pip=("$VENV/bin/python" -m pip --disable-pip-version-check --quiet)
  # first away with the old one: pip takes another commit of one version for the same
  "${pip[@]}" uninstall --yes selfevo-jax >>"$ROOT/install.log" 2>&1 || true
  if ! "${pip[@]}" install "$what" >>"$ROOT/install.log" 2>&1; then
    tail -n 15 "$ROOT/install.log" >&2
    fail "$INSTALL_FAILED" "pip install ${what@Q} failed; all of it is in $ROOT/install.log"
  fi
  echo "$HOST: installed $("$VENV/bin/selfevo" --version)"
}

# --- run ----------------------------------------------------------------------------------------------------------

start() { # TOKEN MAX_RESTARTS OVERRIDES...: at once; the same token again is the same request, not a second run
  local token=$1 tries
  [[ -x $VENV/bin/selfevo ]] || fail "$NOT_INSTALLED" "selfevo is not installed here; run install first"
  if alive && [[ $(content "$BASE.token") != "$token" ]]; then
    fail "$ALIVE" "a run is alive already (pid $(content "$BASE.pid"))"
  fi
  if [[ $(content "$BASE.token") != "$token" ]]; then
    # a session of its own: it outlives the connection, and one signal reaches all of it
    setsid bash "$SELF" loop "$NAME" "$@" >>"$BASE.log" 2>&1 </dev/null &
    for ((tries = 0; tries < 300; tries++)); do
      if [[ $(content "$BASE.token") == "$token" ]]; then break; fi
      sleep 0.1
    done
    [[ $(content "$BASE.token") == "$token" ]] || fail "$ALIVE" "another run has started at the same time"
  fi
  state
}

write() { # FILE TEXT: all of it or nothing
  echo "$2" >"$1.new"
  mv "$1.new" "$1"
}

loop() { # TOKEN MAX_RESTARTS OVERRIDES...: the process in the background
  local token=$1 most=$2 restarts=0 code folder=$ROOT
  shift 2
  exec 9>>"$BASE.lock"
  flock --wait 5 9 || exit "$ALIVE"
  rm -f "$BASE.exit" "$BASE.stopped"
  write "$BASE.pid" "$$"
  write "$BASE.restarts" 0
  stopping=no
  # selfevo, being of the same group, gets the signal itself; here it is only noted, and that after selfevo has ended
  trap 'stopping=yes' TERM INT
  write "$BASE.token" "$token"
  if [[ -d $ROOT/source ]]; then folder=$ROOT/source; fi # so that a config's paths into the source hold
  cd "$folder"
  while true; do
    printf '[selfevo runner] %s start %s\n' "$(date -u +%FT%TZ)" "$((restarts + 1))"
    if "$VENV/bin/selfevo" evolve "$BASE.yaml" "$@"; then code=0; else code=$?; fi
    printf '[selfevo runner] %s exit code %s\n' "$(date -u +%FT%TZ)" "$code"
    if [[ $code != "$AGAIN" || $stopping == yes ]] || ((restarts >= most)); then break; fi
    restarts=$((restarts + 1))
    write "$BASE.restarts" "$restarts"
    sleep "${SELFEVO_RESTART_SECONDS:-10}" || true
    if [[ $stopping == yes ]]; then break; fi
  done
  write "$BASE.exit" "$code"
}

logs() { # LINES FOLLOW PREFIX
  local lines=$1 follow=$2 prefix='' options=()
  [[ -f $BASE.log ]] || fail "$NOT_INSTALLED" "there is no log yet; start the run first"
  if [[ $3 == yes ]]; then prefix="$HOST: "; fi
  if [[ $follow == yes ]] && alive; then options=(-F --pid "$(content "$BASE.pid")"); fi # ends with the run
  tail -n "$lines" "${options[@]}" "$BASE.log" | sed -u "s|^|$prefix|"
}

stop() { # SECONDS FORCE
  local limit=$1 force=$2 pid
  pid=$(content "$BASE.pid")
  if alive; then
    touch "$BASE.stopped"
    kill -TERM -- "-$pid" || true
    SECONDS=0
    while alive && ((SECONDS < limit)); do sleep 0.2; done
    if alive && [[ $force == yes ]]; then
      kill -KILL -- "-$pid" || true
      write "$BASE.exit" 137
      sleep 0.2
    fi
    if alive; then fail "$STILL_SAVING" "still saving after $limit s (pid $pid)"; fi
  fi
  state
}

main() {
  local verb=$1
  NAME=$2
  BASE=$ROOT/$NAME
  shift 2
  mkdir -p "$ROOT"
  case $verb in
    install) install "$@" ;;
    start) start "$@" ;;
    loop) loop "$@" ;;
    state) state ;;
    logs) logs "$@" ;;
    stop) stop "$@" ;;
    *) fail 2 "unknown verb $verb" ;;
  esac
}

main "$@"; exit # one line: a newer copy of this file may be written over it while a run goes on
