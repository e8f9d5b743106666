// The client's side of SCRAM-SHA-256, for tests. Include after cmocka.h.
#ifndef TESTS_LIB_TESTSCRAM_H
#define TESTS_LIB_TESTSCRAM_H

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "net/crypto.h"

// What a client answers to a challenge: first_bare "n=user,r=nonce", server_first as received, gs2 "n,,".
static inline void testscram_final(const char *password, const char *gs2, const char *first_bare,
                                   const char *server_first, char dst[1024], char want_server[64])
{
    char nonce[512];
    char salt64[128];
    unsigned iterations = 0;
    assert_int_equal(sscanf(server_first, "r=%511[^,],s=%127[^,],i=%u", nonce, salt64, &iterations), 3);
    uint8_t salt_mem[64];
    struct buf salt = buf_fixed(salt_mem, sizeof(salt_mem));
    assert_true(base64_decode(slice_str(salt64), &salt));
    uint8_t salted[SHA256_LEN], client[SHA256_LEN], stored[SHA256_LEN], server[SHA256_LEN], sig[SHA256_LEN];
    assert_int_equal(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt_mem, (int)salt.len, (int)iterations,
                                       EVP_sha256(), SHA256_LEN, salted),
                     1);
    crypto_hmac_sha256(slice_make(salted, SHA256_LEN), SLICE("Client Key"), client);
    crypto_hmac_sha256(slice_make(salted, SHA256_LEN), SLICE("Server Key"), server);
    crypto_sha256(slice_make(client, SHA256_LEN), stored);
    char text[4096];
    uint8_t mem[1024];
    struct buf b = buf_fixed(mem, sizeof(mem));
    assert_true(base64_encode(slice_str(gs2), &b));
    char without[900];
    snprintf(without, sizeof(without), "c=%.*s,r=%s", (int)b.len, (const char *)mem, nonce);
    snprintf(text, sizeof(text), "%s,%s,%s", first_bare, server_first, without);
    crypto_hmac_sha256(slice_make(stored, SHA256_LEN), slice_str(text), sig);
    for (unsigned i = 0; i < SHA256_LEN; i++) {
        client[i] ^= sig[i];
    }
    buf_clear(&b);
    assert_true(base64_encode(slice_make(client, SHA256_LEN), &b));
    snprintf(dst, 1024, "%s,p=%.*s", without, (int)b.len, (const char *)mem);
    crypto_hmac_sha256(slice_make(server, SHA256_LEN), slice_str(text), sig);
    buf_clear(&b);
    assert_true(base64_encode(slice_make(sig, SHA256_LEN), &b));
    snprintf(want_server, 64, "v=%.*s", (int)b.len, (const char *)mem);
}

#endif
