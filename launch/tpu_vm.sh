#!/usr/bin/env bash
# One run of selfevo on a Cloud TPU VM or pod slice: asks for it, installs, runs, follows, resumes after preemption,
# stops, deletes. `tpu_vm.sh --help` lists the commands; README.md says when to use this and when SkyPilot or xpk.
set -euo pipefail

PROGRAM=tpu_vm.sh
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=tpu_commands.sh
source "$HERE/tpu_commands.sh"

usage() {
  cat <<'END'
tpu_vm.sh COMMAND --name NAME --zone ZONE [OPTIONS]

  create    ask for a TPU through a queued resource, on demand or spot, and wait for it
  install   selfevo on all workers, in an environment of its own
  run       start a config on all workers in the background
  logs      follow the log of worker 0, of another, or of all
  status    queue, node and run at one glance
  resume    after a preemption: make it again, install, run with the same arguments
  watch     look again and again, and resume when it is needed; until the run is complete
  stop      ask the run to save and end
  delete    the TPU and its request; this ends the costs

Each command has --help with an example. Options of all:
  --name NAME         of the TPU and its request
  --zone ZONE         needed once; then remembered, like what resume needs, in the state folder
  --project PROJECT   default: gcloud's own
  --dry-run           print the commands, ready to paste; call and write nothing
  --retries N         of a call that failed in a way that may pass (4; for watch 60, about an hour)
  --state-dir DIR     folder of the remembered arguments (.selfevo-launch, or SELFEVO_LAUNCH_DIR)
  --gcloud-ssh-flag=FLAG   more for ssh and scp, such as --gcloud-ssh-flag=--internal-ip; may be repeated

Exit codes: 0 done, 2 wrong argument, 3 a tool is missing, 4 gcloud failed, 5 waited in vain, 6 the TPU is not usable,
7 a run is alive already, 8 the run ended with an error, 9 not confirmed, 10 a worker failed, 130 interrupted.
END
}

usage_of() {
  case $1 in
    create) cat <<'END' ;;
tpu_vm.sh create --name NAME --zone ZONE --accelerator TYPE [--spot | --on-demand] [--runtime-version VERSION]
                 [--wait-minutes M] [--gcloud-create-flag=FLAG ...]

  --accelerator TYPE        such as v5litepod-16, v5p-8, v6e-16, v4-8
  --spot                    cheaper, may be taken away at any time; --on-demand is the default
  --runtime-version VERSION default: that of the generation
  --wait-minutes M          until it is usable (60); 0 only asks. The request stays in the queue: create waits on
  --gcloud-create-flag=FLAG more for gcloud, such as --gcloud-create-flag=--service-account=EMAIL; may be repeated

Example:
  launch/tpu_vm.sh create --name self-1 --zone us-west4-a --accelerator v5litepod-16 --spot
END
    install) cat <<'END' ;;
tpu_vm.sh install --name NAME [--source SOURCE] [--extras EXTRAS]

  --source SOURCE   a git tree here (its HEAD is shipped; default: that of this script), git+https://..., or a version
  --extras EXTRAS   of the package (tpu,gcs; without gcs there is no run_dir on gs://)

Example:
  launch/tpu_vm.sh install --name self-1
  launch/tpu_vm.sh install --name self-1 --source 0.1.0 --extras tpu,gcs,gguf
END
    run) cat <<'END' ;;
tpu_vm.sh run --name NAME [--max-restarts N] CONFIG [KEY=VALUE ...]

  CONFIG            a file here; it is copied to the workers. Put run_dir on gs:// for pods and spot
  --max-restarts N  on one node, after exit code 75 (20)

Returns when all workers have started. The same command after a crash goes on where the run was.

Example:
  launch/tpu_vm.sh run --name self-1 configs/quickstart.yaml run_dir=gs://my-bucket/self-1 rounds.number=5
END
    logs) cat <<'END' ;;
tpu_vm.sh logs --name NAME [--worker N|all] [--lines N] [--no-follow]

Follows worker 0 until its run ends; Ctrl-C ends the following, not the run.

Example:
  launch/tpu_vm.sh logs --name self-1 --worker all --lines 20 --no-follow
END
    status) cat <<'END' ;;
tpu_vm.sh status --name NAME

A worker is not-installed, idle, running PID RESTARTS, exited CODE [stopped], or died.

Example:
  launch/tpu_vm.sh status --name self-1
END
    resume) cat <<'END' ;;
tpu_vm.sh resume --name NAME [--wait-minutes M]

Where the TPU is preempted, suspended, failed or deleted: deletes what is left, asks again with the same arguments,
waits, installs the same source and starts the same run. On a usable TPU it only starts the run, if none is alive.

Example:
  launch/tpu_vm.sh resume --name self-1 --wait-minutes 600
END
    watch) cat <<'END' ;;
tpu_vm.sh watch --name NAME [--max-resumes N] [--wait-minutes M]

Ends with 0 when the run is complete or stopped, with 8 when it ended with an error.
  --max-resumes N   (20)

