// SCRAM-SHA-256: parsing what the client says, proving that it knows the password, proving that we do.
#include "domain/identity/scram.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/rand.h"
#include "base/reader.h"
#include "base/utf8.h"

#define NONCE_BYTES 18                            // of ours: 24 characters
#define NONCE_MAX   256                           // of the client's
#define TEXT_MAX    (SCRAM_MESSAGE_MAX * 2 + 512) // AuthMessage without the client's final part
#define FINAL_MAX   (TEXT_MAX + SCRAM_MESSAGE_MAX)

struct scram {
    enum scram_state state;
    struct scram_verifier verifier;
    uint8_t name[SCRAM_NAME_MAX];
    uint8_t nonce[NONCE_MAX + NONCE_BYTES * 4 / 3]; // the client's, then ours
    uint8_t gs2[8];                                 // "n,," or "y,,": comes again in the last message
    uint8_t auth[TEXT_MAX];                         // client-first-message-bare "," server-first-message
    size_t name_len, nonce_len, client_nonce_len, gs2_len, auth_len;
};

// --- verifiers ---------------------------------------------------------------------------------------------------

static bool salted(struct slice password, const uint8_t salt[SCRAM_SALT_LEN], uint32_t iterations,
                   uint8_t ret[SHA256_LEN])
{
    return PKCS5_PBKDF2_HMAC((const char *)password.p, (int)password.len, salt, SCRAM_SALT_LEN, (int)iterations,
                             EVP_sha256(), SHA256_LEN, ret) == 1;
}

// RFC 5802 section 3: ClientKey, StoredKey, ServerKey.
static void keys_of(const uint8_t salted_password[SHA256_LEN], uint8_t stored[SHA256_LEN], uint8_t server[SHA256_LEN])
{
    uint8_t client[SHA256_LEN];
    struct slice key = slice_make(salted_password, SHA256_LEN);
    crypto_hmac_sha256(key, SLICE("Client Key"), client);
    crypto_sha256(slice_make(client, sizeof(client)), stored);
    crypto_hmac_sha256(key, SLICE("Server Key"), server);
    crypto_wipe(client, sizeof(client));
}

enum status scram_verifier_make(struct slice password, uint32_t iterations, struct scram_verifier *ret, struct err *err)
{
    uint8_t key[SHA256_LEN];
    struct scram_verifier v = {.iterations = iterations};
    if (password.len == 0 || password.len > SCRAM_PASSWORD_MAX) {
        return err_at(err, ST_INVALID, "/password", "a password has 1 to %d bytes", SCRAM_PASSWORD_MAX);
    }
    if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) {
        return err_set(err, ST_INVALID, "a password is hashed %d to %d times", SCRAM_ITERATIONS_MIN,
                       SCRAM_ITERATIONS_MAX);
    }
    rand_secret(v.salt, sizeof(v.salt));
    if (!salted(password, v.salt, iterations, key)) {
        return err_set(err, ST_NOMEM, "the password could not be hashed");
    }
    keys_of(key, v.stored_key, v.server_key);
    crypto_wipe(key, sizeof(key));
    *ret = v;
    return ST_OK;
}

void scram_verifier_fake(struct slice key, struct slice name, uint32_t iterations, struct scram_verifier *ret)
{
    uint8_t salt_key[SHA256_LEN];
    uint8_t hash[SHA256_LEN];
    struct buf salt = buf_fixed(ret->salt, sizeof(ret->salt));
    crypto_hmac_sha256(key, SLICE("muster scram salt"), salt_key);
    crypto_hmac_sha256(slice_make(salt_key, sizeof(salt_key)), name, hash);
    (void)buf_put(&salt, hash, SCRAM_SALT_LEN);
    ret->iterations = iterations;
    rand_secret(ret->stored_key, sizeof(ret->stored_key)); // the hash of no key that anybody has
    rand_secret(ret->server_key, sizeof(ret->server_key));
    crypto_wipe(salt_key, sizeof(salt_key));
}

