// Every connect is checked with a hash, also when there is no memory. The EVP interface allocates for each digest; the older one
// works in memory of the caller, which is why it is used here although OpenSSL 3 calls it deprecated.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "net/crypto.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/rand.h"
#include "base/reader.h"

// Most secret bytes in one token: what a caller may ask of crypto_token.
#define TOKEN_BYTES_MAX 128

void crypto_sha256(struct slice in, uint8_t out[SHA256_LEN])
{
    static_assert(SHA256_LEN == SHA256_DIGEST_LENGTH, "one SHA-256");
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, in.p, in.len);
    SHA256_Final(out, &c);
    crypto_wipe(&c, sizeof(c));
}

void crypto_sha1(struct slice in, uint8_t out[SHA1_LEN])
{
    static_assert(SHA1_LEN == SHA_DIGEST_LENGTH, "one SHA-1");
    SHA_CTX c;
    SHA1_Init(&c);
    SHA1_Update(&c, in.p, in.len);
    SHA1_Final(out, &c);
}

// One of the two nested hashes of RFC 2104: the key, padded and masked, before `in`.
static void keyed_hash(const uint8_t key[SHA256_CBLOCK], uint8_t mask, struct slice in, uint8_t out[SHA256_LEN])
{
    uint8_t block[SHA256_CBLOCK];
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ mask;
    }
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, block, sizeof(block));
    SHA256_Update(&c, in.p, in.len);
    SHA256_Final(out, &c);
    crypto_wipe(&c, sizeof(c));
    crypto_wipe(block, sizeof(block));
}

void crypto_hmac_sha256(struct slice key, struct slice in, uint8_t out[SHA256_LEN])
{
    uint8_t padded[SHA256_CBLOCK] = {0};
    uint8_t inner[SHA256_LEN];
    if (key.len > sizeof(padded)) {
        crypto_sha256(key, padded);
    } else {
        struct buf b = buf_fixed(padded, sizeof(padded));
        buf_slice(&b, key);
    }
    keyed_hash(padded, 0x36, in, inner);
    keyed_hash(padded, 0x5c, slice_make(inner, sizeof(inner)), out);
    crypto_wipe(padded, sizeof(padded));
    crypto_wipe(inner, sizeof(inner));
}

bool crypto_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.p, b.p, a.len) == 0);
}

void crypto_wipe(void *p, size_t len)
{
    if (p != NULL) {
        OPENSSL_cleanse(p, len);
    }
}

bool hex_encode(struct slice in, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < in.len; i++) {
        buf_u8(out, (uint8_t)digits[in.p[i] >> 4]);
        buf_u8(out, (uint8_t)digits[in.p[i] & 15]);
    }
    return !out->failed;
}

// The value of a hex digit, or -1.
static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool hex_decode(struct slice in, struct buf *out)
{
    if (in.len % 2 != 0) {
        return false;
    }
    struct reader r = reader_make(in);
    while (reader_left(&r) > 0) {
        int hi = hex_value(rd_u8(&r));
        int lo = hex_value(rd_u8(&r));
        if (hi < 0 || lo < 0 || !buf_u8(out, (uint8_t)(hi << 4 | lo))) {
            return false;
        }
    }
    return true;
}

// RFC 4648: the alphabet of section 4 or 5, and whether the text is padded with '='.
struct base64_kind {
    char digits[65];
    bool padded;
};
static const struct base64_kind base64_std = {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true};
static const struct base64_kind base64_url = {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                                              false};

static bool encode64(const struct base64_kind *kind, struct slice in, struct buf *out)
{
    struct reader r = reader_make(in);
    while (reader_left(&r) > 0) {
        size_t have = reader_left(&r) < 3 ? reader_left(&r) : 3;
        uint32_t group = 0;
        for (size_t i = 0; i < 3; i++) {
            group = group << 8 | (i < have ? rd_u8(&r) : 0U);
        }
        for (size_t i = 0; i < 4; i++) {
            uint8_t c = (uint8_t)kind->digits[group >> (18 - 6 * i) & 63];
            if (i <= have) {
                buf_u8(out, c);
            } else if (kind->padded) {
                buf_u8(out, '=');
            }
        }
    }
    return !out->failed;
}

// The value of a base64 digit, or -1.
static int value64(const struct base64_kind *kind, uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == (uint8_t)kind->digits[62]) {
        return 62;
    }
    return c == (uint8_t)kind->digits[63] ? 63 : -1;
}

// One group of 2 to 4 digits to 1 to 3 bytes. The bits that belong to no byte must be zero, so that every byte string has
// exactly one encoding (RFC 4648 section 3.5).
static bool decode_group(const struct base64_kind *kind, struct reader *r, size_t digits, struct buf *out)
{
    if (digits < 2) {
        return false;
    }
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        int v = i < digits ? value64(kind, rd_u8(r)) : 0;
        if (v < 0) {
            return false;
        }
        group = group << 6 | (uint32_t)v;
    }
    size_t bytes = digits - 1;
    if ((group & ((1U << (24 - 8 * bytes)) - 1)) != 0) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        buf_u8(out, (uint8_t)(group >> (16 - 8 * i)));
    }
    return !out->failed;
}

static bool decode64(const struct base64_kind *kind, struct slice in, struct buf *out)
{
    if (kind->padded) {
        if (in.len % 4 != 0) {
            return false;
        }
        for (int i = 0; i < 2 && in.len > 0 && in.p[in.len - 1] == '='; i++) {
            in = slice_head(in, in.len - 1);
        }
    }
    struct reader r = reader_make(in);
    while (reader_left(&r) > 0) {
        if (!decode_group(kind, &r, reader_left(&r) < 4 ? reader_left(&r) : 4, out)) {
            return false;
        }
    }
    return true;
}

bool base64_encode(struct slice in, struct buf *out)
{
    return encode64(&base64_std, in, out);
}

bool base64_decode(struct slice in, struct buf *out)
{
    return decode64(&base64_std, in, out);
}

bool base64url_encode(struct slice in, struct buf *out)
{
    return encode64(&base64_url, in, out);
}

bool base64url_decode(struct slice in, struct buf *out)
{
    return decode64(&base64_url, in, out);
}

enum status crypto_token(size_t bytes, char *dst, size_t dst_size)
{
    size_t text_len = (bytes * 4 + 2) / 3;
    if (bytes == 0 || bytes > TOKEN_BYTES_MAX || dst_size < text_len + 1) {
        return ST_INVALID;
    }
    uint8_t secret[TOKEN_BYTES_MAX];
    rand_secret(secret, bytes);
    struct buf out = buf_fixed(dst, dst_size);
    bool ok = base64url_encode(slice_make(secret, bytes), &out) && buf_u8(&out, 0);
    crypto_wipe(secret, sizeof(secret));
    return ok ? ST_OK : ST_INTERNAL;
}
