// Enrolment, renewal and import on a real store.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "domain/audit/audit.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define DAY_US ((int64_t)24 * 3600 * 1000000)

static struct testcore t;
static struct testid_auth a;
static char token[TESTID_TEXT];
static char csr[TESTCSR_MAX];

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_identity(&t), ST_OK);
    t.now_us = clock_wall_us();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

static void make_claim(int64_t uses)
{
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = uses, .ttl_us = DAY_US}, token, NULL), ST_OK);
}

static enum status run_write(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_write(tx, &d, &t.w, err) : st;
}

static json_t *show(const char *id)
{
    assert_int_equal(testcore_run(&t, run_write, (void *)(uintptr_t)id), ST_OK);
    return testcore_json(&t);
}

// --- enrolment ---------------------------------------------------------------------------------------------------

static void check_extension(X509 *x, int nid, bool critical)
{
    int is_critical = 0;
    void *ext = X509_get_ext_d2i(x, nid, &is_critical, NULL);
    assert_non_null(ext);
    assert_int_equal(is_critical == 1, critical);
    switch (nid) {
    case NID_basic_constraints:
        BASIC_CONSTRAINTS_free(ext);
        break;
    case NID_key_usage:
        ASN1_BIT_STRING_free(ext);
        break;
    case NID_subject_key_identifier:
        ASN1_OCTET_STRING_free(ext);
        break;
    default:
        AUTHORITY_KEYID_free(ext);
        break;
    }
}

static void the_certificate_is_as_promised(void **state)
{
    (void)state;
    static const char *const kinds[] = {"P-256", "P-384", "ED25519", "RSA-2048"};
    make_claim(10);
    for (size_t i = 0; i < 4; i++) {
        uint8_t sha256[SHA256_LEN];
        char cn[32], got[32];
        snprintf(cn, sizeof(cn), "dev-%zu", i);
        testcsr(kinds[i], cn, csr);
        assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
        X509 *x = testid_cert(&t, sha256);
        assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, got, sizeof(got)) > 0);
        assert_string_equal(got, cn);
        assert_int_equal(X509_check_ca(x), 0);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 1);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_SERVER, 0), 0);
        check_extension(x, NID_basic_constraints, true);
        check_extension(x, NID_key_usage, true);
        check_extension(x, NID_subject_key_identifier, false);
        check_extension(x, NID_authority_key_identifier, false);
        int days = 0, seconds = 0;
        assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(x), X509_get0_notAfter(x)), 1);
        assert_int_equal(days, 90);
        assert_int_equal(seconds, 300); // five minutes back for slow clocks
        assert_true(ASN1_STRING_length(X509_get_serialNumber(x)) >= 15);
        assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
        X509_free(x);
    }
}

static void the_longest_id_fits(void **state)
{
    (void)state;
    char id[ID_MAX + 1];
    uint8_t sha256[SHA256_LEN];
    memset(id, 'x', ID_MAX);
    id[ID_MAX] = '\0';
    make_claim(1);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, csr, id), ST_OK);
    testid_fingerprint(&t, sha256);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
    assert_string_equal(a.who.name, id);
}

static void ids_come_from_wish_name_or_thin_air(void **state)
{
    (void)state;
    make_claim(10);
    static const struct {
        const char *cn, *wish, *want;
    } cases[] = {{"by-cn", NULL, "by-cn"}, {"by-cn2", "by-wish", "by-wish"}, {NULL, "by-wish2", "by-wish2"}};
    for (size_t i = 0; i < 3; i++) {
        testcsr("P-256", cases[i].cn, csr);
        assert_int_equal(testid_enrol(&t, token, csr, cases[i].wish), ST_OK);
        json_t *doc = testcore_json(&t);
        assert_string_equal(json_string_value(json_object_get(doc, "device")), cases[i].want);
        json_decref(doc);
    }
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    json_t *doc = testcore_json(&t);
    assert_int_equal(strncmp(json_string_value(json_object_get(doc, "device")), "dev-", 4), 0);
    assert_int_equal(strlen(json_string_value(json_object_get(doc, "device"))), 20);
    json_decref(doc);
    testcsr("P-256", "not an id", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_INVALID);
    assert_int_equal(testid_enrol(&t, token, csr, "neither this"), ST_INVALID);
}

