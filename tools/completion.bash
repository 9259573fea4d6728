# SPDX-License-Identifier: Apache-2.0
# Completion of lodge(1) for bash; installed as share/bash-completion/completions/lodge.  Commands and options are those
# that "lodge help" lists, so that there is no second list to keep.

_lodge_names()
{
    local which
    for which; do
        ls "${XDG_DATA_HOME:-$HOME/.local/share}/lodge/$which" 2>/dev/null
    done
}

_lodge_words() # of "lodge help [COMMAND]": what stands at the beginning of its indented lines
{
    "${COMP_WORDS[0]}" help "$@" 2>/dev/null | sed -n 's/^  \([a-z-][a-z-]*\).*/\1/p'
}

_lodge_keys()
{
    "${COMP_WORDS[0]}" help sendkey 2>/dev/null | sed -n '/^Keys:/,$p' | grep -o '[a-z][a-z0-9_]*' | grep -v '^to$'
}

_lodge_offer()
{
    mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
}

_lodge_files()
{
    compopt -o filenames 2>/dev/null
    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$cur")
}

_lodge()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        _lodge_offer "$(_lodge_words)"
        return
    fi
    case $verb in
    help) _lodge_offer "$(_lodge_words)" ;;
    disk)
        [ "$COMP_CWORD" = 2 ] && _lodge_offer "$(_lodge_words disk)" || _lodge_files
        ;;
    image)
        case $COMP_CWORD:${COMP_WORDS[2]} in
        2:*) _lodge_offer build import ls rm ;;
        *:build) _lodge_offer debian --name --size --packages --force ;;
        *:import) _lodge_offer --name --format && _lodge_files ;;
        *:ls) _lodge_offer --json ;;
        *:rm) _lodge_offer "$(_lodge_names images vms)" --force --kept ;;
        esac
        ;;
    nmi | ssh | screenshot | screen | sendkey | type)
        case $COMP_CWORD:$verb in
        2:ssh) _lodge_offer "$(_lodge_names vms)" ;;
        2:*) _lodge_offer "$(_lodge_names vms)" && _lodge_files ;; # or a socket
        *:screenshot) _lodge_files ;;
        *:sendkey) _lodge_offer "$(_lodge_keys)" ;;
        *) _lodge_offer "$(_lodge_words "$verb")" ;;
        esac
        ;;
    media)
        case $COMP_CWORD in
        2) _lodge_offer "$(_lodge_names vms)" && _lodge_files ;;
        3) _lodge_offer cdrom0 cdrom1 cdrom2 cdrom3 floppy0 floppy1 ;;
        *) _lodge_offer none --force --readonly && _lodge_files ;;
        esac
        ;;
    cp)
        compopt -o nospace 2>/dev/null
        _lodge_offer "$(_lodge_names vms | sed 's/$/:/')"
        _lodge_files
        ;;
    run)
        case $prev in
        --engine) _lodge_offer auto kvm soft ;;
        --machine) _lodge_offer pc micro ;;
        --vga) _lodge_offer std none ;;
        --input) _lodge_offer keyboard tablet ;;
        --device) _lodge_offer testdev ;;
        --boot) _lodge_offer disk cdrom floppy net menu ;;
        --firmware) _lodge_offer bios uefi && _lodge_files ;;
        --keep) _lodge_offer "$(_lodge_names vms)" ;;
        --net) compopt -o nospace 2>/dev/null; _lodge_offer user tap: switch: none ;;
        --serial | --console | --parallel) compopt -o nospace 2>/dev/null; _lodge_offer stdio null file: unix: ;;
        --trace) _lodge_offer exec exceptions io mmio jit ;;
        --usb) compopt -o nospace 2>/dev/null; _lodge_offer tablet ;;
        --display) compopt -o nospace 2>/dev/null; _lodge_offer none vnc: vnc:127.0.0.1: vnc:unix: ;;
        --kernel | --initrd | --disk | --cdrom | --floppy | --share | --vsock | --api-socket) _lodge_files ;;
        --append | --balloon | --code-cache | --cpu | --cpus | --disk-size | --memory | --ssh-port) ;;
        *) _lodge_offer "$(_lodge_names images)" "$(_lodge_words run)" ;;
        esac
        ;;
    *) _lodge_offer "$(_lodge_words "$verb")" ;;
    esac
}
complete -F _lodge lodge
