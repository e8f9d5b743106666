// The server's own certificate: which names it must have, whether the present one still does, and making a new one.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "domain/identity/ca.h"
#include "domain/identity/x509.h"
#include "store/file.h"

#define DAY_US      ((int64_t)24 * 3600 * 1000000)
#define VALIDITY_US (DAY_US * 397) // the longest that common clients accept
#define RENEW_US    (DAY_US * 30)
#define BACKDATE_US ((int64_t)5 * 60 * 1000000)
#define NAMES_MAX   64
#define NAME_MAX_   253 // of a DNS name (RFC 1035)
#define FILE_MAX    65536

struct name_set {
    char names[NAMES_MAX][NAME_MAX_ + 1];
    size_t len;
};

// --- which names -------------------------------------------------------------------------------------------------

static bool name_valid(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
                  c == '_' || c == ':' || (c == '*' && i == 0);
        if (!ok) {
            return false;
        }
    }
    return n > 0 && n <= NAME_MAX_;
}

static void add(struct name_set *set, const char *name)
{
    if (set->len == NAMES_MAX || !name_valid(name)) {
        return;
    }
    for (size_t i = 0; i < set->len; i++) {
        if (strcmp(set->names[i], name) == 0) {
            return;
        }
    }
    (void)snprintf(set->names[set->len++], NAME_MAX_ + 1, "%s", name);
}

static void add_interfaces(struct name_set *set)
{
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0) {
        return;
    }
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (i->ifa_addr == NULL || (i->ifa_flags & IFF_UP) == 0) {
            continue;
        }
        if (i->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *a = (const struct sockaddr_in *)(const void *)i->ifa_addr;
            add(set, inet_ntop(AF_INET, &a->sin_addr, text, sizeof(text)) != NULL ? text : "");
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)(const void *)i->ifa_addr;
            bool usable = !IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr); // those need a zone, which no certificate has
            add(set, usable && inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof(text)) != NULL ? text : "");
        }
    }
    freeifaddrs(list);
}

static enum status collect(struct name_set *set, const char *const *names, size_t names_len, struct err *err)
{
    set->len = 0;
    add(set, "localhost");
    for (size_t i = 0; i < names_len; i++) {
        if (!name_valid(names[i])) {
            return err_set(err, ST_INVALID, "\"%s\" is neither a DNS name nor an IP address", names[i]);
        }
        add(set, names[i]);
    }
    char host[NAME_MAX_ + 1] = "";
    if (gethostname(host, sizeof(host) - 1) == 0) {
        add(set, host);
    }
    add(set, "127.0.0.1");
    add(set, "::1");
    add_interfaces(set);
    return ST_OK;
}

// --- names in certificates ---------------------------------------------------------------------------------------

static GENERAL_NAME *general_name(const char *name)
{
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
    ERR_clear_error();
    GENERAL_NAME *g = GENERAL_NAME_new();
    if (g == NULL) {
        ASN1_OCTET_STRING_free(ip);
        return NULL;
    }
    if (ip != NULL) {
        GENERAL_NAME_set0_value(g, GEN_IPADD, ip);
        return g;
    }
    ASN1_IA5STRING *dns = ASN1_IA5STRING_new();
    if (dns == NULL || ASN1_STRING_set(dns, name, -1) != 1) {
        ASN1_IA5STRING_free(dns);
        GENERAL_NAME_free(g);
        return NULL;
    }
    GENERAL_NAME_set0_value(g, GEN_DNS, dns);
    return g;
}

static bool add_alt_names(X509 *x, const struct name_set *set)
{
    GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < set->len; i++) {
        GENERAL_NAME *g = general_name(set->names[i]);
        ok = g != NULL && sk_GENERAL_NAME_push(all, g) > 0;
        if (!ok) {
            GENERAL_NAME_free(g);
        }
    }
    ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(all);
    return ok;
}

static bool has_name(GENERAL_NAMES *all, const char *name)
{
    GENERAL_NAME *g = general_name(name);
    bool found = false;
    for (int i = 0; g != NULL && !found && i < sk_GENERAL_NAME_num(all); i++) {
        found = GENERAL_NAME_cmp(g, sk_GENERAL_NAME_value(all, i)) == 0;
    }
    GENERAL_NAME_free(g);
    return found;
}

static bool has_names(X509 *x, const struct name_set *set)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < set->len; i++) {
        ok = has_name(all, set->names[i]);
    }
    GENERAL_NAMES_free(all);
    return ok;
}

// --- the files ---------------------------------------------------------------------------------------------------

struct server_files {
    char cert[PATH_MAX];
    char key[PATH_MAX];
};