static void claims_describe_and_bound(void **state)
{
    (void)state;
    json_t *tags = testcore_doc("{'site':'berlin'}");
    json_t *desc = testcore_doc("{'model':'own','tags':{'site':'own','rack':'7'},'keys':{'serial':'S1'},'csr':'x'}");
    struct claim_conf conf = {
        .uses = 5, .ttl_us = DAY_US, .device_prefix = SLICE("bln-"), .model = SLICE("TH-20"), .tags = tags};
    assert_int_equal(testid_claim(&t, conf, token, NULL), ST_OK);
    testcsr("P-256", "bln-1", csr);
    struct testid_enrol e = {.t = &t, .token = token, .csr = csr, .desc = desc};
    assert_int_equal(testcore_run(&t, testid_run_enrol, &e), ST_OK);
    json_t *got = show("bln-1");
    json_t *want = testcore_doc("{'site':'berlin','rack':'7'}");
    assert_string_equal(json_string_value(json_object_get(got, "model")), "TH-20");
    assert_true(json_equal(json_object_get(got, "tags"), want));
    assert_string_equal(json_string_value(json_object_get(json_object_get(got, "keys"), "serial")), "S1");
    assert_string_equal(json_string_value(json_object_get(got, "state")), "registered");
    json_decref(got);
    json_decref(want);
    assert_int_equal(testid_enrol(&t, token, csr, "ham-1"), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "bln-"));
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK); // made up with the prefix
    // A description that is wrong is refused, and costs nothing.
    json_decref(desc);
    desc = testcore_doc("{'keys':{'serial':'S1'}}");
    e = (struct testid_enrol){.t = &t, .token = token, .csr = csr, .device = "bln-3", .desc = desc};
    assert_int_equal(testcore_run(&t, testid_run_enrol, &e), ST_EXISTS);
    json_decref(desc);
    json_decref(tags);
}

static void uses_are_counted(void **state)
{
    (void)state;
    make_claim(2);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, "rubbish", "d0"), ST_MALFORMED);
    assert_int_equal(testid_enrol(&t, token, csr, "d1"), ST_OK);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, csr, "d2"), ST_OK);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_enrol(&t, token, csr, "d3"), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "used up"));
    assert_int_equal(testcore_run(&t, run_write, "d3"), ST_NOT_FOUND);
}

// Power went before the device had stored the answer.
static void a_repeated_enrolment_costs_nothing(void **state)
{
    (void)state;
    uint8_t first[SHA256_LEN], again[SHA256_LEN];
    make_claim(1);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, first);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, again);
    assert_memory_equal(first, again, sizeof(first));
    // With another key it is another device's try.
    char other[TESTCSR_MAX];
    testcsr("P-256", "d1", other);
    assert_int_equal(testid_enrol(&t, token, other, NULL), ST_EXISTS);
    // And once the certificate is in use the answer is not given out again.
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, first), ST_OK);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_EXISTS);
}

static void devices_with_credentials_are_not_taken_over(void **state)
{
    (void)state;
    make_claim(10);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_device(&t, "{'id':'waiting','name':'Kitchen'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'with-token','access_token':'secret'}"), ST_OK);
    assert_int_equal(testid_enrol(&t, token, csr, "waiting"), ST_OK);
    json_t *got = show("waiting");
    assert_string_equal(json_string_value(json_object_get(got, "name")), "Kitchen");
    json_decref(got);
    assert_int_equal(testid_enrol(&t, token, csr, "with-token"), ST_EXISTS);
}

struct revoke {
    const uint8_t *sha256;
    const char *reason;
};

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    const struct revoke *r = arg;
    char hex[2 * SHA256_LEN + 1];
    struct buf b = buf_fixed(hex, sizeof(hex));
    assert_true(hex_encode(slice_make(r->sha256, SHA256_LEN), &b));
    return cert_revoke(tx, buf_view(&b), slice_str(r->reason), err);
}

