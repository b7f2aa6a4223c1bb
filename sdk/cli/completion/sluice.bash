# bash completion for sluice(1) and sluiced(8): commands, flags, their words, and topic names asked of the daemon.
#
# Kept in step with the command by tests/sdk/cli/completion_test.py. Needs nothing but bash.

# Topic names, or nothing where no daemon answers quickly. _sluice_socket: the --socket on the line, if any.
_sluice_topics() {
  local socket=()
  [ -n "$_sluice_socket" ] && socket=(--socket "$_sluice_socket")
  timeout 2 "${COMP_WORDS[0]}" "${socket[@]}" topic list 2>/dev/null </dev/null |
    awk 'NR > 1 || !/^(TOPIC|no topics)/ { print $1 }'
}

_sluice_sessions() {
  local socket=()
  [ -n "$_sluice_socket" ] && socket=(--socket "$_sluice_socket")
  timeout 2 "${COMP_WORDS[0]}" "${socket[@]}" session list 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'
}

_sluice_groups() {
  local socket=()
  [ -n "$_sluice_socket" ] && socket=(--socket "$_sluice_socket")
  timeout 2 "${COMP_WORDS[0]}" "${socket[@]}" group list 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'
}

# The flags of a command ("topic create"), on one line.
_sluice_flags() {
  local retention="--retention-bytes --retention-time --message-ttl --overflow"
  local group="--ack-timeout --member-timeout --max-attempts --backoff --strict --hold"
  case "$1" in
    "topic create")
      echo "--partitions --durability --visibility --segment-size --slots $retention --claim-deadline --checksum --time" \
        "--publisher --consumer --mirror" ;;
    "topic scrub") echo "--partition --json" ;;
    "topic alter") echo "--partitions $retention --yes" ;;
    "topic list" | "topic describe" | audit | status | config | "session list") echo "--json" ;;
    "group list" | "group describe" | "dlq list" | "dlq purge" | "txn commit" | "txn rollback" | "txn recheck")
      echo "--json" ;;
    "txn show") echo "--messages --json" ;;
    "txn list") echo "--state --json" ;;
    "group create") echo "--mode $group" ;;
    "group alter") echo "$group --no-hold" ;;
    "group seek") echo "--topic --to --execute --force --json" ;;
    why) echo "--check --max-lag --max-age --json" ;;
    "dlq show") echo "--limit --after --json" ;;
    "dlq redrive") echo "--filter --rate --dry-run --json" ;;
    produce)
      echo "--key --key-delimiter --partition --tag --header --delay --deliver-at --expire --durability --producer" \
        "--file --rate --receipts --timeout" ;;
    consume)
      echo "--from --partition --group --mode --no-ack --count --exit --tag --format --json --timeout" ;;
    "msg show") echo "--payload --json" ;;
    doctor) echo "--json --quick" ;;
    top) echo "--interval --count" ;;
  esac
}

# The words that may follow a flag of a command.
_sluice_values() {
  case "$1 $2" in
    "produce --durability") echo "sync" ;;
    *" --durability") echo "volatile async sync" ;;
    *" --visibility") echo "committed durable" ;;
    *" --overflow") echo "block drop-oldest" ;;
    *" --checksum") echo "on off" ;;
    *" --time") echo "precise coarse none" ;;
    *" --claim-deadline" | *" --retention-bytes" | *" --retention-time" | *" --message-ttl") echo "none" ;;
    "consume --from" | "group seek --to") echo "earliest latest" ;;
    *" --mode") echo "ordered shared" ;;
    *" --strict") echo "key partition none" ;;
    "consume --group") _sluice_groups ;;
    "group seek --topic") _sluice_topics ;;
  esac
}

_sluice_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2"); }

_sluice() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command= i word arguments=0 _sluice_socket=
  COMPREPLY=()

  # The command and how many arguments stand before the cursor. A flag that takes a value takes the next word along.
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case "$word" in
      --socket) _sluice_socket=${COMP_WORDS[i + 1]-}; ((i++)) ;;
      --json | --exit | --receipts | --yes | --quick | --payload | --help | --version | -h) ;;
      --hold | --no-hold | --execute | --force | --check | --dry-run | --no-ack) ;;
      -*) ((i++)) ;;
      *)
        case "$command" in
          "") command=$word ;;
          topic | msg | session | group | dlq | txn) command="$command $word" ;;
          *) ((arguments++)) ;;
        esac ;;
    esac
  done

  case "$previous" in
    --mirror) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
    --socket | --file) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --json | --exit | --receipts | --yes | --quick | --payload) ;;
    --hold | --no-hold | --execute | --force | --check | --dry-run | --no-ack) ;;
    --*)
      _sluice_words "$(_sluice_values "$command" "$previous")" "$current"
      return ;;
  esac
  if [[ $current == -* ]]; then
    local global="--socket --help"
    [ -z "$command" ] && global="$global --version"
    _sluice_words "$(_sluice_flags "$command") $global" "$current"
    return
  fi
  case "$command" in
    "") _sluice_words "topic produce consume group why dlq txn audit msg status top doctor metrics config session" "$current" ;;
    topic) _sluice_words "create list describe alter delete recover scrub" "$current" ;;
    msg) _sluice_words "show" "$current" ;;
    group) _sluice_words "create alter list describe delete seek pause resume" "$current" ;;
    dlq) _sluice_words "list show redrive purge" "$current" ;;
    txn) _sluice_words "list show commit rollback recheck" "$current" ;;
    "group alter" | "group describe" | "group delete" | "group seek" | "group pause" | "group resume" | why | "dlq "*)
      [ "$arguments" -eq 0 ] && _sluice_words "$(_sluice_groups)" "$current" ;;
    session) _sluice_words "list kill" "$current" ;;
    consume) _sluice_words "$(_sluice_topics)" "$current" ;;
    "topic describe" | "topic alter" | "topic delete" | "topic recover" | "topic scrub" | produce | audit)
      [ "$arguments" -eq 0 ] && _sluice_words "$(_sluice_topics)" "$current" ;;
    "msg show")
      if [ "$arguments" -eq 0 ]; then
        mapfile -t COMPREPLY < <(compgen -S / -W "$(_sluice_topics)" -- "$current")
        compopt -o nospace 2>/dev/null
      fi ;;
    "session kill") [ "$arguments" -eq 0 ] && _sluice_words "$(_sluice_sessions)" "$current" ;;
  esac
}

_sluiced() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  case "$previous" in
    --config | --socket) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    --data-dir | --mirror | --accept-missing-mirror) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    --http) _sluice_words "off" "$current" ;;
    --log-level) _sluice_words "trace debug info warn error" "$current" ;;
    --memory-budget) _sluice_words "auto" "$current" ;;
    *)
      _sluice_words "--config --data-dir --mirror --accept-missing-mirror --socket --http --log-level --memory-budget
        --keeper --no-keeper --print-config --version --help" \
        "$current" ;;
  esac
}

complete -F _sluice sluice
complete -F _sluiced sluiced
