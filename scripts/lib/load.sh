# shellcheck shell=bash
# Loads that take turns, and their figures. Sourced by scripts/bench; wants $root, $scratch and $seconds set, and build.sh.

# Names of loads, in the order of their turns, and what each is.
loads=()
declare -A load_url load_clients load_body load_pid

# add_load NAME SERVICE CLIENTS BODY [PID]: a load whose figures hold the CPU time of the process, if one is named.
add_load() {
  loads+=("$1")
  load_url[$1]=$2/v1/chat/completions load_clients[$1]=$3 load_body[$1]=$4 load_pid[$1]=${5:-}
}

question() { # fields beside the question
  jq -nc --argjson more "$1" '{
    model: "scripted",
    messages: [{role: "user", content: "Two trains 300 km apart drive towards each other at 80 and 70 km/h. Where do they meet?"}]
  } + $more'
}

run_wrk() { # name, seconds
  BENCH_BODY=${load_body[$1]} wrk -t1 -c"${load_clients[$1]}" -d"$2s" -s "$root/scripts/lib/bench.lua" "${load_url[$1]}" \
    | sed -n 's/^figures //p'
}

# Time that a process has spent on a CPU, in its own code and in the kernel for it, in microseconds.
cpu_us() { # pid
  local stat ticks
  stat=$(sed 's/.*) //' "/proc/$1/stat")
  ticks=$(awk '{ print $12 + $13 }' <<<"$stat")
  echo $((ticks * 1000000 / $(getconf CLK_TCK)))
}

warm_up() {
  local name
  for name in "${loads[@]}"; do run_wrk "$name" 1 >/dev/null; done
}

# Each load once: requests a second, p50 and p99 in µs, CPU µs a request (0 where no process is named).
run_loads() {
  local name rate p50 p99 failed before=0 after=0
  for name in "${loads[@]}"; do
    [ -z "${load_pid[$name]}" ] || before=$(cpu_us "${load_pid[$name]}")
    read -r rate p50 p99 failed < <(run_wrk "$name" "$seconds") || fail "no figures of the load $name"
    [ -z "${load_pid[$name]}" ] || after=$(cpu_us "${load_pid[$name]}")
    [ "$failed" = 0 ] || fail "$failed requests failed under the load $name"
    awk -v rate="$rate" -v p50="$p50" -v p99="$p99" -v used=$((after - before)) -v seconds="$seconds" \
      'BEGIN { print rate, p50, p99, used / (rate * seconds) }' >>"$scratch/figures.$name"
  done
}

# run_open NAME SERVICE RATE BODY: sends at random moments, whether or not there are answers, so that a pause of the
# service is seen by all who would have asked meanwhile.
run_open() {
  bench_native --bench open_loop -- "$2" "$3" "$seconds" "$4" | awk '{ print $1, $2, $3, 0 }' >>"$scratch/figures.$1" \
    || fail "requests failed under the load $1"
}

# of NAME: the figures of the load's median run, which is the one of the median rate; of an open loop, whose rate is
# given, that of the median p99.
of() {
  local key=1
  [[ $1 != *_open ]] || key=3
  sort -n -k"$key,$key" "$scratch/figures.$1" | awk '{ runs[NR] = $0 } END { print runs[int((NR + 1) / 2)] }'
}