// The claim a revoked device came in with does not bring it back; a new one does.
static void revoked_devices_need_a_new_claim(void **state)
{
    (void)state;
    uint8_t sha256[SHA256_LEN];
    make_claim(10);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, sha256);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
    t.now_us += 1000000;
    struct revoke r = {sha256, "lost"};
    assert_int_equal(testcore_run(&t, run_revoke, &r), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "revoked"));
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_FORBIDDEN);
    t.now_us += 1000000;
    make_claim(1);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, sha256);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
}

static void expired_certificates_need_a_new_claim(void **state)
{
    (void)state;
    char long_claim[TESTID_TEXT];
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 5, .ttl_us = 200 * DAY_US}, token, NULL), ST_OK);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    // Made while the certificate was good: younger than its issue, older than its end.
    t.now_us += DAY_US;
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 5, .ttl_us = 200 * DAY_US}, long_claim, NULL), ST_OK);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, long_claim, csr, NULL), ST_EXISTS);
    t.now_us += 90 * DAY_US;
    assert_int_equal(testid_enrol(&t, long_claim, csr, NULL), ST_FORBIDDEN);
    make_claim(1);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
}

static enum status run_revoke_token(struct tx *tx, void *arg, struct err *err)
{
    const char *const *ids = arg; // device, token
    struct device_ref d;
    enum status st = device_find(tx, slice_str(ids[0]), &d, err);
    return st == ST_OK ? device_token_revoke(tx, &d, slice_str(ids[1]), err) : st;
}

static enum status run_tokens(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_token_list(tx, &d, &t.w, err) : st;
}

// A revoked access token leaves no row, and still older claims do not bind its device.
static void revoked_tokens_need_a_new_claim(void **state)
{
    (void)state;
    char id[TESTID_TEXT];
    make_claim(10);
    t.now_us += 1000000;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_tokens, "d1"), ST_OK);
    json_t *doc = testcore_json(&t);
    testid_copy(json_array_get(json_object_get(doc, "items"), 0), "id", id);
    json_decref(doc);
    t.now_us += 1000000;
    char between[TESTID_TEXT]; // younger than the token, older than its revocation
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = DAY_US}, between, NULL), ST_OK);
    t.now_us += 1000000;
    const char *ids[] = {"d1", id};
    assert_int_equal(testcore_run(&t, run_revoke_token, ids), ST_OK);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_FORBIDDEN);
    assert_int_equal(testid_enrol(&t, between, csr, NULL), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "revoked"));
    t.now_us += 1000000;
    make_claim(1);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
}

static enum status run_state(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_set_state(tx, &d, DEVICE_SUSPENDED, -1, err) : st;
}

static void suspended_devices_do_not_enrol(void **state)
{
    (void)state;
    make_claim(3);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_device(&t, "{'id':'d1'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_state, "d1"), ST_OK);
    assert_int_equal(testid_enrol(&t, token, csr, "d1"), ST_FORBIDDEN);
    // Not even by repeating what was asked before.
    assert_int_equal(testid_enrol(&t, token, csr, "d2"), ST_OK);
    assert_int_equal(testcore_run(&t, run_state, "d2"), ST_OK);
    assert_int_equal(testid_enrol(&t, token, csr, "d2"), ST_FORBIDDEN);
}

static enum status run_enrol_as_me(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return identity_enroll(tx, slice_str(csr), SLICE("d1"), NULL, &t.w, err);
}

static void only_claims_enrol(void **state)
{
    (void)state;
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_enrol_as_me, NULL), ST_FORBIDDEN);
    t.who = (struct principal){.kind = WHO_DEVICE, .tenant = 1, .row = 1};
    assert_int_equal(testcore_run(&t, run_enrol_as_me, NULL), ST_FORBIDDEN);
}

// --- renewal -----------------------------------------------------------------------------------------------------

static enum status run_renew(struct tx *tx, void *arg, struct err *err)
{
    tx->who = &a.who;
    return identity_renew(tx, slice_str(arg), &t.w, err);
}

