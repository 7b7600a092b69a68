"""The completion of each shell, in its own language. It asks Goldsmith at each Tab; see answer.py."""

from __future__ import annotations

_BASH = r"""
_goldsmith_completion() {
    local kind answer
    mapfile -t answer < <(
        _GOLDSMITH_COMPLETE=bash "${1/#\~\//$HOME/}" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null
    )
    kind=${answer[0]%%$'\t'*}
    COMPREPLY=("${answer[@]:1}")
    case $kind in
    files) compopt -o default ;;
    folders) compopt -o dirnames ;;
    *) [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=,] ]] && compopt -o nospace ;;
    esac
    return 0
}
complete -o nosort -F _goldsmith_completion goldsmith
"""

# Descriptions are shown beside the words, in the order in which they are offered: builds come newest first.
_ZSH = r"""
#compdef goldsmith
_goldsmith() {
    local program line kind
    local -a answer offers
    program=${(Q)words[1]}
    program=${program/#\~\//$HOME/}
    answer=("${(@f)$(_GOLDSMITH_COMPLETE=zsh $program "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=${answer[1]%%$'\t'*}
    case $kind in
    files | folders)
        [[ $PREFIX == -*=* ]] && compset -P 1 '*='
        if [[ $kind == folders ]]; then _files -/; else _files; fi
        ;;
    words)
        for line in "${(@)answer[2,-1]}"; do
            [[ $line == *$'\t'* ]] && line="${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}" || line=${line//:/\\:}
            offers+=("$line")
        done
        _describe -V -t goldsmith 'goldsmith' offers
        ;;
    esac
}
if [[ ${funcstack[1]} == _goldsmith ]]; then
    _goldsmith "$@"
else
    (( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }
    compdef _goldsmith goldsmith
fi
"""

# Paths are those of a command that fish does not know.
_FISH = r"""
function __goldsmith_paths
    complete --do-complete "__goldsmith_paths_of_none $argv[1]" | string replace -r '\t.*' ''
end
function __goldsmith_offers
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l typed (string unescape -- $current; or echo -- $current)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l answer (_GOLDSMITH_COMPLETE=fish $program $words[2..-1] "$typed" 2>/dev/null)
    set -l kind (string split \t -- $answer[1])
    set -l path (string sub -s (math 1 + (string length -- "$kind[2]")) -- $current)
    switch "$kind[1]"
        case files
            printf "$kind[2]%s\n" (__goldsmith_paths $path)
        case folders
            printf "$kind[2]%s\n" (__goldsmith_paths $path | string match -r '.*/$')
        case words
            printf '%s\n' $answer[2..-1]
    end
end
complete --command goldsmith --no-files --keep-order --arguments '(__goldsmith_offers)'
"""

SHELL_SCRIPTS = {"bash": _BASH.lstrip(), "zsh": _ZSH.lstrip(), "fish": _FISH.lstrip()}
