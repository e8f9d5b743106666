#include "net/tls_record.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "base/rand.h"
#include "base/reader.h"

#define TAG_LEN         16
#define IV_LEN          12
#define KEY_MAX         32
#define EXPLICIT_LEN    8 // TLS 1.2 GCM: the part of the nonce that is sent
#define SALT_LEN        4 // and the part that is not
#define KEY_RECORDS_MAX (1u << 24)
#define V12             0x0303
#define V13             0x0304

enum aead { AES128_GCM, AES256_GCM, CHACHA20, AEADS };
struct suite {
    uint16_t id;
    uint8_t aead;
    bool sha384;
};
static const struct suite suites[] = {
    {0x1301, AES128_GCM, false},                                                         // TLS_AES_128_GCM_SHA256
    {0x1302, AES256_GCM, true},                                                          // TLS_AES_256_GCM_SHA384
    {0x1303, CHACHA20, false},                                                           // TLS_CHACHA20_POLY1305_SHA256
    {0xc02b, AES128_GCM, false},                                                         // ECDHE-ECDSA
    {0xc02c, AES256_GCM, true},  {0xcca9, CHACHA20, false}, {0xc02f, AES128_GCM, false}, // ECDHE-RSA
    {0xc030, AES256_GCM, true},  {0xcca8, CHACHA20, false}, {0x00a8, AES128_GCM, false}, // PSK
    {0x00a9, AES256_GCM, true},  {0xccab, CHACHA20, false}, {0x00aa, AES128_GCM, false}, // DHE-PSK
    {0x00ab, AES256_GCM, true},  {0xccad, CHACHA20, false}, {0xccac, CHACHA20, false},   // ECDHE-PSK
};
static const uint8_t key_len[AEADS] = {[AES128_GCM] = 16, [AES256_GCM] = 32, [CHACHA20] = 32};

struct tls_algs {
    EVP_CIPHER *aead[AEADS];
};

struct direction {
    EVP_CIPHER_CTX *aead;
    uint64_t seq;
    uint8_t iv[IV_LEN];
    uint8_t secret[TLS_SECRET_MAX]; // TLS 1.3, for the next generation
};
struct tls_record {
    const struct tls_algs *algs;
    const struct suite *suite;
    uint16_t version;
    uint64_t nonce; // TLS 1.2 GCM: the next explicit nonce
    struct direction in, out;
};

// ---- algorithms ----

static const struct suite *find_suite(uint16_t id)
{
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        if (suites[i].id == id) {
            return &suites[i];
        }
    }
    return NULL;
}

bool tls_algs_has(uint16_t suite)
{
    return find_suite(suite) != NULL;
}

struct tls_algs *tls_algs_new(void)
{
    static const char *const names[AEADS] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    struct tls_algs *a = calloc(1, sizeof(*a));
    for (int i = 0; a != NULL && i < AEADS; i++) {
        a->aead[i] = EVP_CIPHER_fetch(NULL, names[i], NULL);
        if (a->aead[i] == NULL) {
            tls_algs_free(a);
            return NULL;
        }
    }
    return a;
}

void tls_algs_free(struct tls_algs *a)
{
    for (int i = 0; a != NULL && i < AEADS; i++) {
        EVP_CIPHER_free(a->aead[i]);
    }
    free(a);
}

static const EVP_MD *hash_of(const struct suite *s, size_t *ret_len)
{
    *ret_len = s->sha384 ? 48 : 32;
    return s->sha384 ? EVP_sha384() : EVP_sha256();
}

// ---- keys ----