static void the_old_one_ends_when_the_new_one_is_used(void **state)
{
    (void)state;
    uint8_t old[SHA256_LEN], fresh[SHA256_LEN], again[SHA256_LEN];
    make_claim(1);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, old);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_OK);
    testcsr("P-256", "whatever it says", csr); // the name comes from the channel
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, fresh);
    json_t *doc = testcore_json(&t);
    assert_string_equal(json_string_value(json_object_get(doc, "device")), "d1");
    json_decref(doc);
    // The answer got lost: asking again gives the same.
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, again);
    assert_memory_equal(fresh, again, sizeof(fresh));
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, fresh), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "superseded"));
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, fresh), ST_OK);
}

static enum status run_audit(struct tx *tx, void *arg, struct err *err)
{
    const struct audit_filter f = {.action = slice_str(arg), .from_us = INT64_MIN, .to_us = INT64_MAX, .limit = 10};
    return audit_list(tx, &f, &t.w, err);
}

// The newest record of this action names the device and where it came from.
static void check_own_doing(const char *action)
{
    assert_int_equal(testcore_run(&t, run_audit, (void *)(uintptr_t)action), ST_OK);
    json_t *doc = testcore_json(&t);
    const json_t *row = json_array_get(json_object_get(doc, "items"), 0);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "actor_kind")), "device");
    assert_string_equal(json_string_value(json_object_get(row, "actor")), "d1");
    assert_string_equal(json_string_value(json_object_get(row, "address")), "192.0.2.60:2000");
    json_decref(doc);
}

static void coming_in_is_recorded_as_the_devices_doing(void **state)
{
    (void)state;
    uint8_t old[SHA256_LEN], fresh[SHA256_LEN];
    make_claim(1);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, old);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_OK);
    check_own_doing("device.state");
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, fresh);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, fresh), ST_OK);
    check_own_doing("cert.supersede");
}

static void an_unused_renewal_is_replaced_by_the_next(void **state)
{
    (void)state;
    uint8_t first[SHA256_LEN], second[SHA256_LEN];
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret", NULL), ST_OK);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, first);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, second);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, first), ST_FORBIDDEN);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, second), ST_OK);
}

static void renewals_have_a_limit(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret", NULL), ST_OK);
    for (int i = 0; i < 20; i++) {
        testcsr("P-256", NULL, csr);
        assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    }
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_LIMIT);
    t.now_us += DAY_US;
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
}

static void only_devices_renew(void **state)
{
    (void)state;
    a.who = t.who;
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_FORBIDDEN);
}

// --- certificates ------------------------------------------------------------------------------------------------

static enum status run_certs(struct tx *tx, void *arg, struct err *err)
{
    return cert_list(tx, arg, &t.w, err);
}

static size_t certs(struct cert_filter f)
{
    f.limit = 1000;
    assert_int_equal(testcore_run(&t, run_certs, &f), ST_OK);
    json_t *doc = testcore_json(&t);
    size_t n = json_array_size(json_object_get(doc, "items"));
    json_decref(doc);
    return n;
}

static enum status run_cert_get(struct tx *tx, void *arg, struct err *err)
{
    char hex[2 * SHA256_LEN + 1];
    struct buf b = buf_fixed(hex, sizeof(hex));
    assert_true(hex_encode(slice_make(arg, SHA256_LEN), &b));
    return cert_write(tx, buf_view(&b), &t.w, err);
}

static void a_superseded_one_can_be_revoked(void **state)
{
    (void)state;
    uint8_t old[SHA256_LEN], fresh[SHA256_LEN];
    make_claim(1);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, old);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_OK);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, fresh);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, fresh), ST_OK);
    struct revoke r = {old, "just in case"};
    assert_int_equal(testcore_run(&t, run_revoke, &r), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, old), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "revoked"));
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, fresh), ST_OK); // its successor lives on
    static const bool allowed[3][3] = {{0, 1, 1}, {0, 0, 1}, {0, 0, 0}};
    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            assert_int_equal(cert_state_may((enum cert_state)from, (enum cert_state)to), allowed[from][to]);
        }
    }
}

