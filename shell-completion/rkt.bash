# bash completion for rkt: source <(rkt completion bash)
_rkt() {
  local -a words=() lines=()
  local rest=$COMP_LINE piece gap i
  # bash cuts words at = and :, too.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    piece=${COMP_WORDS[i]}
    if [[ -z $piece ]]; then gap=$rest; else gap=${rest%%"$piece"*}; fi
    rest=${rest#"$gap"}
    rest=${rest#"$piece"}
    if [[ $i -eq 0 || $gap == *[[:space:]]* ]]; then words+=("$piece"); else words[${#words[@]}-1]+=$piece; fi
  done
  local cur=${words[${#words[@]}-1]}
  mapfile -t lines < <("${words[0]}" completion words -- "${words[@]:1}" 2>/dev/null)
  # readline replaces only what is behind the last of these.
  local breaks= head=
  [[ $COMP_WORDBREAKS == *=* ]] && breaks+==
  [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
  [[ -n $breaks ]] && head=${cur%"${cur##*[$breaks]}"}
  local line path behind
  COMPREPLY=()
  for line in "${lines[@]:1}"; do
    line=${line%%$'\t'*}
    [[ $line == *= ]] && compopt -o nospace
    COMPREPLY+=("${line#"$head"}")
  done
  local -a kind=()
  case ${lines[0]} in
    files*) kind=(-f) ;;
    directories*) kind=(-d) ;;
    *) return ;;
  esac
  behind=${lines[0]#* }
  compopt -o filenames
  while IFS= read -r path; do
    path=$behind$path
    COMPREPLY+=("${path#"$head"}")
  done < <(compgen "${kind[@]}" -- "${cur#"$behind"}")
}
complete -F _rkt rkt
