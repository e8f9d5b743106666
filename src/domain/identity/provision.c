#include "domain/identity/provision.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rand.h"
#include "core/member.h"
#include "domain/audit/audit.h"
#include "domain/doc/doc.h"
#include "domain/identity/identity_priv.h"

#define RENEWALS_PER_DAY 20
#define DAY_US           ((int64_t)24 * 3600 * 1000000)
#define LINE_DEPTH_MAX   (DEVICE_ATTRIBUTES_DEPTH + 1)

static inline void csr_cleanup(struct csr **c)
{
    csr_free(*c);
}
#define CSR __attribute__((cleanup(csr_cleanup))) struct csr

// --- a device with its access token ------------------------------------------------------------------------------

static enum status check_token(struct tx *tx, uint64_t device, struct slice token, bool *ret_add, struct err *err)
{
    *ret_add = false;
    if (token.p == NULL) {
        return ST_OK;
    }
    bool present = false;
    enum status st = device_token_check(tx, device, token, &present, err);
    *ret_add = st == ST_OK && !present;
    return st;
}

static enum status create(struct tx *tx, const json_t *desc, struct device_ref *ret, struct err *err)
{
    struct slice token = doc_str(desc, "access_token");
    bool add = false;
    enum status st = device_check(desc, err); // before a token of any form is hashed
    if (st == ST_OK) {
        st = check_token(tx, 0, token, &add, err);
    }
    if (st == ST_OK) {
        st = device_create(tx, desc, ret, err);
    }
    return st == ST_OK && add ? device_token_add(tx, ret, token, (struct slice){NULL, 0}, err) : st;
}

// The description without what a patch may not have.
static enum status patch_of(const json_t *desc, json_t **ret, struct err *err)
{
    json_t *patch = json_copy((json_t *)(uintptr_t)desc); // shallow: jansson only counts references
    if (patch == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    (void)json_object_del(patch, "id");
    (void)json_object_del(patch, "access_token");
    *ret = patch;
    return ST_OK;
}

static enum status upsert(struct tx *tx, const json_t *desc, struct device_ref *d, enum provision_result *ret_result,
                          struct err *err)
{
    DOC *patch = NULL;
    struct slice token = doc_str(desc, "access_token");
    bool add = false;
    bool changed = false;
    enum status st = device_check(desc, err);
    if (st == ST_OK) {
        st = check_token(tx, d->row, token, &add, err);
    }
    if (st == ST_OK) {
        st = patch_of(desc, &patch, err);
    }
    if (st == ST_OK) {
        st = device_update(tx, d, patch, -1, &changed, err);
    }
    if (st == ST_OK && add) {
        st = device_token_add(tx, d, token, (struct slice){NULL, 0}, err);
    }
    if (st == ST_OK) {
        *ret_result = changed || add ? PROVISION_UPDATED : PROVISION_UNCHANGED;
    }
    return st;
}

enum status provision_device(struct tx *tx, const json_t *desc, enum provision_mode mode, struct device_ref *ret,
                             enum provision_result *ret_result, struct err *err)
{
    struct slice id = doc_str(desc, "id");
    if (mode == PROVISION_UPSERT && id_valid(id)) {
        enum status st = device_find(tx, id, ret, NULL);
        if (st == ST_OK) {
            return upsert(tx, desc, ret, ret_result, err);
        }
        if (st != ST_NOT_FOUND) {
            return err_set(err, st, "the device's id could not be looked up");
        }
    }
    *ret_result = PROVISION_CREATED;
    return create(tx, desc, ret, err);
}

// --- import ------------------------------------------------------------------------------------------------------

struct import {
    struct tx *tx;
    enum provision_mode mode;
    struct jw *out;
    unsigned line;
    uint64_t counts[4]; // by enum provision_result; failed last
};
#define IMPORT_FAILED 3

static const char *const import_texts[] = {"created", "updated", "unchanged", "failed"};

// What concerns this line alone; anything else is the store's trouble and ends the import.
static bool lines_own(enum status st)
{
    return st == ST_INVALID || st == ST_MALFORMED || st == ST_TOO_LARGE || st == ST_EXISTS || st == ST_LIMIT;
}

static void write_result(struct import *im, struct slice id, unsigned result, enum status st, const struct err *why)
{
    im->counts[result]++;
    jw_object(im->out);
    jw_member_int(im->out, "line", im->line);
    jw_member_text(im->out, "id", id);
    jw_member_str(im->out, "status", import_texts[result]);
    jw_key(im->out, "code");
    jw_str(im->out, st != ST_OK ? status_text(st) : NULL);
    jw_key(im->out, "error");
    if (st == ST_OK) {
        jw_null(im->out);
    } else {
        char text[sizeof(why->where) + sizeof(why->text) + 3];
        (void)snprintf(text, sizeof(text), "%s%s%s", why->where, why->where[0] != '\0' ? ": " : "", why->text);
        jw_str(im->out, text);
    }
    jw_object_end(im->out);
}

static enum status import_line(struct import *im, struct slice text, struct err *err)
{
    DOC *desc = NULL;
    struct device_ref d;
    struct err why = {.code = ST_OK};
    enum provision_result result = PROVISION_UNCHANGED;
    enum status st = text.len <= PROVISION_LINE_MAX
                         ? doc_parse(text, LINE_DEPTH_MAX, &desc, &why)
                         : err_set(&why, ST_TOO_LARGE, "a line is at most %d bytes", PROVISION_LINE_MAX);
    if (st == ST_OK) {
        st = provision_device(im->tx, desc, im->mode, &d, &result, &why);
    }
    if (st != ST_OK && !lines_own(st)) {
        return err_set(err, st, "line %u: %s", im->line, why.text);
    }
    write_result(im, doc_str(desc, "id"), st == ST_OK ? (unsigned)result : IMPORT_FAILED, st, &why);
    return ST_OK;
}

static bool blank(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\r') {
            return false;
        }
    }
    return true;
}