// HKDF-Expand-Label without context (RFC 8446 section 7.1); one block of the hash is all that is ever asked for.
static bool expand(const struct suite *s, const uint8_t *secret, const char *label, uint8_t *dst, size_t len)
{
    size_t hash_len = 0;
    const EVP_MD *md = hash_of(s, &hash_len);
    uint8_t info_mem[32], block[EVP_MAX_MD_SIZE];
    struct buf info = buf_fixed(info_mem, sizeof(info_mem));
    buf_u16(&info, (uint16_t)len);
    buf_u8(&info, (uint8_t)(6 + strlen(label)));
    buf_str(&info, "tls13 ");
    buf_str(&info, label);
    buf_u8(&info, 0); // context
    buf_u8(&info, 1); // first block, RFC 5869 section 2.3
    struct buf out = buf_fixed(dst, len);
    bool ok = !info.failed && HMAC(md, secret, (int)hash_len, info.p, info.len, block, NULL) != NULL &&
              buf_put(&out, block, len);
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

static bool set_key(const struct tls_record *r, struct direction *d, const uint8_t *key, bool encrypt)
{
    if (d->aead == NULL) {
        d->aead = EVP_CIPHER_CTX_new();
    }
    d->seq = 0;
    return d->aead != NULL &&
           EVP_CipherInit_ex2(d->aead, r->algs->aead[r->suite->aead], key, NULL, encrypt ? 1 : 0, NULL) == 1;
}

// TLS 1.3: key and nonce mask follow from the traffic secret (section 7.3).
static bool keys_from_secret(const struct tls_record *r, struct direction *d, bool encrypt)
{
    uint8_t key[KEY_MAX];
    bool ok = expand(r->suite, d->secret, "key", key, key_len[r->suite->aead]) &&
              expand(r->suite, d->secret, "iv", d->iv, IV_LEN) && set_key(r, d, key, encrypt);
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

static bool set_secret(struct direction *d, struct slice secret)
{
    struct buf b = buf_fixed(d->secret, sizeof(d->secret));
    return buf_slice(&b, secret);
}

// P_hash of RFC 5246 section 5: A(i) = HMAC(A(i-1)), the output is the HMACs of A(i) and the seed.
static bool expand12(const struct suite *s, struct slice master, struct slice seed, struct buf *out)
{
    size_t hash_len = 0;
    const EVP_MD *md = hash_of(s, &hash_len);
    uint8_t a[EVP_MAX_MD_SIZE], block[EVP_MAX_MD_SIZE], mem[EVP_MAX_MD_SIZE + 128];
    bool ok = HMAC(md, master.p, (int)master.len, seed.p, seed.len, a, NULL) != NULL;
    while (ok && out->len < out->max) {
        struct buf in = buf_fixed(mem, sizeof(mem));
        buf_put(&in, a, hash_len);
        buf_slice(&in, seed);
        size_t left = out->max - out->len;
        ok = !in.failed && HMAC(md, master.p, (int)master.len, in.p, in.len, block, NULL) != NULL &&
             buf_put(out, block, left < hash_len ? left : hash_len) &&
             HMAC(md, master.p, (int)master.len, a, hash_len, a, NULL) != NULL;
    }
    OPENSSL_cleanse(a, sizeof(a));
    OPENSSL_cleanse(block, sizeof(block));
    OPENSSL_cleanse(mem, sizeof(mem));
    return ok;
}

// TLS 1.2: the key block is client key, server key, client IV, server IV (section 6.3; AEAD has no MAC keys).
static bool keys_from_master(struct tls_record *r, const struct tls_keys *keys)
{
    uint8_t block[2 * (KEY_MAX + IV_LEN)], seed_mem[96];
    struct buf seed = buf_fixed(seed_mem, sizeof(seed_mem));
    buf_str(&seed, "key expansion");
    buf_slice(&seed, keys->server_random);
    buf_slice(&seed, keys->client_random);
    size_t klen = key_len[r->suite->aead], ivlen = r->suite->aead == CHACHA20 ? IV_LEN : SALT_LEN;
    struct buf out = buf_fixed(block, 2 * (klen + ivlen));
    bool ok = !seed.failed && expand12(r->suite, keys->master, buf_view(&seed), &out);
    struct reader rd = reader_make(buf_view(&out));
    struct slice in_key = rd_bytes(&rd, klen), out_key = rd_bytes(&rd, klen);
    struct buf in_iv = buf_fixed(r->in.iv, IV_LEN), out_iv = buf_fixed(r->out.iv, IV_LEN);
    ok = ok && buf_slice(&in_iv, rd_bytes(&rd, ivlen)) && buf_slice(&out_iv, rd_bytes(&rd, ivlen)) && !rd.failed &&
         set_key(r, &r->in, in_key.p, false) && set_key(r, &r->out, out_key.p, true);
    r->in.seq = r->out.seq = 1; // each side has sent its Finished
    rand_secret(&r->nonce, sizeof(r->nonce));
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

struct tls_record *tls_record_new(const struct tls_algs *a, const struct tls_keys *keys)
{
    const struct suite *suite = find_suite(keys->suite);
    struct tls_record *r = suite != NULL ? calloc(1, sizeof(*r)) : NULL;
    if (r == NULL) {
        return NULL;
    }
    r->algs = a;
    r->suite = suite;
    r->version = keys->version;
    bool ok = false;
    if (r->version == V13) {
        size_t hash_len = 0;
        (void)hash_of(suite, &hash_len);
        ok = keys->read_secret.len == hash_len && keys->write_secret.len == hash_len &&
             set_secret(&r->in, keys->read_secret) && set_secret(&r->out, keys->write_secret) &&
             keys_from_secret(r, &r->in, false) && keys_from_secret(r, &r->out, true);
        r->out.seq = keys->writes;
    } else if (r->version == V12) {
        ok = keys_from_master(r, keys);
    }
    if (!ok) {
        tls_record_free(r);
        return NULL;
    }
    return r;
}

void tls_record_free(struct tls_record *r)
{
    if (r != NULL) {
        EVP_CIPHER_CTX_free(r->in.aead);
        EVP_CIPHER_CTX_free(r->out.aead);
        OPENSSL_cleanse(r, sizeof(*r));
        free(r);
    }
}

static bool next_generation(const struct tls_record *r, struct direction *d, bool encrypt)
{
    uint8_t next[TLS_SECRET_MAX];
    size_t len = 0;
    (void)hash_of(r->suite, &len);
    bool ok = expand(r->suite, d->secret, "traffic upd", next, len) && set_secret(d, slice_make(next, len)) &&
              keys_from_secret(r, d, encrypt);
    OPENSSL_cleanse(next, sizeof(next));
    return ok;
}

bool tls_record_update_read(struct tls_record *r)
{
    return next_generation(r, &r->in, false);
}

bool tls_record_update_write(struct tls_record *r)
{
    return next_generation(r, &r->out, true);
}

bool tls_record_write_is_old(const struct tls_record *r)
{
    return r->version == V13 && r->suite->aead != CHACHA20 && r->out.seq >= KEY_RECORDS_MAX;
}

uint16_t tls_record_version(const struct tls_record *r)
{
    return r->version;
}

// ---- records ----

static bool has_explicit_nonce(const struct tls_record *r)
{
    return r->version == V12 && r->suite->aead != CHACHA20;
}

// Section 5.3, RFC 7905 section 2: the sequence number, padded on the left, under the mask. RFC 5288 section 3: salt and explicit part.
static void make_nonce(const struct tls_record *r, const struct direction *d, struct slice explicit_part,
                       uint8_t nonce[IV_LEN])
{
    struct buf b = buf_fixed(nonce, IV_LEN);
    if (has_explicit_nonce(r)) {
        buf_put(&b, d->iv, SALT_LEN);
        buf_slice(&b, explicit_part);
        return;
    }
    buf_u32(&b, 0);
    buf_u64(&b, d->seq);
    for (int i = 0; i < IV_LEN; i++) {
        nonce[i] ^= d->iv[i];
    }
}

#define AAD_MAX 13
// What is authenticated beside the text: the header (TLS 1.3), or number, type, version and length of the text (TLS 1.2).
static struct slice make_aad(const struct tls_record *r, const struct direction *d, uint8_t type, uint16_t len,
                             uint8_t mem[AAD_MAX])
{
    struct buf b = buf_fixed(mem, AAD_MAX);
    if (r->version == V12) {
        buf_u64(&b, d->seq);
    }
    buf_u8(&b, type);
    buf_u16(&b, V12);
    buf_u16(&b, len);
    return buf_view(&b);
}

static bool decrypt(struct direction *d, const uint8_t nonce[IV_LEN], struct slice aad, struct slice text,
                    struct slice tag, uint8_t *dst)
{
    int n = 0, last = 0;
    return EVP_DecryptInit_ex(d->aead, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(d->aead, NULL, &n, aad.p, (int)aad.len) == 1 &&
           (text.len == 0 || EVP_DecryptUpdate(d->aead, dst, &n, text.p, (int)text.len) == 1) &&
           EVP_CIPHER_CTX_ctrl(d->aead, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, (void *)(uintptr_t)tag.p) == 1 &&
           EVP_DecryptFinal_ex(d->aead, dst + text.len, &last) == 1;
}

static bool encrypt(struct direction *d, const uint8_t nonce[IV_LEN], struct slice aad, uint8_t *text, size_t len)
{
    int n = 0, last = 0;
    return EVP_EncryptInit_ex(d->aead, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(d->aead, NULL, &n, aad.p, (int)aad.len) == 1 &&
           (len == 0 || EVP_EncryptUpdate(d->aead, text, &n, text, (int)len) == 1) &&
           EVP_EncryptFinal_ex(d->aead, text + len, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(d->aead, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, text + len) == 1;
}

// TLS 1.3 hides the type behind the text, and zeros behind the type (section 5.4). 0: there was none.
static uint8_t take_inner_type(const uint8_t *text, size_t *len)
{
    while (*len > 0 && text[*len - 1] == 0) {
        (*len)--;
    }
    return *len > 0 ? text[--*len] : 0;
}

static bool refuse(uint8_t alert, uint8_t *ret_alert)
{
    *ret_alert = alert;
    return false;
}

bool tls_record_open(struct tls_record *r, struct slice record, struct buf *out, uint8_t *ret_type, uint8_t *ret_alert)
{
    struct reader rd = reader_make(record);
    uint8_t nonce[IV_LEN], aad_mem[AAD_MAX];
    uint8_t type = rd_u8(&rd);
    uint16_t version = rd_u16(&rd), body = rd_u16(&rd);
    struct slice explicit_part = rd_bytes(&rd, has_explicit_nonce(r) ? EXPLICIT_LEN : 0);
    size_t left = reader_left(&rd);
    struct slice text = rd_bytes(&rd, left >= TAG_LEN ? left - TAG_LEN : left), tag = rd_bytes(&rd, TAG_LEN);
    if (r->version == V13 && type != TLS_DATA) {
        return refuse(TLS_UNEXPECTED_MESSAGE, ret_alert);
    }
    if (body > TLS_RECORD_MAX) {
        return refuse(TLS_RECORD_OVERFLOW, ret_alert);
    }
    if (!reader_done(&rd) || version != V12 || r->in.seq == UINT64_MAX) {
        return refuse(rd.failed ? TLS_BAD_RECORD_MAC : TLS_DECODE_ERROR, ret_alert);
    }
    make_nonce(r, &r->in, explicit_part, nonce);
    struct slice aad = make_aad(r, &r->in, type, r->version == V13 ? body : (uint16_t)text.len, aad_mem);
    uint8_t *dst = buf_reserve(out, text.len + 1); // never NULL for an empty text
    if (dst == NULL) {
        return refuse(TLS_INTERNAL_ERROR, ret_alert);
    }
    if (!decrypt(&r->in, nonce, aad, text, tag, dst)) {
        OPENSSL_cleanse(dst, text.len);
        return refuse(TLS_BAD_RECORD_MAC, ret_alert);
    }
    r->in.seq++;
    size_t len = text.len;
    *ret_type = r->version == V13 ? take_inner_type(dst, &len) : type;
    if (*ret_type == 0) {
        return refuse(TLS_UNEXPECTED_MESSAGE, ret_alert);
    }
    if (len > TLS_RECORD_PLAIN) {
        return refuse(TLS_RECORD_OVERFLOW, ret_alert);
    }
    buf_commit(out, len);
    return true;
}

bool tls_record_seal(struct tls_record *r, enum tls_content type, struct slice plain, struct buf *wire)
{
    bool v13 = r->version == V13, with_nonce = has_explicit_nonce(r);
    size_t text_len = plain.len + (v13 ? 1 : 0);
    size_t body = text_len + TAG_LEN + (with_nonce ? EXPLICIT_LEN : 0);
    uint8_t nonce[IV_LEN], explicit_mem[EXPLICIT_LEN], aad_mem[AAD_MAX];
    if (plain.len > TLS_RECORD_PLAIN || r->out.seq == UINT64_MAX ||
        buf_reserve(wire, TLS_RECORD_HEADER + body) == NULL) {
        return false;
    }
    size_t start = wire->len;
    struct buf explicit_part = buf_fixed(explicit_mem, sizeof(explicit_mem));
    buf_u64(&explicit_part, r->nonce);
    uint8_t outer = v13 ? TLS_DATA : (uint8_t)type;
    buf_u8(wire, outer);
    buf_u16(wire, V12);
    buf_u16(wire, (uint16_t)body);
    if (with_nonce) {
        buf_slice(wire, buf_view(&explicit_part));
    }
    size_t text_at = wire->len;
    buf_slice(wire, plain);
    if (v13) {
        buf_u8(wire, (uint8_t)type);
    }
    make_nonce(r, &r->out, buf_view(&explicit_part), nonce);
    struct slice aad = make_aad(r, &r->out, outer, v13 ? (uint16_t)body : (uint16_t)plain.len, aad_mem);
    if (!encrypt(&r->out, nonce, aad, wire->p + text_at, text_len)) {
        wire->len = start;
        return false;
    }
    buf_commit(wire, TAG_LEN);
    r->out.seq++;
    r->nonce++;
    return true;
}