Example:
  nohup launch/tpu_vm.sh watch --name self-1 >watch.log 2>&1 &
END
    stop) cat <<'END' ;;
tpu_vm.sh stop --name NAME [--wait-minutes M] [--force]

  --wait-minutes M  for saving (10)
  --force           then kill what has not ended; what it had not saved is lost

Example:
  launch/tpu_vm.sh stop --name self-1
END
    delete) cat <<'END' ;;
tpu_vm.sh delete --name NAME [--yes] [--forget]

  --yes      do not ask
  --forget   also the remembered arguments; without it, resume makes the TPU again

Example:
  launch/tpu_vm.sh delete --name self-1 --yes
END
  esac
}

# Which options a command takes besides those of all.
options_of() {
  case $1 in
    create) echo --accelerator --runtime-version --spot --on-demand --wait-minutes --gcloud-create-flag ;;
    install) echo --source --extras ;;
    run) echo --max-restarts ;;
    logs) echo --worker --lines --no-follow ;;
    resume) echo --wait-minutes ;;
    watch) echo --wait-minutes --max-resumes ;;
    stop) echo --wait-minutes --force ;;
    delete) echo --yes --forget ;;
    status) ;;
    *) return 1 ;;
  esac
}

COMMAND=${1:-}
case $COMMAND in
  -h | --help | help) usage && exit ;;
  '') usage >&2 && exit "$EX_USAGE" ;;
esac
known=$(options_of "$COMMAND") || die "$EX_USAGE" "no command ${COMMAND@Q}; $PROGRAM --help lists them"
known=" $known --name --zone --project --dry-run --retries --state-dir --gcloud-ssh-flag --help "
shift

NAME='' ZONE='' PROJECT='' ACCELERATOR='' RUNTIME_VERSION='' SPOT='' SOURCE='' EXTRAS='' CONFIG='' WAIT_MINUTES=''
MAX_RESTARTS=20 MAX_RESUMES=20 WORKER=0 LINES_SHOWN=100 FOLLOW=yes FORCE=no YES=no FORGET=no
STATE_DIR=${SELFEVO_LAUNCH_DIR:-.selfevo-launch}
WATCH_SECONDS=${SELFEVO_LAUNCH_POLL_SECONDS:-60}
CREATE_FLAGS=() SSH_FLAGS=() OVERRIDES=() rest=()

while (($#)); do
  option=$1
  shift
  case $option in
    --) rest+=("$@") && break ;;
    -h) option=--help ;;
    --*=*) set -- "${option#*=}" "$@" && option=${option%%=*} ;;
    -*) ;;
    *) rest+=("$option") && continue ;;
  esac
  [[ $known == *" $option "* ]] ||
    die "$EX_USAGE" "$COMMAND takes no ${option@Q}; $PROGRAM $COMMAND --help lists its options"
  case $option in
    --help) usage_of "$COMMAND" && exit ;;
    --dry-run) DRY_RUN=yes && continue ;;
    --spot) SPOT=yes && continue ;;
    --on-demand) SPOT=no && continue ;;
    --no-follow) FOLLOW=no && continue ;;
    --force) FORCE=yes && continue ;;
    --yes) YES=yes && continue ;;
    --forget) FORGET=yes && continue ;;
  esac
  (($#)) || die "$EX_USAGE" "$option needs a value; $PROGRAM $COMMAND --help has an example"
  case $option in
    --name) check_name "$option" "$1" && NAME=$1 ;;
    --zone) check_zone "$option" "$1" && ZONE=$1 ;;
    --project) check_project "$option" "$1" && PROJECT=$1 ;;
    --accelerator) check_accelerator "$option" "$1" && ACCELERATOR=$1 ;;
    --runtime-version)
      check "$option" "$1" '[a-z0-9][-a-z0-9._]*' 'expected a name such as v2-alpha-tpuv6e'
      RUNTIME_VERSION=$1
      ;;
    --wait-minutes) check_minutes "$option" "$1" && WAIT_MINUTES=$1 ;;
    --max-restarts) check_count "$option" "$1" && MAX_RESTARTS=$1 ;;
    --max-resumes) check_count "$option" "$1" && MAX_RESUMES=$1 ;;
    --retries) check_count "$option" "$1" && RETRIES=$1 ;;
    --lines) check_count "$option" "$1" && LINES_SHOWN=$1 ;;
    --worker) check "$option" "$1" 'all|[0-9]{1,4}' 'expected a worker number from 0, or all' && WORKER=$1 ;;
    --extras) check "$option" "$1" '[a-z]+(,[a-z]+)*' 'expected names such as tpu,gcs' && EXTRAS=$1 ;;
    --source) SOURCE=$1 ;;
    --state-dir) STATE_DIR=$1 ;;
    --gcloud-create-flag | --gcloud-ssh-flag)
      check "$option" "$1" '--[a-z][^[:cntrl:]]*' "expected a flag of gcloud, such as $option=--labels=team=a"
      if [[ $option == --gcloud-ssh-flag ]]; then SSH_FLAGS+=("$1"); else CREATE_FLAGS+=("$1"); fi
      ;;
  esac
  shift
