// Does the time an answer takes tell a stranger anything (S56)? Welch's t over pairs of attempts that must cost the same: a token
// that is nearly right and one that is all wrong, a user that exists and one that does not, a tenant that exists and one that does
// not. The two kinds come in random order; the slowest tenth of all samples is left out, which is the machine's own doing.
//
// SAMPLES of each pair (5,000); `make soak` takes 100,000. A difference counts when it shows three times with the same sign: the
// probability that chance does that is far below one in a million, and whatever a stranger could use shows every time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "base/rand.h"
#include "domain/identity/device_password.h"
#include "domain/identity/operator.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define T_MAX    4.5
#define ROUNDS   3
#define KEPT_TEN 9 // tenths of the samples

static struct testcore t;

struct attempt {
    const char *username, *password;
};
static const struct {
    const char *name;
    struct attempt of[2];
} pairs[] = {
    {"token compare", {{"dev-1", "muster_d_0123456789abcdefX"}, {"dev-1", "QQQQQQQQQQQQQQQQQQQQQQQQQQ"}}},
    {"token alone", {{"muster_d_0123456789abcdefX", ""}, {"QQQQQQQQQQQQQQQQQQQQQQQQQQ", ""}}},
    {"user exists", {{"dev-1", "wrong password"}, {"dev-9", "wrong password"}}},
    {"tenant exists", {{"dev-1@acme", "wrong password"}, {"dev-1@none", "wrong password"}}},
    {"user of a tenant exists", {{"dev-2@acme", "wrong password"}, {"dev-9@acme", "wrong password"}}},
};
#define PAIRS (sizeof(pairs) / sizeof(pairs[0]))

// --- a store with a token, passwords, another tenant -------------------------------------------------------------

static enum status run_password(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_password_set(tx, &d, SLICE("a password"), &t.w, err) : st;
}

static enum status run_tenant(struct tx *tx, void *arg, struct err *err)
{
    return tenant_create(tx, slice_str(arg), &t.w, err);
}

static enum status run_tenant_row(struct tx *tx, void *arg, struct err *err)
{
    static const struct sql_def ask = {"test_tenant", "SELECT row FROM tenant WHERE id = 'acme'"};
    STMT(s, tx->db, &ask);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *(uint32_t *)arg = (uint32_t)col_i64(s, 0);
    return st;
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    t.who.perms = perms_all();
    assert_int_equal(testcore_identity(&t), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'dev-1','access_token':'muster_d_0123456789abcdef0'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_password, "dev-1"), ST_OK);
    assert_int_equal(testcore_run(&t, run_tenant, "acme"), ST_OK);
    uint32_t tenant = 0;
    assert_int_equal(testcore_run(&t, run_tenant_row, &tenant), ST_OK);
    t.who.tenant = tenant;
    assert_int_equal(testid_device(&t, "{'id':'dev-2'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_password, "dev-2"), ST_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

// --- measuring ---------------------------------------------------------------------------------------------------

struct sample {
    uint32_t ns;
    uint8_t of;
};
struct measuring {
    const struct attempt *of; // two
    struct sample *samples;
    size_t len;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint32_t one_ns(struct tx *tx, const struct attempt *a, struct err *err)
{
    struct device_login login = {.state = LOGIN_NONE};
    struct credential cred = {.username = slice_str(a->username),
                              .password = slice_str(a->password),
                              .peer_addr = SLICE("192.0.2.60:2000"),
                              .login = &login};
    struct principal who;
    struct device_ref d;
    uint64_t from = now_ns();
    enum status st = identity_authenticate(tx, &cred, &who, &d, err);
    uint64_t took = now_ns() - from;
    assert_int_equal(st, ST_UNAUTHENTICATED);
    return took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

static enum status run_measure(struct tx *tx, void *arg, struct err *err)
{
    struct measuring *m = arg;
    const struct principal system = principal_system();
    tx->who = &system;
    for (size_t i = 0; i < m->len; i++) {
        uint8_t of = rand_u64() & 1;
        m->samples[i] = (struct sample){one_ns(tx, &m->of[of], err), of};
    }
    return ST_OK;
}

static int by_ns(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static double root(double v) // of a positive number, by Newton
{
    double r = v > 1 ? v : 1;
    for (int i = 0; i < 200; i++) {
        r = (r + v / r) / 2;
    }
    return r;
}

static double welch_t(const struct sample *s, size_t len)
{
    double n[2] = {0}, sum[2] = {0}, sq[2] = {0};
    for (size_t i = 0; i < len; i++) {
        n[s[i].of] += 1;
        sum[s[i].of] += s[i].ns;
    }
    for (size_t i = 0; i < len; i++) {
        double off = s[i].ns - sum[s[i].of] / n[s[i].of];
        sq[s[i].of] += off * off;
    }
    double error = root(sq[0] / (n[0] - 1) / n[0] + sq[1] / (n[1] - 1) / n[1]);
    return (sum[0] / n[0] - sum[1] / n[1]) / error;
}

static size_t samples_wanted(void)
{
    const char *text = getenv("SAMPLES");
    long n = text != NULL ? strtol(text, NULL, 10) : 5000;
    return n >= 1000 ? (size_t)n : 1000;
}

static double measure(const struct attempt *of, size_t len)
{
    struct measuring m = {.of = of, .samples = calloc(len, sizeof(*m.samples)), .len = len};
    assert_non_null(m.samples);
    assert_int_equal(testcore_run(&t, run_measure, &m), ST_OK);
    qsort(m.samples, len, sizeof(*m.samples), by_ns);
    double v = welch_t(m.samples, len * KEPT_TEN / 10);
    free(m.samples);
    return v;
}

// --- the tests ---------------------------------------------------------------------------------------------------

static void time_tells_nothing(void **state)
{
    (void)state;
    size_t len = samples_wanted();
    for (size_t p = 0; p < PAIRS; p++) {
        int high = 0, low = 0;
        double v = 0;
        for (int i = 0; i < ROUNDS && (i == 0 || high == i || low == i); i++) {
            v = measure(pairs[p].of, len);
            high += v > T_MAX;
            low += v < -T_MAX;
            print_message("%s: t = %.2f of %zu samples\n", pairs[p].name, v, len);
        }
        if (high == ROUNDS || low == ROUNDS) {
            fail_msg("%s: the time tells it", pairs[p].name);
        }
    }
}

// That the measure finds a difference where there is one: half a hash more.
static void a_difference_would_be_found(void **state)
{
    (void)state;
    const struct attempt of[2] = {{"dev-1", "wrong password"}, {"dev-1", ""}}; // the second asks for no password
    double v = measure(of, 2000);
    print_message("a real difference: t = %.2f\n", v);
    assert_true(v > T_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_difference_would_be_found, setup, teardown),
        cmocka_unit_test_setup_teardown(time_tells_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
