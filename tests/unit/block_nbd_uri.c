/* SPDX-License-Identifier: Apache-2.0 */
/* block_nbd_uri.c - NBD URIs and what is read from them; what is none. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "block/nbd_uri.h"

TEST(uris)
{
    static const struct {
        const char *text;
        bool tls;
        const char *host, *port, *socket, *export, *user;
    } cases[] = {
        { "nbd://example.com", false, "example.com", "10809", "", "", "" },
        { "nbd://example.com:", false, "example.com", "10809", "", "", "" },
        { "nbd://example.com:4000/a%20name/below", false, "example.com", "4000", "", "a name/below", "" },
        { "nbd://[::1]:1/", false, "::1", "1", "", "", "" },
        { "nbd://[::1]", false, "::1", "10809", "", "", "" },
        { "nbds://me@[fe80::1]:22/x", true, "fe80::1", "22", "", "x", "me" },
        { "nbds://host/?tls-certificates=/k%2fp", true, "host", "10809", "", "", "" },
        { "nbd+unix:///?socket=/tmp/a%3fb", false, "", "10809", "/tmp/a?b", "", "" },
        { "nbd+unix:///export?socket=/tmp/s#rest", false, "", "10809", "/tmp/s", "export", "" },
        { "nbds+unix://me@/e?socket=s&tls-psk-file=/p", true, "", "10809", "s", "e", "me" },
    };

    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        struct nbd_uri u;
        CHECK_EQ(nbd_uri_parse(cases[i].text, &u), 0);
        CHECK_EQ(u.tls, cases[i].tls);
        CHECK_STR(u.host, cases[i].host);
        CHECK_STR(u.port, cases[i].port);
        CHECK_STR(u.socket, cases[i].socket);
        CHECK_STR(u.export, cases[i].export);
        CHECK_STR(u.user, cases[i].user);
    }
}

TEST(what_is_no_uri)
{
    static const char *const bad[] = {
        "nbd://", "nbd:///export", "nbd://host:port", "nbd://host:1234567", "nbd://[::1", "nbd://[::1]x", "nbd://ho%00st", "nbd://ho%2",
        "nbd://host/%zz", "nbd+unix://", "nbd+unix:///?socket=", "nbd://host/?socket=/tmp/s", "nbd://%",
    };
    static const char *const others[] = { "nbd+ssh://host/", "http://host/", "", "nbd:host:1", "nbd://host/?unknown=1" };
    struct nbd_uri u;

    for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
        if (nbd_uri_parse(bad[i], &u) != -EINVAL) {
            fprintf(stderr, "%s\n", bad[i]);
            CHECK(false);
        }
    for (u32 i = 0; i < ARRAY_SIZE(others); i++)
        CHECK_EQ(nbd_uri_parse(others[i], &u), -ENOTSUP);
}

/* Names that are longer than there is room, and each URI cut off anywhere: an answer, and nothing written beside. */
TEST(long_and_cut_off)
{
    static const char whole[] = "nbds://user@[fe80::1]:4000/ex%20port?tls-psk-file=/a%2fb&tls-certificates=/c#d";
    struct nbd_uri u;
    char *text = malloc(PATH_MAX * 2);

    for (size_t n = 0; n <= strlen(whole); n++) {
        char *cut = strndup(whole, n);
        REQUIRE(cut);
        const int r = nbd_uri_parse(cut, &u);
        CHECK(r == 0 || r == -EINVAL || r == -ENOTSUP);
        free(cut);
    }
    REQUIRE(text);
    static const char *const before[] = { "nbd://", "nbd://a@", "nbd://[", "nbd://h/", "nbd+unix:///?socket=", "nbds://h/?tls-psk-file=", "nbds://" };
    for (u32 i = 0; i < ARRAY_SIZE(before); i++) {
        const size_t n = strlen(before[i]);
        memcpy(text, before[i], n);
        memset(text + n, 'x', PATH_MAX);
        text[n + PATH_MAX] = 0;
        CHECK_EQ(nbd_uri_parse(text, &u), -EINVAL);
    }
    free(text);
}
