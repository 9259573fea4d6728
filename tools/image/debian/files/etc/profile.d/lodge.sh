# SPDX-License-Identifier: Apache-2.0
# A serial line has no size: the terminal's at the start of the machine comes with the kernel's command line, and
# "resize" asks the terminal.
case $(tty) in
/dev/ttyS0)
    resize()
    {
        local saved rows cols
        saved=$(stty -g)
        stty raw -echo
        printf '\0337\033[999;999H\033[6n\0338' # to the far corner; where is that?
        IFS='[;' read -r -t 2 -d R _ rows cols
        stty "$saved"
        [ -z "$cols" ] || stty rows "$rows" cols "$cols"
    }
    for word in $(cat /proc/cmdline); do
        case $word in
        lodge.tty=*x*)
            word=${word#*=}
            stty rows "${word%x*}" cols "${word#*x}"
            ;;
        esac
    done
    unset word
    [ ! -O /run/lodge/shell ] || echo here >/run/lodge/shell # late waits for it
    ;;
esac