bool scram_verifier_fits(const struct scram_verifier *v, struct slice password)
{
    uint8_t key[SHA256_LEN];
    uint8_t stored[SHA256_LEN];
    uint8_t server[SHA256_LEN];
    if (password.len == 0 || password.len > SCRAM_PASSWORD_MAX || !salted(password, v->salt, v->iterations, key)) {
        return false;
    }
    keys_of(key, stored, server);
    bool fits = crypto_equal(slice_make(stored, SHA256_LEN), slice_make(v->stored_key, SHA256_LEN));
    crypto_wipe(key, sizeof(key));
    crypto_wipe(server, sizeof(server));
    return fits;
}

// --- life --------------------------------------------------------------------------------------------------------

struct scram *scram_new(void)
{
    return calloc(1, sizeof(struct scram));
}

void scram_free(struct scram *s)
{
    if (s != NULL) {
        crypto_wipe(s, sizeof(*s));
        free(s);
    }
}

enum scram_state scram_state(const struct scram *s)
{
    return s->state;
}

struct slice scram_name(const struct scram *s)
{
    return slice_make(s->name, s->name_len);
}

static enum status fail(struct scram *s, struct err *err, enum status st, const char *why)
{
    s->state = SCRAM_FAILED;
    return err_set(err, st, "SCRAM: %s", why);
}

static enum status in_state(struct scram *s, enum scram_state want, struct err *err)
{
    return s->state == want ? ST_OK : fail(s, err, ST_PROTOCOL, "this step is not due now");
}

static size_t kept(uint8_t *dst, size_t room, struct slice text)
{
    struct buf b = buf_fixed(dst, room);
    return buf_slice(&b, text) ? text.len : 0;
}

// --- attributes --------------------------------------------------------------------------------------------------

// The next piece up to a comma, without it. False at the end.
static bool next_attribute(struct reader *r, struct slice *ret)
{
    struct reader look = *r;
    size_t len = 0;
    if (reader_left(r) == 0) {
        return false;
    }
    while (rd_peek(&look) >= 0 && rd_peek(&look) != ',') {
        (void)rd_u8(&look);
        len++;
    }
    *ret = rd_bytes(r, len);
    if (reader_left(r) > 0) {
        (void)rd_u8(r); // the comma
    }
    return true;
}

// An attribute with this letter: "r=..." gives what follows. It must be the next one.
static bool take_attribute(struct reader *r, uint8_t letter, struct slice *ret)
{
    const uint8_t prefix[2] = {letter, '='};
    struct slice a;
    if (!next_attribute(r, &a) || !slice_starts(a, slice_make(prefix, 2))) {
        return false;
    }
    *ret = slice_from(a, 2);
    return true;
}

// saslname (RFC 5802 section 5.1): "=2C" is a comma, "=3D" an equals sign, any other '=' is an error.
static bool unescape_name(struct slice text, struct buf *out)
{
    struct reader r = reader_make(text);
    while (reader_left(&r) > 0 && !out->failed) {
        uint8_t c = rd_u8(&r);
        if (c == '=') {
            struct slice code = rd_bytes(&r, 2);
            if (!slice_eq_str(code, "2C") && !slice_eq_str(code, "3D")) {
                return false;
            }
            c = slice_eq_str(code, "2C") ? ',' : '=';
        }
        (void)buf_u8(out, c);
    }
    return !out->failed && !r.failed;
}

// Printable ASCII without a comma.
static bool nonce_ok(struct slice nonce)
{
    for (size_t i = 0; i < nonce.len; i++) {
        if (nonce.p[i] < 0x21 || nonce.p[i] > 0x7e || nonce.p[i] == ',') {
            return false;
        }
    }
    return nonce.len > 0 && nonce.len <= NONCE_MAX;
}

// --- client-first-message ----------------------------------------------------------------------------------------

