# shellcheck shell=bash
# The sub-commands of tpu_vm.sh, which sources this file after lib.sh and sets NAME, ZONE and the other options.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$HERE/lib.sh"

# --- what there is ------------------------------------------------------------------------------------------------

describe() { # WORDS...: the value of a describe call, ABSENT when there is no such thing
  if gcloud_call capture "$CALL_SECONDS" "$@"; then
    FOUND=$GCLOUD_OUT
    if [[ -z $FOUND && $DRY_RUN == no ]]; then FOUND=UNKNOWN; fi
  elif gcloud_missing; then
    FOUND=ABSENT
  else
    gcloud_failed "looking up $NAME"
  fi
}

# Queue and node as one word, CONDITION: usable, waiting, lost (preempted, or failed: make it again), gone (no such
# request), leaving (being deleted), stopped (by a person). A dry run finds nothing: CONDITION is empty.
look() {
  NODE=- HEALTH=''
  describe compute tpus queued-resources describe "$NAME" "${WHERE[@]}" '--format=value(state.state)'
  QUEUE=$FOUND
  case $QUEUE in
    ACTIVE | '')
      describe compute tpus tpu-vm describe "$NAME" "${WHERE[@]}" '--format=value(state,health)'
      read -r NODE HEALTH <<<"$FOUND" || true
      case $NODE in
        '') CONDITION='' ;;
        READY) CONDITION=usable ;;
        PREEMPTED | TERMINATED | DELETING | ABSENT) CONDITION=lost ;;
        STOPPED) CONDITION=stopped ;;
        *) CONDITION=waiting ;; # such as CREATING, RESTARTING, REPAIRING
      esac
      ;;
    SUSPENDING | SUSPENDED | FAILED) CONDITION=lost ;;
    DELETING) CONDITION=leaving ;;
    ABSENT) CONDITION=gone ;;
    *) CONDITION=waiting ;; # such as CREATING, ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING
  esac
}

need_usable() {
  look
  case $CONDITION in
    usable | '') ;;
    lost) die "$EX_UNUSABLE" "$NAME is gone (queue $QUEUE, node $NODE): run resume" ;;
    stopped) die "$EX_UNUSABLE" "$NAME is stopped: gcloud compute tpus tpu-vm start $(quoted "$NAME" "${WHERE[@]}")" ;;
    *) die "$EX_UNUSABLE" "$NAME is not ready (queue $QUEUE, node $NODE): run create, which also waits" ;;
  esac
}

wait_until() { # CONDITION: waits for it WAIT_MINUTES at most; other ends of the wait are errors
  local limit last=''
  limit=$(seconds_of "$WAIT_MINUTES")
  note "again and again until it is $1, $WAIT_MINUTES minutes at most"
  SECONDS=0
  while true; do
    look
    case $CONDITION in
      "$1" | '') return ;;
      lost) if [[ $1 == usable ]]; then die "$EX_UNUSABLE" "$NAME failed (queue $QUEUE, node $NODE): run resume"; fi ;;
      gone) die "$EX_UNUSABLE" "$NAME is not there any more: somebody deleted it" ;;
      stopped) need_usable ;;
    esac
    if ((SECONDS >= limit)); then
      die "$EX_WAITED" "$NAME is still $QUEUE after $WAIT_MINUTES minutes, and the request stays:" \
        'run the same command again to wait on, or delete it'
    fi
    if [[ $QUEUE/$NODE != "$last" ]]; then say "$NAME: queue $QUEUE, node $NODE; waiting"; fi
    last=$QUEUE/$NODE
    sleep "$POLL_SECONDS"
  done
}

