# SPDX-License-Identifier: Apache-2.0
# Bash completion for novacron(1). It knows no command and no option: it asks the program, which asks nobody.

# The commands, one a line.
_novacron_commands()
{
  "$1" help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\( [a-z][a-z]*\)\{0,1\}\)  *[A-Z].*/\1/p'
}

# What the value of option $1 is called in the help text on stdin (FILE, NODE, ...); nothing if it has none.
_novacron_value()
{
  sed -n "s/^  *\(-.,  *\)\{0,1\}$1[= ]\([A-Za-z][A-Za-z:\/]*\)  *.*/\2/p" | head -n 1
}

# The words of the command line before the cursor that are no options; sets novacron_words, and novacron_help: the text that says which options
# there are, as far as the command is known.
_novacron_read()
{
  local i word commands=$2
  novacron_words=() novacron_help=$("$1" help 2>/dev/null)
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -* ]]; then
      [[ ${COMP_WORDS[i + 1]} == "=" ]] && ((i += 2)) && continue
      [[ -n $(_novacron_value "$word" <<<"$novacron_help") ]] && ((i++))
    else
      novacron_words+=("$word")
      if ((${#novacron_words[@]} <= 2)) && grep -qxF -- "${novacron_words[*]}" <<<"$commands"; then
        novacron_help=$("$1" "${novacron_words[@]}" --help-all 2>/dev/null)
      fi
    fi
  done
}

_novacron()
{
  local program=${COMP_WORDS[0]/#\~/$HOME} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local novacron_words novacron_help commands value
  COMPREPLY=()
  commands=$(_novacron_commands "$program")
  _novacron_read "$program" "$commands"
  if [[ $before == "=" ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  value=
  [[ $before == --* ]] && value=$(_novacron_value "$before" <<<"$novacron_help")
  if [[ $value == FILE || $value == PATH || $value == DIR ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  elif [[ -n $value ]]; then
    return 0
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  *\(-., *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p' <<<"$novacron_help")" -- "$word")
  else
    [[ ${novacron_words[0]} == help ]] && novacron_words=("${novacron_words[@]:1}")
    local typed=${novacron_words[*]}
    mapfile -t COMPREPLY < <(compgen -W "$(sed -n "s/^${typed:+$typed }\([a-z]*\).*/\1/p" <<<"$commands" | sort -u)" -- "$word")
    if ((${#COMPREPLY[@]} == 0)) && sed -n 2p <<<"$novacron_help" | grep -qw FILE; then
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
  fi
}

complete -F _novacron novacron
