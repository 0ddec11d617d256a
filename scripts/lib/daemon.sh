# shellcheck shell=bash
# Starts the daemon from a script, waits until it is ready, and stops it. Sourced, after machine.sh.

daemon_pid=""
daemon_url=""

# start_daemon PORT_FILE COMMAND…: runs the command in the background and returns once `/ready` says so.
# Sets daemon_pid and daemon_url. Fails when the daemon ends first, or is not ready within two minutes.
start_daemon() {
  local port_file=$1
  shift
  rm -f "$port_file"
  # A process group of its own: Ctrl-C then reaches this script alone, which stops the daemon with one signal. Two
  # would mean "at once" to it.
  set -m
  "$@" &
  daemon_pid=$!
  set +m
  local deadline=$((SECONDS + 120))
  until [ -s "$port_file" ] && daemon_url="http://127.0.0.1:$(cat "$port_file")" \
    && curl -fs -o /dev/null --max-time 5 "$daemon_url/ready"; do
    if ! kill -0 "$daemon_pid" 2>/dev/null; then
      local status=0
      wait "$daemon_pid" || status=$?
      daemon_pid=""
      fail "the daemon ended with status $status before it was ready: its reason is above"
    fi
    [ "$SECONDS" -lt "$deadline" ] || fail "the daemon was not ready after two minutes: ${daemon_url:-it did not open a port}"
    sleep 0.1 # the pause between two polls
  done
}

# Stops the daemon if it runs and returns its exit status.
stop_daemon() {
  [ -n "$daemon_pid" ] || return 0
  local pid=$daemon_pid status=0
  daemon_pid=""
  kill -TERM "$pid" 2>/dev/null || true
  wait "$pid" || status=$?
  return "$status"
}
