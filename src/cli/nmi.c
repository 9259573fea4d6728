/* SPDX-License-Identifier: Apache-2.0 */
/* nmi.c - "lodge nmi": presses a machine's NMI button. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cli/api_client.h"
#include "cli/cli.h"

void help_nmi(void)
{
    puts("Usage: lodge nmi NAME|SOCKET\n\n"
         "Presses the machine's NMI button: an interrupt that a guest gets although it hangs with interrupts off.  What\n"
         "it makes of it is its own; Linux says so on its console, or panics, with kernel.unknown_nmi_panic=1.  NAME is\n"
         "that of \"lodge run\", SOCKET the path given to --api-socket, with a slash in it.");
}

int cli_nmi(int argc, char **argv)
{
    struct http_answer a;
    struct error err;

    if (argc != 2 || argv[1][0] == '-')
        return usage_error("it is \"lodge nmi NAME|SOCKET\"");
    const int r = api_call(argv[1], "PUT", "vm.nmi", NULL, API_PATIENCE_S, &a, &err);
    if (r) {
        log_error("%s", err.text);
        return api_exit(r, &a);
    }
    if (a.status == HTTP_ACCEPTED)
        log_warn("the guest masks NMIs (port 70h, bit 7): it gets this one when it lifts that");
    free(a.body);
    return STATUS_OK;
}
