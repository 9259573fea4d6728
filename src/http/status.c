/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - see status.h. */
#include "http/status.h"

#include <errno.h>
#include <stddef.h>

#include "base/base.h"

/* The first line of a status says what the status means to a client. */
static const struct {
    int code;
    unsigned status;
} table[] = {
    { EINVAL, HTTP_BAD_REQUEST },
    { EACCES, HTTP_FORBIDDEN },
    { EPERM, HTTP_FORBIDDEN },
    { ENOENT, HTTP_NOT_FOUND },
    { EALREADY, HTTP_METHOD_NOT_ALLOWED },
    { EBUSY, HTTP_CONFLICT },
    { EEXIST, HTTP_CONFLICT },
    { EMSGSIZE, HTTP_TOO_LARGE },
    { EIO, HTTP_INTERNAL_ERROR },
    { EOPNOTSUPP, HTTP_NOT_IMPLEMENTED },
    { EAGAIN, HTTP_UNAVAILABLE },
    { ECANCELED, HTTP_UNAVAILABLE },
    { ETIMEDOUT, HTTP_GATEWAY_TIMEOUT },
};

unsigned http_status(int r)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].code == -r)
            return table[i].status;
    return HTTP_INTERNAL_ERROR;
}

int http_errno(int status)
{
    if (status < 400)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].status == (unsigned)status)
            return -table[i].code;
    return status < 500 ? -EPROTO : -EIO;
}