request() {
  local words=(compute tpus queued-resources create "$NAME" --node-id="$NAME" "${WHERE[@]}"
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME_VERSION")
  if [[ $SPOT == yes ]]; then words+=(--spot); fi
  gcloud_call capture "$CALL_SECONDS" "${words[@]}" "${CREATE_FLAGS[@]}" --quiet || {
    # a try whose answer was lost
    if [[ ${GCLOUD_ERR,,} != *"already exists"* ]]; then gcloud_failed "asking for $NAME"; fi
  }
  note 'asynchronous: this puts the request into the queue'
}

remove() { # with its nodes, and waits until both are gone
  if ! gcloud_call capture 1800 compute tpus queued-resources delete "$NAME" "${WHERE[@]}" --force --quiet; then
    gcloud_missing || gcloud_failed "deleting $NAME"
  fi
  wait_until gone
}

# --- the workers --------------------------------------------------------------------------------------------------

on_workers() { # MODE SECONDS WORKER WORDS...: runs the words there; their exit code, or gcloud's
  local mode=$1 limit=$2 which=$3
  shift 3
  gcloud_call "$mode" "$limit" compute tpus tpu-vm ssh "$NAME" "${WHERE[@]}" --worker="$which" --quiet \
    "${SSH_FLAGS[@]}" --command="$(quoted "$@")"
}

to_workers() { # FILES... TARGET, the target relative to the home folder
  gcloud_call capture 900 compute tpus tpu-vm scp "${@:1:$#-1}" "$NAME:${*: -1}" "${WHERE[@]}" --worker=all --quiet \
    "${SSH_FLAGS[@]}" || gcloud_failed "copying to the workers of $NAME"
}

remote=(bash selfevo/remote.sh)

# The code of remote.sh as one of ours.
worker_failed() { # CODE WHAT
  case $1 in
    41) printf '%s\n' "$GCLOUD_ERR" | grep 'error: ' >&2 || true ;;
    42 | 43 | 44 | 45) printf '%s\n' "$GCLOUD_ERR" >&2 ;;
    *) gcloud_failed "$2" ;;
  esac
  case $1 in
    41) die "$EX_RUNNING" "$2: a run is alive on $NAME; look with status, end it with stop" ;;
    45) die "$EX_WAITED" "$2: not all workers have saved yet; run stop again, or with --force lose what is unsaved" ;;
    *) die "$EX_WORKER" "$2 failed on a worker of $NAME" ;;
  esac
}

ask_workers() { # sets REPORT: a line for each worker, "HOST running PID RESTARTS" and the like; false if not reachable
  local code=0
  on_workers capture "$CALL_SECONDS" all "${remote[@]}" state "$NAME" || code=$?
  REPORT=$(printf '%s\n' "$GCLOUD_OUT" | sed -n 's/^selfevo-worker //p')
  if [[ $code == 127 ]]; then REPORT+=$'\n'"$NAME not-installed"; fi # not even remote.sh is there
  [[ $code == 0 || $code == 127 ]]
}

show_report() { if [[ -n $REPORT ]]; then printf 'worker  %s\n' "${REPORT//$'\n'/$'\n'worker  }"; fi; }

any_worker() { grep -qE "^[^ ]+ ($1)( |\$)" <<<"$REPORT"; } # PATTERN of states

# --- commands -----------------------------------------------------------------------------------------------------

keep_place() {
  remember "$STATE" ZONE "$ZONE"
  remember "$STATE" PROJECT "$PROJECT"
  remember "$STATE" SSH_FLAG "${SSH_FLAGS[@]}"
}

cmd_create() {
  look
  case $CONDITION in
    gone | '')
      keep_place
      remember "$STATE" ACCELERATOR "$ACCELERATOR"
      remember "$STATE" RUNTIME_VERSION "$RUNTIME_VERSION"
      remember "$STATE" SPOT "$SPOT"
      remember "$STATE" CREATE_FLAG "${CREATE_FLAGS[@]}"
      request
      ;;
    usable | waiting) say "$NAME was asked for already (queue $QUEUE, node $NODE)" ;;
    leaving) die "$EX_UNUSABLE" "$NAME is being deleted; try again in a minute" ;;
    *) need_usable ;;
  esac
  if [[ $WAIT_MINUTES != 0 ]]; then wait_until usable; fi
  say "next: $PROGRAM install --name $NAME"
}

pack() { # the local tree as committed, so that resume installs the same even when the tree goes on
  local folder changes
  [[ -d $SOURCE ]] || return 0
  need_tool git 'it packs the source'
  folder=$(cd "$SOURCE" && pwd)
  if [[ $DRY_RUN == yes ]]; then
    plan mkdir -p "$STATE_DIR"
    plan git -C "$folder" archive --format=tar.gz --output="$TARBALL" HEAD
    return
  fi
  remember "$STATE" SOURCE "$SOURCE" # makes the folder
  changes=$(git -C "$folder" status --porcelain 2>&1) ||
    die "$EX_USAGE" "--source $folder: not a git repository; give a git+https:// URL or a version instead"
  if [[ -n $changes ]]; then say "warning: $folder has uncommitted changes, and they are not shipped"; fi
  git -C "$folder" archive --format=tar.gz --output="$TARBALL" HEAD
}

