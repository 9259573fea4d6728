/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - HTTP's status codes (RFC 9110, 15), and the two functions that convert between them and our -errno.
 *
 * A failure crosses a socket as a status. The server makes the status from a handler's -errno with http_status. The
 * client makes it an -errno again with http_errno. The codes of this table come back unchanged:
 *
 *   EINVAL 400   EACCES 403   ENOENT 404   EALREADY 405   EBUSY 409   EMSGSIZE 413   EIO 500   EOPNOTSUPP 501   EAGAIN 503
 *   ETIMEDOUT 504
 *
 * Codes that mean the same to a client share a status (EPERM: 403, EEXIST: 409, ECANCELED: 503 ...; status.c). Every
 * other code is 500.
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
    HTTP_METHOD_NOT_ALLOWED = 405, /* also: the requested state already exists (Cloud Hypervisor) */
    HTTP_CONFLICT = 409,
    HTTP_TOO_LARGE = 413,
    HTTP_INTERNAL_ERROR = 500,
    HTTP_NOT_IMPLEMENTED = 501,
    HTTP_UNAVAILABLE = 503,
    HTTP_GATEWAY_TIMEOUT = 504,
};

/* r: -errno. Returns the status that answers a handler's failure. */
unsigned http_status(int r);
/* 0 below 400, else the -errno of the table above. A status that is not in the table gives -EPROTO, or -EIO from 500
   on. */
int http_errno(int status);

#endif
