/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - HTTP's status codes (RFC 9110, 15), and the two functions between them and our -errno.
 *
 * A failure crosses a socket as a status: the server makes it of a handler's -errno with http_status, the client makes it
 * an -errno again with http_errno.  Those of this table come back as they went:
 *
 *   EINVAL 400   EACCES 403   ENOENT 404   EALREADY 405   EBUSY 409   EMSGSIZE 413   EIO 500   EOPNOTSUPP 501   EAGAIN 503
 *   ETIMEDOUT 504
 *
 * What says the same to a client shares a line (EPERM: 403, EEXIST: 409, ECANCELED: 503 ...; status.c); every other is 500.
 */
#ifndef LODGE_HTTP_STATUS_H
#define LODGE_HTTP_STATUS_H

enum {
    HTTP_OK = 200,
    HTTP_ACCEPTED = 202,
    HTTP_NO_CONTENT = 204,
    HTTP_BAD_REQUEST = 400,
    HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404,
    HTTP_METHOD_NOT_ALLOWED = 405, /* also: what was asked for is so already (Cloud Hypervisor) */
    HTTP_CONFLICT = 409,
    HTTP_TOO_LARGE = 413,
    HTTP_INTERNAL_ERROR = 500,
    HTTP_NOT_IMPLEMENTED = 501,
    HTTP_UNAVAILABLE = 503,
    HTTP_GATEWAY_TIMEOUT = 504,
};

/* r: -errno. The status that a handler's failure is answered with. */
unsigned http_status(int r);
/* 0 below 400, else -errno: that of the table above; -EPROTO for a status that is not there, -EIO for one from 500 on. */
int http_errno(int status);

#endif
