# SPDX-License-Identifier: Apache-2.0
# Completion of lodge(1) for bash; installed as share/bash-completion/completions/lodge.

_lodge_names()
{
    local which
    for which; do
        ls "${XDG_DATA_HOME:-$HOME/.local/share}/lodge/$which" 2>/dev/null
    done
}

_lodge()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'run image ssh cp disk doctor help version' -- "$cur")
        return
    fi
    case ${COMP_WORDS[1]} in
    help)
        mapfile -t COMPREPLY < <(compgen -W 'run image ssh cp disk doctor help version' -- "$cur")
        return
        ;;
    doctor)
        mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$cur")
        return
        ;;
    disk)
        if [ "$COMP_CWORD" = 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W 'create info check convert resize commit rebase snapshot' -- "$cur")
        else
            compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
        ;;
    image)
        if [ "$COMP_CWORD" = 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W 'build import ls rm' -- "$cur")
        else
            case ${COMP_WORDS[2]} in
            build) mapfile -t COMPREPLY < <(compgen -W 'debian --name --size --packages --force' -- "$cur") ;;
            import) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -W --name -- "$cur") ;;
            ls) mapfile -t COMPREPLY < <(compgen -W --json -- "$cur") ;;
            rm) mapfile -t COMPREPLY < <(compgen -W "$(_lodge_names images vms) --force --kept" -- "$cur") ;;
            esac
        fi
        return
        ;;
    ssh)
        [ "$COMP_CWORD" != 2 ] || mapfile -t COMPREPLY < <(compgen -W "$(_lodge_names vms)" -- "$cur")
        return
        ;;
    cp)
        compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    run) ;;
    *) return ;;
    esac
    case $prev in
    --kernel | --initrd | --floppy) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    --engine) mapfile -t COMPREPLY < <(compgen -W 'auto kvm soft' -- "$cur") ;;
    --device) mapfile -t COMPREPLY < <(compgen -W 'testdev' -- "$cur") ;;
    --serial | --parallel) compopt -o nospace && mapfile -t COMPREPLY < <(compgen -W 'stdio null file: unix:' -- "$cur") ;;
    --trace) mapfile -t COMPREPLY < <(compgen -W 'exec exceptions io mmio jit' -- "$cur") ;;
    --cpu | --cpus | --memory | --append | --code-cache) ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W '--kernel --initrd --append --memory --code-cache --cpus --cpu --engine --serial --floppy --parallel
            --device --no-reboot --trace --stats --perf-map --quiet --help' -- "$cur")
        ;;
    esac
}
complete -F _lodge lodge