// gs2-header: whether the client wants channel binding, and as whom it wants to act.
static enum status read_gs2(struct scram *s, struct reader *r, struct err *err)
{
    struct slice flag;
    struct slice authzid;
    if (!next_attribute(r, &flag)) {
        return fail(s, err, ST_MALFORMED, "the message is empty");
    }
    if (slice_starts(flag, SLICE("p="))) {
        return fail(s, err, ST_UNSUPPORTED, "channel binding is not offered");
    }
    if (!slice_eq_str(flag, "n") && !slice_eq_str(flag, "y")) {
        return fail(s, err, ST_MALFORMED, "the message begins with \"n,\" or \"y,\"");
    }
    if (!next_attribute(r, &authzid) || authzid.len != 0) {
        return fail(s, err, ST_UNSUPPORTED, "nobody acts as somebody else");
    }
    struct buf gs2 = buf_fixed(s->gs2, sizeof(s->gs2));
    (void)buf_slice(&gs2, flag);
    (void)buf_str(&gs2, ",,");
    s->gs2_len = gs2.len;
    return ST_OK;
}

static enum status read_name(struct scram *s, struct reader *r, struct err *err)
{
    struct slice name;
    struct reader look = *r;
    struct slice first;
    if (next_attribute(&look, &first) && slice_starts(first, SLICE("m="))) {
        return fail(s, err, ST_UNSUPPORTED, "no extensions are known");
    }
    struct buf b = buf_fixed(s->name, sizeof(s->name));
    if (!take_attribute(r, 'n', &name) || !utf8_valid(name) || !unescape_name(name, &b) || b.len == 0) {
        return fail(s, err, ST_MALFORMED, "no valid user name");
    }
    s->name_len = b.len;
    return ST_OK;
}

enum status scram_first(struct scram *s, struct slice in, struct err *err)
{
    struct reader r = reader_make(in);
    struct slice nonce;
    enum status st = in_state(s, SCRAM_NEW, err);
    if (st == ST_OK && in.len > SCRAM_MESSAGE_MAX) {
        st = fail(s, err, ST_MALFORMED, "the message is too long");
    }
    if (st == ST_OK) {
        st = read_gs2(s, &r, err);
    }
    struct slice bare = slice_from(in, in.len - reader_left(&r));
    if (st == ST_OK) {
        st = read_name(s, &r, err);
    }
    if (st != ST_OK) {
        return st;
    }
    if (!take_attribute(&r, 'r', &nonce) || !nonce_ok(nonce)) {
        return fail(s, err, ST_MALFORMED, "no valid nonce");
    }
    s->client_nonce_len = s->nonce_len = kept(s->nonce, NONCE_MAX, nonce);
    s->auth_len = kept(s->auth, sizeof(s->auth), bare);
    s->state = SCRAM_NAMED;
    return ST_OK;
}

// --- server-first-message ----------------------------------------------------------------------------------------

static void add_nonce(struct scram *s)
{
    uint8_t ours[NONCE_BYTES];
    uint8_t text[NONCE_BYTES * 4 / 3];
    struct buf t = buf_fixed(text, sizeof(text));
    struct buf all = buf_fixed(s->nonce, sizeof(s->nonce));
    rand_secret(ours, sizeof(ours));
    (void)base64_encode(slice_make(ours, sizeof(ours)), &t); // no padding: 18 bytes; no comma in the alphabet
    buf_commit(&all, s->nonce_len);
    (void)buf_slice(&all, buf_view(&t));
    s->nonce_len = all.len;
}

enum status scram_challenge(struct scram *s, const struct scram_verifier *v, struct buf *out, struct err *err)
{
    enum status st = in_state(s, SCRAM_NAMED, err);
    if (st != ST_OK) {
        return st;
    }
    struct buf auth = buf_fixed(s->auth, sizeof(s->auth));
    buf_commit(&auth, s->auth_len);
    add_nonce(s);
    (void)buf_str(&auth, ",");
    size_t at = auth.len;
    (void)buf_str(&auth, "r=");
    (void)buf_slice(&auth, slice_make(s->nonce, s->nonce_len));
    (void)buf_str(&auth, ",s=");
    (void)base64_encode(slice_make(v->salt, sizeof(v->salt)), &auth);
    (void)buf_printf(&auth, ",i=%u", (unsigned)v->iterations);
    if (auth.failed || !buf_slice(out, slice_from(buf_view(&auth), at))) {
        return fail(s, err, ST_NOMEM, "no room for the challenge");
    }
    s->auth_len = auth.len;
    s->verifier = *v;
    s->state = SCRAM_CHALLENGED;
    return ST_OK;
}