install_on_workers() {
  local what files=("$HERE/remote.sh") code=0
  case $SOURCE in
    git+*) what="selfevo-jax[$EXTRAS] @ $SOURCE" ;;
    [0-9]*) what="selfevo-jax[$EXTRAS]==$SOURCE" ;;
    *) what=selfevo/$NAME.source.tar.gz files+=("$TARBALL") ;;
  esac
  on_workers capture "$CALL_SECONDS" all mkdir -p selfevo || gcloud_failed "reaching the workers of $NAME"
  to_workers "${files[@]}" selfevo/
  say "installing on all workers of $NAME (some minutes)"
  on_workers stream 3600 all "${remote[@]}" install "$NAME" "$what" "$EXTRAS" || code=$?
  if [[ $code != 0 ]]; then worker_failed "$code" install; fi
}

cmd_install() {
  need_usable
  keep_place
  pack
  install_on_workers
  remember "$STATE" SOURCE "$SOURCE"
  remember "$STATE" EXTRAS "$EXTRAS"
  say "next: $PROGRAM run --name $NAME CONFIG run_dir=gs://BUCKET/RUN"
}

start_on_workers() { # CONFIG_FILE
  local code=0
  to_workers "$1" "selfevo/$NAME.yaml"
  on_workers stream "$CALL_SECONDS" all "${remote[@]}" start "$NAME" "$(date +%s)-$$" "$MAX_RESTARTS" \
    "${OVERRIDES[@]}" || code=$?
  if [[ $code != 0 ]]; then worker_failed "$code" run; fi
}

warn_run_dir() {
  local run_dir word
  run_dir=$(sed -n 's/^run_dir:[[:space:]]*//p' "$CONFIG")
  for word in "${OVERRIDES[@]}"; do if [[ $word == run_dir=* ]]; then run_dir=${word#*=}; fi; done
  run_dir=${run_dir#[\"\']} run_dir=${run_dir%%[\"\']*} # YAML's quotes, and what stands behind them
  if [[ $run_dir == gs://* ]]; then return; fi
  if several_hosts "$ACCELERATOR"; then
    say "warning: run_dir ${run_dir@Q} is not on gs://, and each worker of $ACCELERATOR would keep another one"
  fi
  if [[ $SPOT == yes ]]; then say "warning: run_dir ${run_dir@Q} is not on gs:// and dies with a spot node"; fi
}

cmd_run() {
  [[ -f $CONFIG ]] || die "$EX_USAGE" "CONFIG ${CONFIG@Q}: no such file here; it is copied to the workers from here"
  if [[ -n $ACCELERATOR ]]; then warn_run_dir; fi
  need_usable
  ask_workers || gcloud_failed "reaching the workers of $NAME"
  if any_worker running; then worker_failed 41 run; fi # before any worker is started
  if any_worker not-installed; then die "$EX_WORKER" "selfevo is not on all workers of $NAME: run install"; fi
  keep_place
  remember "$STATE" CONFIG "$CONFIG"
  remember "$STATE" MAX_RESTARTS "$MAX_RESTARTS"
  remember "$STATE" OVERRIDE "${OVERRIDES[@]}"
  if [[ $DRY_RUN == no ]]; then cp "$CONFIG" "$CONFIG_COPY"; fi
  start_on_workers "$CONFIG"
  say "started; next: $PROGRAM logs --name $NAME, or $PROGRAM watch --name $NAME"
}

cmd_logs() {
  local prefix=no limit=$CALL_SECONDS code=0
  if [[ $WORKER == all ]]; then prefix=yes; fi
  if [[ $FOLLOW == yes ]]; then limit=0; fi # for as long as the run lasts
  on_workers stream "$limit" "$WORKER" "${remote[@]}" logs "$NAME" "$LINES_SHOWN" "$FOLLOW" "$prefix" || code=$?
  if [[ $code != 0 ]]; then worker_failed "$code" logs; fi
}

cmd_status() {
  look
  [[ $DRY_RUN == yes ]] || printf 'queue   %s\nnode    %s %s\n' "$QUEUE" "$NODE" "$HEALTH"
  case $CONDITION in
    usable | '')
      if ask_workers; then
        show_report
      else
        printf 'worker  not reachable: %s\n' "${GCLOUD_ERR##*$'\n'}"
      fi
      ;;
    waiting) ;;
    *) exit "$EX_UNUSABLE" ;;
  esac
}

cmd_resume() {
  local fresh=no # whether the workers are surely new
  look
  note 'when it was preempted, suspended or failed:'
  case $CONDITION in
    lost | '')
      say "$NAME is lost (queue $QUEUE, node $NODE): deleting and asking again"
      remove
      fresh=yes
      ;;
    gone) fresh=yes ;;
    leaving)
      wait_until gone
      fresh=yes
      ;;
    stopped) need_usable ;;
  esac
  if [[ $fresh == yes ]]; then request; fi
  wait_until usable
  note 'then, unless a run is alive:'
  if [[ $fresh == no ]]; then
    ask_workers || gcloud_failed "reaching the workers of $NAME"
    if any_worker running; then
      say "$NAME is running; there is nothing to resume"
      return
    fi
    if any_worker not-installed; then fresh=yes; fi
  fi
  if [[ $fresh == yes ]]; then install_on_workers; fi
  start_on_workers "$CONFIG_COPY"
  say "$NAME goes on where its run directory stands"
}