// Why a new one is needed, or NULL. Whatever is wrong with the present files, new ones mend it; only files others may read
// are the operator's to look at (ret_st).
static const char *why_new(const struct ca *ca, const struct server_files *f, const struct name_set *set,
                           int64_t now_us, enum status *ret_st, struct err *err)
{
    struct buf cert_pem = buf_heap(FILE_MAX);
    struct buf key_pem = buf_heap(FILE_MAX);
    enum status cert_st = file_read(f->cert, false, &cert_pem, NULL);
    struct err key_err = {.code = ST_OK};
    enum status key_st = file_read(f->key, true, &key_pem, &key_err);
    X509_AUTO *x = cert_st == ST_OK ? x509_from_pem(buf_view(&cert_pem)) : NULL;
    PKEY_AUTO *key = key_st == ST_OK ? pkey_from_pem(buf_view(&key_pem)) : NULL;
    buf_release(&cert_pem);
    buf_wipe(&key_pem);
    *ret_st = key_st == ST_FORBIDDEN ? err_set(err, key_st, "%s", key_err.text) : ST_OK;
    const char *why = NULL;
    if (x == NULL || key == NULL) {
        why = "there is none";
    } else if (X509_verify(x, ca->key) != 1) {
        why = "the present one is of another authority";
    } else if (X509_check_private_key(x, key) != 1) {
        why = "the present one does not fit its key";
    } else if (x509_time_us(X509_get0_notAfter(x)) - now_us < RENEW_US) {
        why = "the present one ends soon";
    } else if (!has_names(x, set)) {
        why = "the present one lacks a name";
    }
    ERR_clear_error();
    return why;
}

static X509 *make_cert(const struct ca *ca, EVP_PKEY *key, const struct name_set *set, int64_t now_us)
{
    int64_t ca_end_us = x509_time_us(X509_get0_notAfter(ca->cert));
    int64_t end_us = now_us + VALIDITY_US < ca_end_us ? now_us + VALIDITY_US : ca_end_us;
    X509 *x = x509_new(key, "localhost", true, now_us - BACKDATE_US, end_us, NULL);
    bool ok = x != NULL && x509_extend(x, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
              x509_extend(x, ca->cert, NID_key_usage, "critical,digitalSignature") &&
              x509_extend(x, ca->cert, NID_ext_key_usage, "serverAuth") &&
              x509_extend(x, ca->cert, NID_subject_key_identifier, "hash") &&
              x509_extend(x, ca->cert, NID_authority_key_identifier, "keyid:always") && add_alt_names(x, set) &&
              x509_sign(x, ca->cert, ca->key);
    if (!ok) {
        X509_free(x);
        return NULL;
    }
    return x;
}

static enum status make(const struct ca *ca, const struct server_files *f, const struct name_set *set, int64_t now_us,
                        struct err *err)
{
    PKEY_AUTO *key = EVP_EC_gen("P-256");
    X509_AUTO *x = key != NULL ? make_cert(ca, key, set, now_us) : NULL;
    struct buf cert_pem = buf_heap(FILE_MAX);
    struct buf key_pem = buf_heap(FILE_MAX);
    enum status st = ST_OK;
    if (x == NULL || !x509_to_pem(x, &cert_pem) || !pkey_to_pem(key, &key_pem)) {
        st = x509_failed(err, "making the server's certificate");
    }
    if (st == ST_OK) {
        st = file_write(f->key, 0600, buf_view(&key_pem), err);
    }
    if (st == ST_OK) {
        st = file_write(f->cert, 0644, buf_view(&cert_pem), err);
    }
    buf_release(&cert_pem);
    buf_wipe(&key_pem);
    return st;
}

enum status ca_server(const struct ca *ca, const char *dir, const char *const *names, size_t names_len, int64_t now_us,
                      bool *ret_changed, struct err *err)
{
    struct server_files f;
    int a = snprintf(f.cert, sizeof(f.cert), "%s/server.pem", dir);
    int b = snprintf(f.key, sizeof(f.key), "%s/server.key", dir);
    if (a < 0 || b < 0 || a >= PATH_MAX || b >= PATH_MAX) {
        return err_set(err, ST_INVALID, "%s: too long", dir);
    }
    struct name_set *set = calloc(1, sizeof(*set));
    if (set == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    enum status st = collect(set, names, names_len, err);
    const char *why = st == ST_OK ? why_new(ca, &f, set, now_us, &st, err) : NULL;
    if (st == ST_OK && why != NULL) {
        st = make(ca, &f, set, now_us, err);
    }
    if (st == ST_OK && why != NULL) {
        log_info("identity", "new server certificate", LOGS("why", why), LOGU("names", set->len));
    }
    free(set);
    if (st == ST_OK) {
        *ret_changed = why != NULL;
    }
    return st;
}
