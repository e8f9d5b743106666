// Short ways to make devices, claims and certificates in unit tests. Include after testcore.h and testcsr.h.
#ifndef TESTS_LIB_TESTIDENTITY_H
#define TESTS_LIB_TESTIDENTITY_H

#include "domain/identity/cert.h"
#include "domain/identity/claim.h"
#include "domain/identity/device_token.h"
#include "domain/identity/provision.h"
#include "net/crypto.h"

#define TESTID_TEXT 512

static inline enum status testid_run_provision(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum provision_result result;
    return provision_device(tx, arg, PROVISION_CREATE, &d, &result, err);
}

static inline enum status testid_device(struct testcore *t, const char *desc)
{
    json_t *doc = testcore_doc(desc);
    enum status st = testcore_run(t, testid_run_provision, doc);
    json_decref(doc);
    return st;
}

struct testid_claim {
    struct testcore *t;
    const struct claim_conf *conf;
};

static inline enum status testid_run_claim(struct tx *tx, void *arg, struct err *err)
{
    const struct testid_claim *c = arg;
    return claim_create(tx, c->conf, &c->t->w, err);
}

static inline void testid_copy(const json_t *doc, const char *key, char *dst)
{
    const char *s = json_string_value(json_object_get(doc, key));
    snprintf(dst, TESTID_TEXT, "%s", s != NULL ? s : "");
}

// Makes a claim; copies its token and its id (may be NULL).
static inline enum status testid_claim(struct testcore *t, struct claim_conf conf, char token[TESTID_TEXT],
                                       char id[TESTID_TEXT])
{
    struct testid_claim c = {t, &conf};
    enum status st = testcore_run(t, testid_run_claim, &c);
    if (st == ST_OK) {
        json_t *doc = testcore_json(t);
        testid_copy(doc, "token", token);
        if (id != NULL) {
            testid_copy(doc, "id", id);
        }
        json_decref(doc);
    }
    return st;
}

struct testid_enrol {
    struct testcore *t;
    const char *token, *csr, *device, *addr;
    const json_t *desc;
};

static inline enum status testid_run_enrol(struct tx *tx, void *arg, struct err *err)
{
    const struct testid_enrol *e = arg;
    struct principal claim;
    struct slice addr = slice_str(e->addr != NULL ? e->addr : "192.0.2.50:1000");
    enum status st = identity_claim(tx, slice_str(e->token), addr, &claim, err);
    if (st != ST_OK) {
        return st;
    }
    tx->who = &claim;
    return identity_enroll(tx, slice_str(e->csr), slice_str(e->device), e->desc, &e->t->w, err);
}

// Enrols; the answer stays in t->out.
static inline enum status testid_enrol(struct testcore *t, const char *token, const char *csr, const char *device)
{
    struct testid_enrol e = {.t = t, .token = token, .csr = csr, .device = device};
    return testcore_run(t, testid_run_enrol, &e);
}

// The certificate in the answer of an enrolment or renewal, and its fingerprint.
static inline X509 *testid_cert(const struct testcore *t, uint8_t sha256[SHA256_LEN])
{
    json_t *doc = testcore_json(t);
    const char *pem = json_string_value(json_object_get(doc, "certificate"));
    assert_non_null(pem);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(x);
    unsigned char *der = NULL;
    int len = i2d_X509(x, &der);
    assert_true(len > 0);
    crypto_sha256(slice_make(der, (size_t)len), sha256);
    OPENSSL_free(der);
    BIO_free(bio);
    json_decref(doc);
    return x;
}

static inline void testid_fingerprint(const struct testcore *t, uint8_t sha256[SHA256_LEN])
{
    X509_free(testid_cert(t, sha256));
}

struct testid_auth {
    struct credential cred;
    struct principal who;
    struct device_ref device;
};

static inline enum status testid_run_auth(struct tx *tx, void *arg, struct err *err)
{
    struct testid_auth *a = arg;
    const struct principal system = principal_system();
    tx->who = &system;
    return identity_authenticate(tx, &a->cred, &a->who, &a->device, err);
}

// Authenticates; NULL is absent.
static inline enum status testid_auth(struct testcore *t, struct testid_auth *a, const char *username,
                                      const char *password, const uint8_t *cert)
{
    *a = (struct testid_auth){.cred = {.username = slice_str(username),
                                       .password = slice_str(password),
                                       .cert_sha256 = cert,
                                       .peer_addr = SLICE("192.0.2.60:2000")}};
    return testcore_run(t, testid_run_auth, a);
}

#endif
