# shellcheck shell=bash disable=SC2034
# Helpers of tpu_vm.sh and xpk.sh: messages, checked arguments, quoting, remembered values, and gcloud with time
# limits and bounded retries. To be sourced; the caller sets PROGRAM and uses what is set here (hence no SC2034).

# Exit codes of every command, as README.md lists them. (75 is left to selfevo itself: "preempted, run me again".)
readonly EX_USAGE=2 EX_TOOL=3 EX_CLOUD=4 EX_WAITED=5 EX_UNUSABLE=6
readonly EX_RUNNING=7 EX_RUN_FAILED=8 EX_DECLINED=9 EX_WORKER=10

DRY_RUN=no
RETRIES=''
# In seconds: between two looks, before the first retry, and the limit of an ordinary call. Tests make them small.
POLL_SECONDS=${SELFEVO_LAUNCH_POLL_SECONDS:-20}
BACKOFF_SECONDS=${SELFEVO_LAUNCH_BACKOFF_SECONDS:-5}
CALL_SECONDS=${SELFEVO_LAUNCH_CALL_SECONDS:-300}

say() { # to the user; a dry run has done nothing, and so tells only of errors and warnings
  if [[ $DRY_RUN == no || $* == error:* || $* == warning:* ]]; then printf '%s: %s\n' "$PROGRAM" "$*" >&2; fi
}

die() { # CODE WORDS...
  local code=$1
  shift
  say "error: $*"
  exit "$code"
}

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  die "$EX_TOOL" "bash $BASH_VERSION is too old; 4.4 or newer is needed (macOS: brew install bash)"
fi

need_tool() { # TOOL REMEDY; a dry run calls nothing and so needs nothing
  [[ $DRY_RUN == yes ]] || command -v "$1" >/dev/null || die "$EX_TOOL" "$1 is not on the PATH: $2"
}

# The words as one line that a shell reads back as the same words. Plain words stay plain, so that the line can be read.
quoted() {
  local line='' word
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then line+=" $word"; else line+=" ${word@Q}"; fi
  done
  printf '%s' "${line# }"
}

plan() { quoted "$@" && echo; } # what a dry run would do

note() { if [[ $DRY_RUN == yes ]]; then printf '# %s\n' "$*"; fi; }

# --- checked arguments --------------------------------------------------------------------------------------------

check() { # OPTION VALUE PATTERN REMEDY
  [[ $2 =~ ^($3)$ ]] || die "$EX_USAGE" "$1 ${2@Q}: $4"
}

check_name() {
  check "$1" "$2" '[a-z]([-a-z0-9]{0,38}[a-z0-9])?' \
    'use 1 to 40 lower-case letters, digits and hyphens, the first a letter, such as self-1'
}

check_zone() { check "$1" "$2" '[a-z]+-[a-z]+[0-9]+-[a-z]' 'expected a zone, not a region, such as us-west4-a'; }

check_project() {
  check "$1" "$2" '[a-z][-a-z0-9.:]{4,}[a-z0-9]' 'expected a project ID, such as my-project-123 (gcloud projects list)'
}

check_accelerator() {
  [[ $2 != v5e-* ]] || die "$EX_USAGE" "$1 ${2@Q}: v5e is called v5litepod here, such as v5litepod-${2#v5e-}"
  check "$1" "$2" 'v[0-9]+[a-z]*-[0-9]+' 'expected a type with its size, such as v5litepod-16, v5p-8, v6e-16 or v4-8'
}

check_count() { check "$1" "$2" '[0-9]{1,6}' 'expected a whole number'; }

check_minutes() { check "$1" "$2" '[0-9]{1,6}([.][0-9]+)?' 'expected minutes, such as 60 or 0.5'; }

check_override() {
  check override "$1" '[A-Za-z_][A-Za-z0-9_.]*=.*' 'expected key=value, such as rounds.number=5'
  [[ $1 != *$'\n'* ]] || die "$EX_USAGE" "override ${1@Q}: has a line break; put the value in the config"
}

seconds_of() { awk -v minutes="$1" 'BEGIN { printf "%d", minutes * 60 + 0.999 }'; } # MINUTES, rounded up

default_runtime() { # ACCELERATOR
  case $1 in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) die "$EX_USAGE" "--accelerator $1: no runtime is known for it; name one with --runtime-version" ;;
  esac
}

several_hosts() { (("${1##*-}" > 8)); } # ACCELERATOR; up to size 8 every generation has a one-host slice

# --- remembered values: KEY=VALUE lines, read as data and never run -----------------------------------------------