// --- client-final-message ----------------------------------------------------------------------------------------

struct final_message {
    struct slice without_proof;
    uint8_t proof[SHA256_LEN];
};

static enum status read_final(struct scram *s, struct slice in, struct final_message *ret, struct err *err)
{
    struct reader r = reader_make(in);
    struct slice binding;
    struct slice nonce;
    struct slice proof = {NULL, 0};
    uint8_t header[sizeof(s->gs2) * 2];
    struct buf got = buf_fixed(header, sizeof(header));
    if (!take_attribute(&r, 'c', &binding) || !base64_decode(binding, &got) ||
        !slice_eq(buf_view(&got), slice_make(s->gs2, s->gs2_len))) {
        return fail(s, err, ST_MALFORMED, "the channel binding is not that of the first message");
    }
    if (!take_attribute(&r, 'r', &nonce) || !crypto_equal(nonce, slice_make(s->nonce, s->nonce_len))) {
        return fail(s, err, ST_UNAUTHENTICATED, "the nonce is not the one of this exchange");
    }
    // Optional extensions may stand before the proof; they are part of what is proved, and mean nothing to us.
    size_t end = 0;
    do {
        end = in.len - reader_left(&r);
    } while (next_attribute(&r, &proof) && !slice_starts(proof, SLICE("p=")));
    ret->without_proof = slice_head(in, end - 1);
    struct buf b = buf_fixed(ret->proof, sizeof(ret->proof));
    if (!slice_starts(proof, SLICE("p=")) || !base64_decode(slice_from(proof, 2), &b) || b.len != SHA256_LEN ||
        reader_left(&r) > 0) {
        return fail(s, err, ST_MALFORMED, "no valid proof at the end of the message");
    }
    return ST_OK;
}

// ClientKey := ClientProof XOR ClientSignature; its hash must be the StoredKey.
static bool proves(const struct scram *s, struct slice auth_message, const uint8_t proof[SHA256_LEN])
{
    uint8_t key[SHA256_LEN];
    uint8_t hash[SHA256_LEN];
    crypto_hmac_sha256(slice_make(s->verifier.stored_key, SHA256_LEN), auth_message, key);
    for (unsigned i = 0; i < SHA256_LEN; i++) {
        key[i] ^= proof[i];
    }
    crypto_sha256(slice_make(key, sizeof(key)), hash);
    crypto_wipe(key, sizeof(key));
    return crypto_equal(slice_make(hash, sizeof(hash)), slice_make(s->verifier.stored_key, SHA256_LEN));
}

enum status scram_final(struct scram *s, struct slice in, struct buf *out, struct err *err)
{
    struct final_message m;
    uint8_t text[FINAL_MAX];
    uint8_t signature[SHA256_LEN];
    struct buf auth = buf_fixed(text, sizeof(text));
    enum status st = in_state(s, SCRAM_CHALLENGED, err);
    if (st == ST_OK && in.len > SCRAM_MESSAGE_MAX) {
        st = fail(s, err, ST_MALFORMED, "the message is too long");
    }
    if (st == ST_OK) {
        st = read_final(s, in, &m, err);
    }
    if (st != ST_OK) {
        return st;
    }
    (void)buf_slice(&auth, slice_make(s->auth, s->auth_len));
    (void)buf_str(&auth, ",");
    (void)buf_slice(&auth, m.without_proof);
    if (auth.failed || !proves(s, buf_view(&auth), m.proof)) {
        return fail(s, err, ST_UNAUTHENTICATED, "wrong password or unknown name");
    }
    crypto_hmac_sha256(slice_make(s->verifier.server_key, SHA256_LEN), buf_view(&auth), signature);
    (void)buf_str(out, "v=");
    if (!base64_encode(slice_make(signature, sizeof(signature)), out)) {
        return fail(s, err, ST_NOMEM, "no room for the answer");
    }
    s->state = SCRAM_PROVED;
    return ST_OK;
}