static void certificates_are_listed_and_revoked(void **state)
{
    (void)state;
    uint8_t sha256[SHA256_LEN];
    make_claim(5);
    for (int i = 0; i < 3; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        testcsr("P-256", id, csr);
        assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
        testid_fingerprint(&t, sha256);
    }
    struct revoke r = {sha256, "stolen"};
    assert_int_equal(certs((struct cert_filter){.state = -1}), 3);
    assert_int_equal(testcore_run(&t, run_revoke, &r), ST_OK);
    assert_int_equal(testcore_run(&t, run_revoke, &r), ST_OK); // again: no change
    assert_int_equal(certs((struct cert_filter){.state = CERT_ACTIVE}), 2);
    assert_int_equal(certs((struct cert_filter){.state = CERT_REVOKED}), 1);
    assert_int_equal(certs((struct cert_filter){.state = -1, .device = SLICE("d0")}), 1);
    assert_int_equal(certs((struct cert_filter){.state = CERT_REVOKED, .device = SLICE("d0")}), 0);
    assert_int_equal(testcore_run(&t, run_cert_get, sha256), ST_OK);
    json_t *doc = testcore_json(&t);
    assert_string_equal(json_string_value(json_object_get(doc, "reason")), "stolen");
    assert_string_equal(json_string_value(json_object_get(doc, "state")), "revoked");
    assert_non_null(strstr(json_string_value(json_object_get(doc, "pem")), "BEGIN CERTIFICATE"));
    json_decref(doc);
    // Another tenant sees and revokes nothing of it.
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(certs((struct cert_filter){.state = -1}), 0);
    assert_int_equal(testcore_run(&t, run_cert_get, sha256), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_revoke, &r), ST_NOT_FOUND);
}

// --- import ------------------------------------------------------------------------------------------------------

struct import {
    const char *text;
    enum provision_mode mode;
};

static enum status run_import(struct tx *tx, void *arg, struct err *err)
{
    const struct import *im = arg;
    return provision_import(tx, slice_str(im->text), im->mode, &t.w, err);
}

static json_t *import(const char *text, enum provision_mode mode)
{
    char copy[4096];
    size_t i = 0;
    for (; text[i] != '\0'; i++) {
        assert_true(i + 1 < sizeof(copy));
        copy[i] = text[i] == '\'' ? '"' : text[i];
    }
    copy[i] = '\0';
    struct import im = {copy, mode};
    assert_int_equal(testcore_run(&t, run_import, &im), ST_OK);
    return testcore_json(&t);
}

static const char *result(const json_t *doc, size_t i, const char *key)
{
    const char *s = json_string_value(json_object_get(json_array_get(json_object_get(doc, "results"), i), key));
    return s != NULL ? s : "";
}

static void each_line_on_its_own(void **state)
{
    (void)state;
    json_t *doc = import("{'id':'d1','access_token':'tok-1','tags':{'site':'a'}}\n"
                         "\n"
                         "{'id':'d1'}\r\n"
                         "not json\n"
                         "{'id':'d2','keys':{'serial':''}}\n"
                         "{'id':'d3','id':'d4'}\n"
                         "[1]\n"
                         "{'id':'d5','access_token':'tok-1'}\n"
                         "{'id':'d6'}",
                         PROVISION_CREATE);
    static const struct {
        int line;
        const char *id, *status, *code;
    } want[] = {
        {1, "d1", "created", ""},       {3, "d1", "failed", "exists"}, {4, "", "failed", "malformed"},
        {5, "d2", "failed", "invalid"}, {6, "", "failed", NULL},       {7, "", "failed", "invalid"},
        {8, "d5", "failed", "invalid"}, {9, "d6", "created", ""},
    };
    assert_int_equal(json_array_size(json_object_get(doc, "results")), 8);
    for (size_t i = 0; i < 8; i++) {
        const json_t *row = json_array_get(json_object_get(doc, "results"), i);
        assert_int_equal(json_integer_value(json_object_get(row, "line")), want[i].line);
        assert_string_equal(result(doc, i, "id"), want[i].id);
        assert_string_equal(result(doc, i, "status"), want[i].status);
        if (want[i].code != NULL) {
            assert_string_equal(result(doc, i, "code"), want[i].code);
        }
        assert_int_equal(json_is_null(json_object_get(row, "error")), strcmp(want[i].status, "created") == 0);
    }
    assert_non_null(strstr(result(doc, 3, "error"), "/keys/serial"));
    assert_non_null(strstr(result(doc, 6, "error"), "cannot be used")); // nothing of who has it
    assert_null(strstr(result(doc, 6, "error"), "d1"));
    assert_int_equal(json_integer_value(json_object_get(doc, "created")), 2);
    assert_int_equal(json_integer_value(json_object_get(doc, "failed")), 6);
    json_decref(doc);
    assert_int_equal(testid_auth(&t, &a, "d1", "tok-1", NULL), ST_OK);
    assert_int_equal(testcore_run(&t, run_write, "d5"), ST_NOT_FOUND); // its token clashed: no half device
    assert_int_equal(testcore_run(&t, run_write, "d4"), ST_NOT_FOUND);
}

