#!/usr/bin/env bash
# Runs of selfevo on GKE as job sets, through xpk (https://github.com/AI-Hypercomputer/xpk): a cluster once, then as
# many runs as it has room for, each on one slice or several. `xpk.sh --help` lists the commands.
set -euo pipefail

PROGRAM=xpk.sh
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$HERE/lib.sh"

usage() {
  cat <<'END'
xpk.sh COMMAND --cluster CLUSTER --zone ZONE [OPTIONS]

  cluster-create   a GKE cluster with slices of one type
  run              a config as a workload: one job set, restarted after a preemption
  status           the workloads of the cluster
  stop             delete a workload; its pods get SIGTERM and time to save
  cluster-delete   the cluster with all in it; this ends the costs

Options of all:
  --cluster CLUSTER   its name
  --zone ZONE         such as us-west4-a
  --project PROJECT   default: gcloud's own
  --dry-run           print the command, ready to paste; call nothing

cluster-create:
  --tpu-type TYPE     such as v5litepod-16
  --num-slices N      (1)
  --spot              cheaper, may be taken away at any time; --on-demand is the default; or --reservation NAME

run [OPTIONS] CONFIG [KEY=VALUE ...]   (run_dir must be on gs://: a pod's disk is gone with it)
  --workload NAME     of the run
  --tpu-type TYPE     as the cluster's
  --num-slices N      (1); with more the mesh spans slices
  --docker-image IMAGE   with selfevo_jax installed; CONFIG is a path in it. Without, xpk builds an image from
  --script-dir DIR       a tree here (default: the one of this script) on
  --base-docker-image IMAGE   (python:3.12), and selfevo is installed when a pod starts; CONFIG is a path in the tree
  --max-restarts N    of the whole job set, after a preemption or exit code 75 (50)
  --grace-seconds N   for saving, between SIGTERM and the end of a pod (300)
  --priority LEVEL    very-low, low, medium, high or very-high (medium)

stop:
  --workload NAME

stop and cluster-delete ask; with --yes they do not.

Examples:
  launch/xpk.sh cluster-create --cluster evo --zone us-west4-a --tpu-type v5litepod-16 --num-slices 2 --spot
  launch/xpk.sh run --cluster evo --zone us-west4-a --tpu-type v5litepod-16 --num-slices 2 --workload self-1 \
    configs/quickstart.yaml run_dir=gs://my-bucket/self-1 rounds.number=5
  launch/xpk.sh stop --cluster evo --zone us-west4-a --workload self-1 --yes
  launch/xpk.sh cluster-delete --cluster evo --zone us-west4-a

Exit codes: 0 done, 2 wrong argument, 3 a tool is missing, 9 not confirmed; else that of xpk.
END
}

COMMAND=${1:-}
common='--cluster --zone --project --dry-run --help'
case $COMMAND in
  -h | --help | help) usage && exit ;;
  '') usage >&2 && exit "$EX_USAGE" ;;
  cluster-create) known="--tpu-type --num-slices --spot --on-demand --reservation" ;;
  run)
    known='--workload --tpu-type --num-slices --docker-image --base-docker-image --script-dir --max-restarts'
    known+=' --grace-seconds --priority'
    ;;
  status) known='' ;;
  stop) known='--workload --yes' ;;
  cluster-delete) known=--yes ;;
  *) die "$EX_USAGE" "no command ${COMMAND@Q}; $PROGRAM --help lists them" ;;
esac
known=" $common $known "
shift

CLUSTER='' ZONE='' PROJECT='' TPU_TYPE='' NUM_SLICES=1 CAPACITY=(--on-demand) WORKLOAD='' YES=no
DOCKER_IMAGE='' BASE_IMAGE=python:3.12 SCRIPT_DIR=$(dirname "$HERE") MAX_RESTARTS=50 GRACE_SECONDS=300 PRIORITY=medium
rest=()

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
  [[ $known == *" $option "* ]] || die "$EX_USAGE" "$COMMAND takes no ${option@Q}; $PROGRAM --help lists its options"
  case $option in
    --help) usage && exit ;;
    --dry-run) DRY_RUN=yes && continue ;;
    --spot) CAPACITY=(--spot) && continue ;;
    --on-demand) CAPACITY=(--on-demand) && continue ;;
    --yes) YES=yes && continue ;;
  esac
  (($#)) || die "$EX_USAGE" "$option needs a value; $PROGRAM --help has examples"
  case $option in
    --cluster) check_name "$option" "$1" && CLUSTER=$1 ;;
    --workload) check_name "$option" "$1" && WORKLOAD=$1 ;;
    --zone) check_zone "$option" "$1" && ZONE=$1 ;;
    --project) check_project "$option" "$1" && PROJECT=$1 ;;
    --tpu-type) check_accelerator "$option" "$1" && TPU_TYPE=$1 ;;
    --num-slices) check "$option" "$1" '[1-9][0-9]{0,3}' 'expected a whole number from 1' && NUM_SLICES=$1 ;;
    --max-restarts) check_count "$option" "$1" && MAX_RESTARTS=$1 ;;
    --grace-seconds) check_count "$option" "$1" && GRACE_SECONDS=$1 ;;
    --priority)
      check "$option" "$1" 'very-low|low|medium|high|very-high' 'expected very-low, low, medium, high or very-high'
      PRIORITY=$1
      ;;
    --reservation)
      check "$option" "$1" '[a-z][-a-z0-9/]*' 'expected the name of a reservation'
      CAPACITY=(--reservation="$1")
      ;;
    --docker-image | --base-docker-image)
      check "$option" "$1" '[a-z0-9][-a-zA-Z0-9._:/@]*' 'expected an image, such as us-docker.pkg.dev/PROJECT/REPO/evo'
      if [[ $option == --docker-image ]]; then DOCKER_IMAGE=$1; else BASE_IMAGE=$1; fi
      ;;
    --script-dir)
      [[ -d $1 ]] || die "$EX_USAGE" "$option ${1@Q}: no such folder here"
      SCRIPT_DIR=$(cd "$1" && pwd)
      ;;
  esac
  shift
