#include "agent/enroll.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <stdio.h>
#include <time.h>

#include "base/log.h"

#define CERT_FILE      "cert.pem"
#define NEXT_CERT_FILE "next-cert.pem"
#define DEVICE_FILE    "device"
#define CERT_MAX       16384u
#define REPAIRS_MAX    8 // the longest chain of repairs is four

const char *enroll_state_text(enum enroll_state s)
{
    static const char *const text[ENROLL__COUNT] = {"new",         "keyed",        "ready",  "renewing", "trying",
                                                    "promote_key", "promote_cert", "orphan", "leftover"};
    return (unsigned)s < ENROLL__COUNT ? text[s] : "unknown";
}

enum enroll_state enroll_state_of(unsigned has)
{
    // Index: key 1, cert 2, next key 4, next cert 8.
    static const enum enroll_state states[16] = {
        ENROLL_NEW,         ENROLL_KEYED,        ENROLL_ORPHAN,      ENROLL_READY,        // --
        ENROLL_LEFTOVER,    ENROLL_LEFTOVER,     ENROLL_ORPHAN,      ENROLL_RENEWING,     // K-
        ENROLL_LEFTOVER,    ENROLL_PROMOTE_CERT, ENROLL_ORPHAN,      ENROLL_PROMOTE_CERT, // -C
        ENROLL_PROMOTE_KEY, ENROLL_PROMOTE_KEY,  ENROLL_PROMOTE_KEY, ENROLL_TRYING,       // KC
    };
    return states[has & 15u];
}

static void look(struct enroll *e)
{
    unsigned has = 0;
    has |= e->keys->ops->has(e->keys, KEY_CURRENT) ? ENROLL_HAS_KEY : 0;
    has |= statedir_has(e->dir, CERT_FILE) ? ENROLL_HAS_CERT : 0;
    has |= e->keys->ops->has(e->keys, KEY_NEXT) ? ENROLL_HAS_NEXT_KEY : 0;
    has |= statedir_has(e->dir, NEXT_CERT_FILE) ? ENROLL_HAS_NEXT_CERT : 0;
    e->state = enroll_state_of(has);
}

// ---- Certificates ---------------------------------------------------------------------------------------------------

static int64_t asn1_us(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : 0;
}

static X509 *parse_cert(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return cert;
}

// The certificate must hold the public key of `slot`: compared through a request made with it, so that a key that cannot leave its
// token works too.
static enum status check_cert(const struct enroll *e, enum key_slot slot, struct slice pem, struct err *err)
{
    X509 *cert = pem.len <= CERT_MAX ? parse_cert(pem) : NULL;
    if (cert == NULL) {
        return err_set(err, ST_INVALID, "the server's answer holds no certificate");
    }
    uint8_t mem[4096];
    struct buf csr = buf_fixed(mem, sizeof(mem));
    enum status s = e->keys->ops->csr(e->keys, slot, "", &csr, err);
    if (s == ST_OK) {
        BIO *bio = BIO_new_mem_buf(csr.p, (int)csr.len);
        X509_REQ *req = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
        EVP_PKEY *key = req != NULL ? X509_REQ_get0_pubkey(req) : NULL;
        if (key == NULL || EVP_PKEY_eq(key, X509_get0_pubkey(cert)) != 1) {
            s = err_set(err, ST_INVALID, "the certificate belongs to another key");
        }
        X509_REQ_free(req);
        BIO_free(bio);
        ERR_clear_error();
    }
    X509_free(cert);
    return s;
}

static enum status load_cert(struct enroll *e, struct err *err)
{
    uint8_t mem[CERT_MAX];
    struct buf pem = buf_fixed(mem, sizeof(mem));
    enum status s = statedir_read(e->dir, CERT_FILE, &pem, err);
    if (s != ST_OK) {
        return s;
    }
    X509 *cert = parse_cert(buf_view(&pem));
    if (cert == NULL) {
        return err_at(err, ST_CORRUPT, CERT_FILE, CERT_FILE " is not a certificate; remove it to enrol again");
    }
    e->valid_from_us = asn1_us(X509_get0_notBefore(cert));
    e->not_after_us = asn1_us(X509_get0_notAfter(cert));
    // Certificates are dated back a little, for clocks that are slow: their life with us began when we got them.
    int64_t written_us = statedir_written_us(e->dir, CERT_FILE);
    if (written_us > e->valid_from_us && written_us < e->not_after_us) {
        e->valid_from_us = written_us;
    }
    X509_free(cert);
    struct buf id = buf_fixed(mem, sizeof(e->device) - 1);
    s = statedir_read(e->dir, DEVICE_FILE, &id, err);
    if (s == ST_OK && !slice_to_cstr(buf_view(&id), e->device, sizeof(e->device))) {
        s = err_at(err, ST_CORRUPT, DEVICE_FILE, "the file " DEVICE_FILE " holds no device id");
    }
    return s;
}

// ---- Repairs --------------------------------------------------------------------------------------------------------