static void upserts_change_what_is_there(void **state)
{
    (void)state;
    json_decref(import("{'id':'d1','name':'a','tags':{'x':'1'},'access_token':'tok-1'}", PROVISION_UPSERT));
    json_t *doc = import("{'id':'d1','name':'b','tags':{'y':'2'},'access_token':'tok-2'}\n"
                         "{'id':'d1','name':'b','access_token':'tok-2'}\n"
                         "{'id':'d2'}\n",
                         PROVISION_UPSERT);
    assert_string_equal(result(doc, 0, "status"), "updated");
    assert_string_equal(result(doc, 1, "status"), "unchanged");
    assert_string_equal(result(doc, 2, "status"), "created");
    json_decref(doc);
    json_t *got = show("d1");
    json_t *tags = testcore_doc("{'x':'1','y':'2'}");
    assert_true(json_equal(json_object_get(got, "tags"), tags));
    json_decref(got);
    json_decref(tags);
    assert_int_equal(testid_auth(&t, &a, "d1", "tok-1", NULL), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "tok-2", NULL), ST_OK);
}

static void imports_have_a_limit(void **state)
{
    (void)state;
    static char text[64 * (PROVISION_LINES_MAX + 1)];
    size_t n = 0;
    for (int i = 0; i < PROVISION_LINES_MAX; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"id\":\"d%d\"}\n", i);
    }
    struct import im = {text, PROVISION_CREATE};
    assert_int_equal(testcore_run(&t, run_import, &im), ST_OK);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == 'd' ? 'e' : *c; // "ie" is no member: every line fails, none but the last is over the limit
    }
    n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"id\":\"one-more\"}\n");
    assert_int_equal(testcore_run(&t, run_import, &im), ST_TOO_LARGE);
    assert_int_equal(testcore_run(&t, run_write, "one-more"), ST_NOT_FOUND);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_certificate_is_as_promised),
        TEST(the_longest_id_fits),
        TEST(ids_come_from_wish_name_or_thin_air),
        TEST(claims_describe_and_bound),
        TEST(uses_are_counted),
        TEST(a_repeated_enrolment_costs_nothing),
        TEST(devices_with_credentials_are_not_taken_over),
        TEST(revoked_devices_need_a_new_claim),
        TEST(expired_certificates_need_a_new_claim),
        TEST(revoked_tokens_need_a_new_claim),
        TEST(suspended_devices_do_not_enrol),
        TEST(only_claims_enrol),
        TEST(the_old_one_ends_when_the_new_one_is_used),
        TEST(coming_in_is_recorded_as_the_devices_doing),
        TEST(an_unused_renewal_is_replaced_by_the_next),
        TEST(renewals_have_a_limit),
        TEST(only_devices_renew),
        TEST(certificates_are_listed_and_revoked),
        TEST(a_superseded_one_can_be_revoked),
        TEST(each_line_on_its_own),
        TEST(upserts_change_what_is_there),
        TEST(imports_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