remember() { # FILE KEY VALUE...: replaces the lines of KEY, one for each value
  local file=$1 key=$2 value
  shift 2
  [[ $DRY_RUN == no ]] || return 0
  local folder=${file%/*}
  if [[ ! -d $folder ]]; then
    mkdir -p "$folder"
    echo '*' >"$folder/.gitignore"
  fi
  {
    if [[ -f $file ]]; then grep -v "^$key=" "$file" || true; fi
    for value in "$@"; do printf '%s=%s\n' "$key" "$value"; done
  } >"$file.new"
  mv "$file.new" "$file"
}

recall() { # FILE KEY: the values of KEY, one a line; nothing when there are none
  local line
  [[ -f $1 ]] || return 0
  while IFS= read -r line; do
    if [[ $line == "$2="* ]]; then printf '%s\n' "${line#*=}"; fi
  done <"$1"
}

# --- gcloud -------------------------------------------------------------------------------------------------------

GCLOUD_OUT='' # standard output of the last captured call
GCLOUD_ERR='' # standard error of the last call
SCRATCH=''
CALL='' # process of the call that runs

scratch() { # a folder for this process, set as SCRATCH
  if [[ -z $SCRATCH ]]; then
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    trap 'kill "$CALL" 2>/dev/null || true; exit 130' INT TERM
  fi
}

# Whether a failure may pass by itself. A quota by the minute does, any other quota does not.
passing_failure() { # EXIT_CODE
  local words=${GCLOUD_ERR,,}
  [[ $1 != 255 ]] || return 0 # ssh could not connect
  if [[ $words == *quota* && $words != *"per minute"* ]]; then return 1; fi
  [[ $words =~ unavailable|aborted|deadline_exceeded|resource_exhausted|internal\ error|too\ many\ requests ]] ||
    [[ $words =~ timed\ ?out|time-?out|connection\ (reset|refused|closed)|temporar|try\ again ]] ||
    [[ $words =~ resolve\ host|network\ is\ unreachable|connectionerror ]] ||
    [[ $words =~ (status\'?:\ \'?|httperror\ )(429|5[0-9][0-9]) ]]
}

# capture|stream SECONDS ARGS...: calls gcloud; returns its exit code, 124 when it took longer than SECONDS (0: no
# limit). `stream` shows standard output as it comes. Failures that may pass are tried again, RETRIES times at most,
# each wait twice the last. Calls never ask: a question nobody sees would hang for ever.
gcloud_call() {
  local mode=$1 limit=$2 attempt=0 code delay
  shift 2
  GCLOUD_OUT='' GCLOUD_ERR=''
  if [[ $DRY_RUN == yes ]]; then
    plan gcloud "$@"
    return 0
  fi
  scratch
  delay=$BACKOFF_SECONDS
  while true; do
    code=0
    : >"$SCRATCH/out"
    # In the background, because bash answers Ctrl-C while it waits and not while it runs something.
    if [[ $mode == capture ]]; then
      timeout -k 10 "$limit" gcloud "$@" >"$SCRATCH/out" 2>"$SCRATCH/err" </dev/null &
    else
      timeout -k 10 "$limit" gcloud "$@" 2>"$SCRATCH/err" </dev/null &
    fi
    CALL=$!
    wait "$CALL" || code=$?
    GCLOUD_OUT=$(<"$SCRATCH/out")
    GCLOUD_ERR=$(<"$SCRATCH/err")
    [[ $code != 0 ]] || return 0
    if [[ $code == 124 || $code == 137 ]]; then
      code=124
      GCLOUD_ERR+="gcloud gave no answer in $limit s"
    fi
    if ((attempt >= ${RETRIES:-4})) || ! passing_failure "$code"; then return "$code"; fi
    attempt=$((attempt + 1))
    say "gcloud failed (${GCLOUD_ERR##*$'\n'}); try $attempt of ${RETRIES:-4} in $delay s"
    sleep "$delay"
    delay=$(awk -v seconds="$delay" 'BEGIN { print (seconds * 2 > 60 ? 60 : seconds * 2) }')
  done
}

gcloud_failed() { # WHAT: ends with gcloud's own words and, where one is known, the remedy
  local words=${GCLOUD_ERR,,} remedy=''
  printf '%s\n' "$GCLOUD_ERR" | tail -n 15 >&2
  case $words in
    *"permission"* | *"forbidden"*) remedy='; your account lacks a role, see "Permissions" in launch/README.md' ;;
    *"quota"*) remedy='; ask for quota of this type in this zone, or take another zone' ;;
    *"login"* | *"credential"* | *"reauth"*) remedy='; log in with: gcloud auth login' ;;
    *"has not been used"* | *"is disabled"*) remedy='; run: gcloud services enable tpu.googleapis.com' ;;
  esac
  die "$EX_CLOUD" "$1 failed$remedy"
}

# Whether the last call failed because what it named is not there.
gcloud_missing() { [[ ${GCLOUD_ERR,,} =~ not_found|not\ found|does\ not\ exist ]]; }