static enum status repair_make_key(struct enroll *e, struct err *err)
{
    return e->keys->ops->make(e->keys, KEY_CURRENT, err);
}
static enum status repair_promote_key(struct enroll *e, struct err *err)
{
    return e->keys->ops->promote(e->keys, err);
}
static enum status repair_promote_cert(struct enroll *e, struct err *err)
{
    return statedir_rename(e->dir, NEXT_CERT_FILE, CERT_FILE, err);
}
static enum status repair_orphan(struct enroll *e, struct err *err)
{
    log_warn("enroll", "the certificate has lost its private key; it is removed and the device enrols again");
    return statedir_remove(e->dir, CERT_FILE, err);
}
static enum status repair_leftover(struct enroll *e, struct err *err)
{
    enum status s = statedir_remove(e->dir, NEXT_CERT_FILE, err);
    return s == ST_OK ? e->keys->ops->remove(e->keys, KEY_NEXT, err) : s;
}

// States without a repair are where the agent may rest.
static enum status (*const repairs[ENROLL__COUNT])(struct enroll *e, struct err *err) = {
    [ENROLL_NEW] = repair_make_key,
    [ENROLL_PROMOTE_KEY] = repair_promote_key,
    [ENROLL_PROMOTE_CERT] = repair_promote_cert,
    [ENROLL_ORPHAN] = repair_orphan,
    [ENROLL_LEFTOVER] = repair_leftover,
};

static enum status settle(struct enroll *e, struct err *err)
{
    look(e);
    for (unsigned i = 0; repairs[e->state] != NULL; i++) {
        if (i == REPAIRS_MAX) {
            return err_set(err, ST_IO, "the files in %s do not change when they are written", e->dir->path);
        }
        enum status s = repairs[e->state](e, err);
        if (s != ST_OK) {
            return err_wrap(err, "enrolment state %s", enroll_state_text(e->state));
        }
        look(e);
    }
    if (e->state == ENROLL_KEYED) {
        e->device[0] = '\0';
        e->valid_from_us = e->not_after_us = 0;
        return ST_OK;
    }
    return load_cert(e, err);
}

// ---- Transitions ----------------------------------------------------------------------------------------------------

enum status enroll_open(struct enroll *e, const struct statedir *dir, const struct keys *keys, struct err *err)
{
    *e = (struct enroll){.dir = dir, .keys = keys};
    return settle(e, err);
}

static enum status expect(const struct enroll *e, enum enroll_state wanted, struct err *err)
{
    return e->state == wanted ? ST_OK
                              : err_set(err, ST_CONFLICT, "enrolment is in state %s, not %s",
                                        enroll_state_text(e->state), enroll_state_text(wanted));
}

enum status enroll_certified(struct enroll *e, const char *device, struct slice cert_pem, struct err *err)
{
    enum status s = expect(e, ENROLL_KEYED, err);
    if (s == ST_OK && (device[0] == '\0' || strlen(device) >= sizeof(e->device))) {
        s = err_set(err, ST_INVALID, "the server's answer holds no device id of 1 to 128 bytes");
    }
    s = s == ST_OK ? check_cert(e, KEY_CURRENT, cert_pem, err) : s;
    s = s == ST_OK ? statedir_write(e->dir, DEVICE_FILE, slice_str(device), 0644, err) : s;
    s = s == ST_OK ? statedir_write(e->dir, CERT_FILE, cert_pem, 0644, err) : s;
    return s == ST_OK ? settle(e, err) : s;
}

enum status enroll_forget(struct enroll *e, struct err *err)
{
    enum status s = expect(e, ENROLL_READY, err);
    s = s == ST_OK ? statedir_remove(e->dir, CERT_FILE, err) : s;
    return s == ST_OK ? settle(e, err) : s;
}

enum status enroll_renew(struct enroll *e, struct err *err)
{
    enum status s = expect(e, ENROLL_READY, err);
    s = s == ST_OK ? e->keys->ops->make(e->keys, KEY_NEXT, err) : s;
    return s == ST_OK ? settle(e, err) : s;
}

enum status enroll_renewed(struct enroll *e, struct slice cert_pem, struct err *err)
{
    enum status s = expect(e, ENROLL_RENEWING, err);
    s = s == ST_OK ? check_cert(e, KEY_NEXT, cert_pem, err) : s;
    s = s == ST_OK ? statedir_write(e->dir, NEXT_CERT_FILE, cert_pem, 0644, err) : s;
    return s == ST_OK ? settle(e, err) : s;
}

enum status enroll_confirm(struct enroll *e, struct err *err)
{
    enum status s = expect(e, ENROLL_TRYING, err);
    s = s == ST_OK ? e->keys->ops->promote(e->keys, err) : s;
    return s == ST_OK ? settle(e, err) : s;
}

enum status enroll_abandon(struct enroll *e, struct err *err)
{
    if (e->state != ENROLL_RENEWING && e->state != ENROLL_TRYING) {
        return expect(e, ENROLL_TRYING, err);
    }
    enum status s = repair_leftover(e, err);
    return s == ST_OK ? settle(e, err) : s;
}

int64_t enroll_renew_at_us(const struct enroll *e)
{
    return e->valid_from_us + (e->not_after_us - e->valid_from_us) / 3 * 2;
}

const char *enroll_cert_file(const struct enroll *e)
{
    return e->state == ENROLL_KEYED ? NULL : e->state == ENROLL_TRYING ? NEXT_CERT_FILE : CERT_FILE;
}

enum key_slot enroll_key_slot(const struct enroll *e)
{
    return e->state == ENROLL_TRYING ? KEY_NEXT : KEY_CURRENT;
}