# What watch makes of the workers: running, done, stopped, failed or again.
verdict() {
  if any_worker 'exited' && grep -E '^[^ ]+ exited' <<<"$REPORT" | grep -qvE ' exited (0|75)( |$)| stopped$'; then
    echo failed
  elif any_worker running; then
    echo running
  elif grep -q ' stopped$' <<<"$REPORT"; then
    echo stopped
  elif [[ -n $REPORT ]] && ! grep -qvE '^[^ ]+ exited 0$' <<<"$REPORT"; then
    echo 'done'
  else
    echo again # preempted and saved, died, or a new node with nothing on it
  fi
}

cmd_watch() {
  local resumes=0 silent=0 want
  note "every $WATCH_SECONDS s; a lost node, or a run that ended in 75, is resumed, $MAX_RESUMES times at most:"
  while true; do
    look
    want='wait'
    case $CONDITION in
      '')
        ask_workers
        plan "$HERE/tpu_vm.sh" resume "${SAME[@]}"
        return
        ;;
      usable)
        if ask_workers; then
          silent=0
          want=$(verdict)
        elif ((++silent > 10)); then
          gcloud_failed "reaching the workers of $NAME"
        fi
        ;;
      lost) want=again ;;
      gone) die "$EX_UNUSABLE" "$NAME was deleted; resume would make it again" ;;
      stopped) need_usable ;;
    esac
    case $want in
      'done')
        say "the run of $NAME is complete; $PROGRAM delete --name $NAME ends the costs"
        return
        ;;
      stopped)
        say "the run of $NAME was stopped by a person; run or resume starts it again"
        return
        ;;
      failed)
        show_report >&2
        die "$EX_RUN_FAILED" "the run of $NAME ended with an error; see logs, then stop (others may hang) or delete"
        ;;
      again)
        if ((resumes >= MAX_RESUMES)); then
          die "$EX_UNUSABLE" "$NAME was resumed $resumes times and is lost again (queue $QUEUE, node $NODE)"
        fi
        resumes=$((resumes + 1))
        say "resume $resumes of $MAX_RESUMES"
        # a process of its own, so that its end is not ours: a full queue is no reason to stop watching
        "$HERE/tpu_vm.sh" resume "${SAME[@]}" || say "resume ended with code $?; looking again"
        ;;
    esac
    sleep "$WATCH_SECONDS"
  done
}

cmd_stop() {
  local seconds code=0
  seconds=$(seconds_of "$WAIT_MINUTES")
  say "asking the run of $NAME to save and end, $WAIT_MINUTES minutes at most"
  on_workers stream "$((seconds + CALL_SECONDS))" all "${remote[@]}" stop "$NAME" "$seconds" "$FORCE" || code=$?
  if [[ $code != 0 ]]; then worker_failed "$code" stop; fi
  say "stopped; the node goes on and costs: $PROGRAM delete --name $NAME"
}

cmd_delete() {
  local answer=''
  if [[ $YES == no && $DRY_RUN == no ]]; then
    [[ -t 0 ]] || die "$EX_DECLINED" 'nobody is here to confirm: give --yes'
    read -r -p "Delete $NAME in $ZONE with all its workers and their disks? Type its name: " answer
    [[ $answer == "$NAME" ]] || die "$EX_DECLINED" 'not deleted'
  fi
  look
  if [[ $CONDITION != gone ]]; then remove; fi
  if [[ $FORGET == yes ]]; then
    if [[ $DRY_RUN == yes ]]; then
      plan rm -f "$STATE" "$CONFIG_COPY" "$TARBALL"
    else
      rm -f "$STATE" "$CONFIG_COPY" "$TARBALL"
    fi
  fi
  say "$NAME is deleted; $([[ $FORGET == yes ]] || echo 'resume would make it again, ')what lies on gs:// stays"
}
