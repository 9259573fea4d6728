/* SPDX-License-Identifier: Apache-2.0 */
/* sendkey.c - "lodge sendkey": sends keys by their names. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cli/api_client.h"
#include "cli/cli.h"

void help_sendkey(void)
{
    puts("Usage: lodge sendkey NAME|SOCKET KEY...\n\n"
         "Presses keys on the machine's keyboard, one after the other, as fast as the guest takes them; those joined\n"
         "by - together: ctrl-alt-delete.  NAME is that of \"lodge run\", SOCKET the path given to --api-socket, with a\n"
         "slash in it.\n\n"
         "Keys: a to z, 0 to 9, f1 to f12, ret, esc, tab, spc, backspace, delete, insert, home, end, pgup, pgdn, up,\n"
         "down, left, right, shift, ctrl, alt (shift_r, ctrl_r, alt_r), meta_l, meta_r, menu, caps_lock,\n"
         "num_lock, scroll_lock, print, pause, minus, equal, comma, dot, slash, backslash, semicolon, apostrophe, grave_accent,\n"
         "bracket_left, bracket_right, less, kp_0 to kp_9, kp_add, kp_subtract, kp_multiply, kp_divide, kp_decimal,\n"
         "kp_enter.");
}

int cli_sendkey(int argc, char **argv)
{
    struct http_answer a;
    struct error err;

    if (argc < 3 || argv[1][0] == '-')
        return usage_error(
            "it is \"lodge sendkey NAME|SOCKET KEY...\", for example \"lodge sendkey vm ctrl-alt-delete\"");
    json_t *keys = json_array();
    for (int i = 2; i < argc; i++)
        if (json_array_append_new(keys, json_string(argv[i])))
            return usage_error("sendkey: a key's name is no UTF-8");
    const int r = api_call(argv[1], "PUT", "vm.send-key", json_pack("{s:o}", "keys", keys), 0, &a, &err);
    if (r) {
        log_error("%s", err.text);
        return api_exit(r, &a);
    }
    free(a.body);
    return STATUS_OK;
}