done

# --- the rest of the words, what is remembered, and defaults ------------------------------------------------------

[[ -n $NAME ]] || die "$EX_USAGE" '--name is missing: give the TPU a name, such as --name self-1'
[[ $STATE_DIR == /* ]] || STATE_DIR=$PWD/$STATE_DIR
STATE=$STATE_DIR/$NAME.env CONFIG_COPY=$STATE_DIR/$NAME.config.yaml TARBALL=$STATE_DIR/$NAME.source.tar.gz

if [[ $COMMAND == run ]]; then
  ((${#rest[@]})) || die "$EX_USAGE" 'CONFIG is missing: name a config file, such as configs/quickstart.yaml'
  CONFIG=${rest[0]} OVERRIDES=("${rest[@]:1}") rest=()
  for word in "${OVERRIDES[@]}"; do check_override "$word"; done
fi
((${#rest[@]} == 0)) || die "$EX_USAGE" "$COMMAND takes no ${rest[0]@Q}; $PROGRAM $COMMAND --help has an example"

remembered() { # VARIABLE: from the state file, where no option has set it
  local -n variable=$1
  if [[ -z $variable ]]; then variable=$(recall "$STATE" "$1"); fi
}
for key in ZONE PROJECT SOURCE EXTRAS; do remembered "$key"; done
((${#SSH_FLAGS[@]})) || mapfile -t SSH_FLAGS < <(recall "$STATE" SSH_FLAG)
if [[ $COMMAND != create ]]; then # which says anew what it asks for
  for key in ACCELERATOR RUNTIME_VERSION SPOT; do remembered "$key"; done
  mapfile -t CREATE_FLAGS < <(recall "$STATE" CREATE_FLAG)
fi

[[ -n $ZONE ]] || die "$EX_USAGE" "--zone is missing, and $STATE remembers none: give one, such as --zone us-west4-a"
if [[ $COMMAND == create && -z $ACCELERATOR ]]; then
  die "$EX_USAGE" '--accelerator is missing: give a type, such as --accelerator v5litepod-16'
fi
if [[ -n $ACCELERATOR && -z $RUNTIME_VERSION ]]; then RUNTIME_VERSION=$(default_runtime "$ACCELERATOR"); fi
SPOT=${SPOT:-no} EXTRAS=${EXTRAS:-tpu,gcs}

case $COMMAND in
  create | resume | watch) WAIT_MINUTES=${WAIT_MINUTES:-60} ;;
  *) WAIT_MINUTES=${WAIT_MINUTES:-10} ;;
esac

case $COMMAND in
  install)
    SOURCE=${SOURCE:-$(dirname "$HERE")}
    if [[ $SOURCE =~ ^git\+[a-z]+://[^/]*:[^/]*@ ]]; then
      die "$EX_USAGE" '--source: a password in a URL would be stored; ship a local tree, or use a public URL'
    elif [[ ! -d $SOURCE && ! $SOURCE =~ ^git\+[a-z]+://[^[:space:]]+$ && ! $SOURCE =~ ^[0-9]+(\.[0-9a-z]+)+$ ]]; then
      die "$EX_USAGE" "--source ${SOURCE@Q}: expected a folder here, git+https://..., or a version such as 0.1.0"
    fi
    ;;
  resume | watch)
    for key in ACCELERATOR SOURCE; do
      [[ -n ${!key} ]] || die "$EX_USAGE" "$STATE remembers no $key: $NAME was not made and installed from this folder"
    done
    [[ -f $CONFIG_COPY ]] || die "$EX_USAGE" "no run of $NAME is remembered in $STATE_DIR: start one with run first"
    MAX_RESTARTS=$(recall "$STATE" MAX_RESTARTS)
    mapfile -t OVERRIDES < <(recall "$STATE" OVERRIDE)
    SAME=(--name "$NAME" --zone "$ZONE" --state-dir "$STATE_DIR" --wait-minutes "$WAIT_MINUTES")
    SAME+=(--retries "${RETRIES:-4}")
    if [[ -n $PROJECT ]]; then SAME+=(--project "$PROJECT"); fi
    for word in "${SSH_FLAGS[@]}"; do SAME+=("--gcloud-ssh-flag=$word"); done
    ;;
esac

if [[ $COMMAND == watch ]]; then RETRIES=${RETRIES:-60}; fi # outlives an outage of its own network
WHERE=(--zone="$ZONE")
if [[ -n $PROJECT ]]; then WHERE+=(--project="$PROJECT"); fi
need_tool gcloud 'install the Google Cloud CLI, https://cloud.google.com/sdk/docs/install, and run: gcloud auth login'
need_tool timeout 'install coreutils (macOS: brew install coreutils, and its gnubin folder on the PATH)'

"cmd_$COMMAND"
