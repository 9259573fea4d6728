/* SPDX-License-Identifier: Apache-2.0 */
/* display_vnc_doors.c - who is let in to the screen's process: by a password, and by VeNCrypt with certificates. */
#include "vnc_rig.h"

#include <fcntl.h>
#include <gnutls/x509.h>

TEST(password)
{
    char file[] = "/tmp/lodge-password-XXXXXX", spec[128];
    struct client c;
    struct error err;
    int fd = mkstemp(file);
    REQUIRE(fd >= 0 && write(fd, "sesame\n", 7) == 7);
    snprintf(spec, sizeof spec, "127.0.0.1:0,password=%s", file);
    REQUIRE(start(spec));
    CHECK(!enter(&c, "wrong"));
    leave(&c);
    CHECK(!enter(&c, NULL));
    leave(&c);
    REQUIRE(enter(&c, "sesame"));
    CHECK(sees_it(&c));
    leave(&c);
    CHECK(web_socket());
    stop();

    static const struct {
        const char *spec, *says;
    } bad[] = {
        { "0.0.0.0:0", "give it a password" }, { "127.0.0.1:0,password=/nonexistent", "No such file" },
        { "127.0.0.1", "vnc:HOST:PORT" }, { "127.0.0.1:70000", "vnc:HOST:PORT" }, { "127.0.0.1:0,colour=1", "colour" },
        { "127.0.0.1:0,tls-creds=/nonexistent", "server-cert.pem" }, { "unix:/nonexistent/dir/socket", "No such file" },
    };
    struct loop *l = loop_new();
    struct display *d = display_new(l, &err);
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(!open_said(bad[i].spec, "", d, NULL, l, &err));
        if (!strstr(err.text, bad[i].says))
            test_fail(__FILE__, __LINE__, "%s: %s", bad[i].spec, err.text);
    }
    display_free(d);
    loop_free(l);
    unlink(file);
}

/* A self-signed certificate in dir. */
static bool make_certificate(const char *dir)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t out;
    char path[128];
    bool ok;
    if (gnutls_x509_privkey_init(&key) || gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, 256, 0) ||
        gnutls_x509_crt_init(&crt))
        return false;
    ok = !gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "lodge", 5) &&
         !gnutls_x509_crt_set_key(crt, key) && !gnutls_x509_crt_set_version(crt, 3) &&
         !gnutls_x509_crt_set_serial(crt, "\1", 1) && !gnutls_x509_crt_set_activation_time(crt, time(NULL) - 100) &&
         !gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 1000) &&
         !gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    for (int i = 0; i < 2 && ok; i++) {
        ok = !(i ? gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out)
                 : gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &out));
        snprintf(path, sizeof path, "%s/server-%s.pem", dir, i ? "key" : "cert");
        FILE *f = ok ? fopen(path, "w") : NULL;
        ok = f && fwrite(out.data, 1, out.size, f) == out.size && !fclose(f);
        gnutls_free(out.data);
    }
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return ok;
}

/* VeNCrypt, with subtype; false: not let in. */
static bool enter_tls(struct client *c, u32 subtype, gnutls_certificate_credentials_t cred, const char *password)
{
    u8 b[16];
    const u32 wanted = htonl(subtype);
    *c = (struct client){ .fd = dial() };
    if (!get(c, b, 12) || !put(c, "RFB 003.008\n", 12) || !get(c, b, 2) || b[0] != 1 || b[1] != 19 ||
        !put(c, "\x13", 1) || !get(c, b, 2) || !put(c, "\0\2", 2) || !get(c, b, 1) || b[0] || !get(c, b, 5) ||
        b[0] != 1 || !put(c, &wanted, 4) || !get(c, b, 1) || b[0] != 1)
        return false;
    gnutls_init(&c->tls, GNUTLS_CLIENT);
    gnutls_set_default_priority(c->tls);
    gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, cred);
    gnutls_transport_set_int(c->tls, c->fd);
    return !gnutls_handshake(c->tls) && log_in(c, password) && begin(c) && set_encodings(c);
}

TEST(tls)
{
    char dir[] = "/tmp/lodge-tls-XXXXXX", spec[256], path[128];
    gnutls_certificate_credentials_t cred;
    struct client c;
    REQUIRE(mkdtemp(dir) && make_certificate(dir));
    gnutls_certificate_allocate_credentials(&cred);
    snprintf(spec, sizeof spec, "127.0.0.1:0,tls-creds=%s", dir);
    REQUIRE(start(spec));
    draw(0, 0, 320, 200, 0x777777);
    CHECK(!enter(&c, NULL)); /* not without */
    leave(&c);
    CHECK(!enter_tls(&c, 261, cred, NULL)); /* what was not offered */
    leave(&c);
    REQUIRE(enter_tls(&c, 260, cred, NULL));
    CHECK(sees_it(&c));
    key(&c, 'a', true);
    CHECK(heard_is("+30 "));
    leave(&c);
    CHECK(heard_is("-30 "));
    stop();

    snprintf(path, sizeof path, "%s/password", dir);
    FILE *f = fopen(path, "w");
    REQUIRE(f && fputs("geheim", f) >= 0 && !fclose(f));
    snprintf(spec, sizeof spec, "127.0.0.1:0,tls-creds=%s,password=%s", dir, path);
    REQUIRE(start(spec));
    CHECK(!enter_tls(&c, 261, cred, "falsch"));
    leave(&c);
    REQUIRE(enter_tls(&c, 261, cred, "geheim"));
    CHECK(sees_it(&c));
    leave(&c);
    stop();
    gnutls_certificate_free_credentials(cred);
    const char *const name[] = { "password", "server-key.pem", "server-cert.pem" };
    for (u32 i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        CHECK(!unlink(path));
    }
    CHECK(!rmdir(dir));
}