// The text up to the next line feed; *rest goes on behind it.
static struct slice take_line(struct slice *rest)
{
    size_t len = 0;
    while (len < rest->len && rest->p[len] != '\n') {
        len++;
    }
    struct slice line = slice_head(*rest, len);
    *rest = slice_from(*rest, len + 1);
    return line;
}

static enum status import_lines(struct import *im, struct slice rest, struct err *err)
{
    unsigned done = 0;
    while (rest.len > 0) {
        struct slice text = take_line(&rest);
        im->line++;
        if (blank(text)) {
            continue;
        }
        if (done++ == PROVISION_LINES_MAX) {
            return err_set(err, ST_TOO_LARGE, "at most %d devices a call: send the rest in further calls",
                           PROVISION_LINES_MAX);
        }
        enum status st = import_line(im, text, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

enum status provision_import(struct tx *tx, struct slice ndjson, enum provision_mode mode, struct jw *out,
                             struct err *err)
{
    struct import im = {.tx = tx, .mode = mode, .out = out};
    jw_object(out);
    jw_key(out, "results");
    jw_array(out);
    enum status st = import_lines(&im, ndjson, err);
    if (st != ST_OK) {
        return st;
    }
    jw_array_end(out);
    for (unsigned i = 0; i < 4; i++) {
        jw_member_int(out, import_texts[i], (int64_t)im.counts[i]);
    }
    jw_object_end(out);
    return ST_OK;
}

// --- enrolment ---------------------------------------------------------------------------------------------------

// The id wished for: the caller's word, else the request's common name, else one we make.
static enum status choose_id(const struct csr *csr, struct slice wish, const struct claim *claim, char ret[ID_MAX + 1],
                             struct err *err)
{
    if (wish.len > 0) {
        if (!id_valid(wish) || !slice_to_cstr(wish, ret, ID_MAX + 1)) {
            return err_at(err, ST_INVALID, "/device", "a device id is 1 to %d characters of A-Z a-z 0-9 . _ : -",
                          ID_MAX);
        }
    } else {
        enum status st = csr_device(csr, ret, err);
        if (st != ST_OK) {
            return st;
        }
        if (ret[0] == '\0') {
            uint8_t random[8];
            char hex[2 * sizeof(random) + 1];
            struct buf b = buf_fixed(hex, sizeof(hex));
            rand_secret(random, sizeof(random));
            (void)hex_encode(slice_make(random, sizeof(random)), &b);
            int n =
                snprintf(ret, ID_MAX + 1, "%s%.*s", claim->prefix[0] != '\0' ? claim->prefix : "dev-", (int)b.len, hex);
            if (n > ID_MAX) {
                return err_at(err, ST_INVALID, "/device", "the claim's prefix leaves no room for an id: give one");
            }
        }
    }
    if (!slice_starts(slice_str(ret), slice_str(claim->prefix))) {
        return err_at(err, ST_FORBIDDEN, "/device", "the claim is for ids that begin with \"%s\"", claim->prefix);
    }
    return ST_OK;
}

// The new device's description: its own words, the claim's model and tags over them.
static enum status describe(const json_t *desc, const struct claim *claim, const char *id, json_t **ret,
                            struct err *err)
{
    static const char *const own[] = {"name", "model", "tags", "attributes", "keys"};
    json_t *out = json_object();
    bool ok = out != NULL && json_object_set_new(out, "id", json_string(id)) == 0;
    for (size_t i = 0; ok && i < sizeof(own) / sizeof(own[0]); i++) {
        json_t *v = json_object_get(desc, own[i]);
        ok = v == NULL || json_object_set_new(out, own[i], json_deep_copy(v)) == 0;
    }
    if (ok && claim->model[0] != '\0') {
        ok = json_object_set_new(out, "model", json_string(claim->model)) == 0;
    }
    if (ok && json_object_size(claim->tags) > 0) {
        json_t *tags = json_object_get(out, "tags");
        ok = json_is_object(tags) ? json_object_update(tags, claim->tags) == 0
                                  : json_object_set_new(out, "tags", json_deep_copy(claim->tags)) == 0;
    }
    if (!ok) {
        json_decref(out);
        return err_set(err, ST_NOMEM, "no memory");
    }
    *ret = out;
    return ST_OK;
}

// May this device, which exists, be bound to a new key by this claim?
static enum status check_bindable(struct tx *tx, const struct device_ref *d, const struct claim *claim, struct err *err)
{
    int64_t certs = 0;
    int64_t tokens = 0;
    int64_t cert_us = 0;
    int64_t token_us = 0; // of passwords too
    bool password = false;
    if (d->state == DEVICE_SUSPENDED || d->state == DEVICE_RETIRED) {
        return err_set(err, ST_FORBIDDEN, "device \"%s\" is %s", d->id, device_state_text(d->state));
    }
    enum status st = cert_usable_count(tx, d->row, &certs, err);
    if (st == ST_OK) {
        st = device_token_count(tx, d->row, &tokens, err);
    }
    if (st == ST_OK) {
        st = device_password_has(tx, d->row, &password, err);
    }
    if (st == ST_OK) {
        st = cert_last_event_us(tx, d->row, &cert_us, err);
    }
    if (st == ST_OK) {
        st = device_token_last_event_us(tx, d->row, &token_us, err);
    }
    if (st != ST_OK) {
        return st;
    }
    if (certs > 0 || tokens > 0 || password) {
        return err_set(err, ST_EXISTS, "device \"%s\" is enrolled already", d->id);
    }
    if (cert_us >= claim->created_us || token_us >= claim->created_us) {
        return err_set(err, ST_FORBIDDEN,
                       "device \"%s\" had a credential that was revoked or has ended: it needs a claim made after that",
                       d->id);
    }
    return ST_OK;
}

static enum status write_enrolled(const struct identity *id, const char *device, struct slice der, int64_t not_after_us,
                                  struct jw *out, struct err *err)
{
    BUF pem = buf_heap(4 * CERT_DER_MAX);
    if (!cert_der_to_pem(der, &pem)) {
        return err_set(err, ST_INTERNAL, "the certificate cannot be written as PEM");
    }
    jw_object(out);
    jw_member_str(out, "device", device);
    jw_member_text(out, "certificate", buf_view(&pem));
    jw_member_text(out, "ca", ca_pem(id->ca));
    jw_member_time(out, "not_after", not_after_us);
    jw_object_end(out);
    return ST_OK;
}

struct enrolment {
    struct tx *tx;
    const struct csr *csr;
    const struct claim *claim;
    const json_t *desc; // may be NULL
    const char *device;
    struct buf *der;
    int64_t not_after_us;
};

// A device that exists: the repetition of an enrolment, or a device that waits for its key.
static enum status bind_existing(struct enrolment *e, const struct device_ref *d, bool *ret_repeated, struct err *err)
{
    enum status st = cert_waiting(e->tx, e->csr, d->row, e->claim->row, e->der, &e->not_after_us, ret_repeated, err);
    if (st == ST_OK && *ret_repeated) {
        return d->state == DEVICE_SUSPENDED || d->state == DEVICE_RETIRED
                   ? err_set(err, ST_FORBIDDEN, "device \"%s\" is %s", d->id, device_state_text(d->state))
                   : ST_OK;
    }
    return st == ST_OK ? check_bindable(e->tx, d, e->claim, err) : st;
}

static enum status create_enrolled(struct enrolment *e, struct device_ref *ret, struct err *err)
{
    DOC *full = NULL;
    enum status st = describe(e->desc, e->claim, e->device, &full, err);
    return st == ST_OK ? device_create(e->tx, full, ret, err) : st;
}

static enum status enrol(struct enrolment *e, struct err *err)
{
    struct device_ref d;
    bool repeated = false;
    enum status st = device_find(e->tx, slice_str(e->device), &d, NULL);
    if (st == ST_OK) {
        st = bind_existing(e, &d, &repeated, err);
        if (st != ST_OK || repeated) {
            return st;
        }
        st = claim_use(e->tx, e->claim->row, err);
    } else if (st == ST_NOT_FOUND) {
        st = claim_use(e->tx, e->claim->row, err); // a used-up claim creates nothing
        if (st == ST_OK) {
            st = create_enrolled(e, &d, err);
        }
    } else {
        st = err_set(err, st, "the device's id could not be looked up");
    }
    return st == ST_OK ? cert_issue(e->tx, e->csr, &d, e->claim->row, 0, e->der, &e->not_after_us, err) : st;
}

static enum status load_claim(struct tx *tx, struct claim *ret, struct err *err)
{
    if (tx->who->kind != WHO_CLAIM) {
        return err_set(err, ST_FORBIDDEN, "enrolment needs a claim token");
    }
    enum status st = claim_load(tx, tx->who->row, ret, err);
    if (st == ST_OK && (ret->revoked || ret->expires_us <= tx->now_us)) {
        json_decref(ret->tags);
        ret->tags = NULL;
        st = err_set(err, ST_FORBIDDEN, "the claim is %s", ret->revoked ? "revoked" : "expired");
    }
    return st;
}

enum status identity_enroll(struct tx *tx, struct slice csr_pem, struct slice device, const json_t *desc,
                            struct jw *out, struct err *err)
{
    CSR *csr = NULL;
    struct claim claim = {.tags = NULL};
    char id[ID_MAX + 1] = "";
    BUF der = buf_heap(CERT_DER_MAX);
    enum status st = load_claim(tx, &claim, err);
    DOC *tags __attribute__((unused)) = claim.tags; // dropped at the end of scope
    if (st == ST_OK) {
        st = csr_parse(csr_pem, &csr, err);
    }
    if (st == ST_OK) {
        st = choose_id(csr, device, &claim, id, err);
    }
    struct enrolment e = {.tx = tx, .csr = csr, .claim = &claim, .desc = desc, .device = id, .der = &der};
    if (st == ST_OK) {
        st = enrol(&e, err);
    }
    return st == ST_OK ? write_enrolled(identity_of(tx->core), id, buf_view(&der), e.not_after_us, out, err) : st;
}

// --- renewal -----------------------------------------------------------------------------------------------------

static enum status check_renewable(struct tx *tx, const struct device_ref *d, struct err *err)
{
    int64_t n = 0;
    if (d->state == DEVICE_SUSPENDED || d->state == DEVICE_RETIRED) {
        return err_set(err, ST_FORBIDDEN, "device \"%s\" is %s", d->id, device_state_text(d->state));
    }
    enum status st = cert_recent_count(tx, d->row, tx->now_us - DAY_US, &n, err);
    if (st == ST_OK && n >= RENEWALS_PER_DAY) {
        st = err_set(err, ST_LIMIT, "a device gets at most %d certificates a day", RENEWALS_PER_DAY);
    }
    return st;
}

static enum status renew(struct tx *tx, const struct csr *csr, const struct device_ref *d, struct buf *der,
                         int64_t *ret_not_after_us, struct err *err)
{
    bool repeated = false;
    enum status st = cert_waiting(tx, csr, d->row, 0, der, ret_not_after_us, &repeated, err);
    if (st != ST_OK || repeated) {
        return st;
    }
    st = check_renewable(tx, d, err);
    if (st == ST_OK) {
        st = cert_end_unused(tx, d, err);
    }
    return st == ST_OK ? cert_issue(tx, csr, d, 0, tx->who->lineage, der, ret_not_after_us, err) : st;
}

enum status identity_renew(struct tx *tx, struct slice csr_pem, struct jw *out, struct err *err)
{
    CSR *csr = NULL;
    struct device_ref d;
    int64_t not_after_us = 0;
    BUF der = buf_heap(CERT_DER_MAX);
    if (tx->who->kind != WHO_DEVICE) {
        return err_set(err, ST_FORBIDDEN, "only a device renews its certificate");
    }
    enum status st = device_find_row(tx, tx->who->row, &d, err);
    if (st == ST_OK) {
        st = csr_parse(csr_pem, &csr, err);
    }
    if (st == ST_OK) {
        st = renew(tx, csr, &d, &der, &not_after_us, err);
    }
    return st == ST_OK ? write_enrolled(identity_of(tx->core), d.id, buf_view(&der), not_after_us, out, err) : st;
}