done

need() { # OPTION VALUE EXAMPLE
  [[ -n $2 ]] || die "$EX_USAGE" "$1 is missing: give one, such as $1 $3"
}
need --cluster "$CLUSTER" evo
need --zone "$ZONE" us-west4-a
if [[ $known == *" --tpu-type "* ]]; then need --tpu-type "$TPU_TYPE" v5litepod-16; fi
if [[ $known == *" --workload "* ]]; then need --workload "$WORKLOAD" self-1; fi
if [[ $COMMAND == run ]]; then
  ((${#rest[@]})) || die "$EX_USAGE" 'CONFIG is missing: name a config file, such as configs/quickstart.yaml'
else
  ((${#rest[@]} == 0)) || die "$EX_USAGE" "$COMMAND takes no ${rest[0]@Q}; $PROGRAM --help has examples"
fi

WHERE=(--cluster="$CLUSTER" --zone="$ZONE")
if [[ -n $PROJECT ]]; then WHERE+=(--project="$PROJECT"); fi

xpk_call() {
  if [[ $DRY_RUN == yes ]]; then plan xpk "$@"; else exec xpk "$@"; fi
}

confirm() { # WHAT
  local answer=''
  if [[ $YES == yes || $DRY_RUN == yes ]]; then return; fi
  [[ -t 0 ]] || die "$EX_DECLINED" 'nobody is here to confirm: give --yes'
  read -r -p "Delete $1? (yes or no) " answer
  [[ $answer == yes ]] || die "$EX_DECLINED" 'not deleted'
}

run() {
  local config=${rest[0]} word run_dir='' command image
  for word in "${rest[@]:1}"; do
    check_override "$word"
    if [[ $word == run_dir=* ]]; then run_dir=${word#*=}; fi
  done
  [[ $run_dir == gs://?* ]] || die "$EX_USAGE" "run_dir ${run_dir@Q}: give run_dir=gs://BUCKET/RUN; a pod keeps nothing"
  # `exec`, so that the signal of a preemption reaches selfevo and not a shell before it
  command="exec selfevo evolve $(quoted "$config" "${rest[@]:1}")"
  if [[ -n $DOCKER_IMAGE ]]; then
    image=(--docker-image="$DOCKER_IMAGE")
  else
    [[ -f $SCRIPT_DIR/$config ]] || die "$EX_USAGE" "CONFIG ${config@Q}: not in $SCRIPT_DIR, which goes into the image"
    if [[ -d $SCRIPT_DIR/.venv ]]; then
      say "warning: xpk copies all of $SCRIPT_DIR into the image, .venv too; a fresh clone is smaller"
    fi
    image=(--base-docker-image="$BASE_IMAGE" --script-dir="$SCRIPT_DIR")
    command="pip install --quiet '.[tpu,gcs]' && $command"
  fi
  xpk_call workload create --workload="$WORKLOAD" "${WHERE[@]}" --tpu-type="$TPU_TYPE" --num-slices="$NUM_SLICES" \
    --priority="$PRIORITY" --max-restarts="$MAX_RESTARTS" --restart-on-exit-codes=75 \
    --termination-grace-period-seconds="$GRACE_SECONDS" "${image[@]}" --command="$command"
}

need_tool xpk 'install it with: pip install xpk (README.md says what else it needs)'
case $COMMAND in
  cluster-create)
    xpk_call cluster create "${WHERE[@]}" --tpu-type="$TPU_TYPE" --num-slices="$NUM_SLICES" "${CAPACITY[@]}"
    ;;
  run) run ;;
  status) xpk_call workload list "${WHERE[@]}" ;;
  stop)
    confirm "workload $WORKLOAD of $CLUSTER"
    xpk_call workload delete --workload="$WORKLOAD" "${WHERE[@]}" --force
    ;;
  cluster-delete)
    confirm "cluster $CLUSTER in $ZONE with all in it"
    xpk_call cluster delete "${WHERE[@]}" --force
    ;;
esac
