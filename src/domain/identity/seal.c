#include "domain/identity/seal.h"

#include <openssl/evp.h>

#include "base/rand.h"
#include "base/reader.h"

#define NONCE_LEN 12
#define TAG_LEN   16

// The store key itself hashes tokens; what seals is another one.
static void sealing_key(const struct identity *id, uint8_t out[SHA256_LEN])
{
    crypto_hmac_sha256(slice_make(id->key, sizeof(id->key)), SLICE("muster sealed secrets, AES-256-GCM"), out);
}

bool seal(const struct identity *id, struct slice about, struct slice secret, struct buf *out)
{
    uint8_t key[SHA256_LEN], nonce[NONCE_LEN], tag[TAG_LEN];
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    uint8_t *dst = buf_reserve(out, secret.len + SEAL_EXTRA);
    sealing_key(id, key);
    rand_secret(nonce, sizeof(nonce));
    bool ok = c != NULL && dst != NULL && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
              EVP_EncryptUpdate(c, NULL, &n, about.p, (int)about.len) == 1 && buf_put(out, nonce, sizeof(nonce)) &&
              EVP_EncryptUpdate(c, buf_reserve(out, secret.len), &n, secret.p, (int)secret.len) == 1 &&
              EVP_EncryptFinal_ex(c, dst + NONCE_LEN + n, &last) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) == 1;
    if (ok) {
        buf_commit(out, secret.len);
        ok = buf_put(out, tag, sizeof(tag));
    }
    crypto_wipe(key, sizeof(key));
    EVP_CIPHER_CTX_free(c);
    return ok;
}

bool unseal(const struct identity *id, struct slice about, struct slice sealed, struct buf *out)
{
    uint8_t key[SHA256_LEN];
    struct reader r = reader_make(sealed);
    struct slice nonce = rd_bytes(&r, NONCE_LEN);
    size_t left = reader_left(&r);
    struct slice text = rd_bytes(&r, left >= TAG_LEN ? left - TAG_LEN : left), tag = rd_bytes(&r, TAG_LEN);
    uint8_t *dst = !r.failed ? buf_reserve(out, text.len + 1) : NULL;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    sealing_key(id, key);
    bool ok = c != NULL && dst != NULL && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce.p) == 1 &&
              EVP_DecryptUpdate(c, NULL, &n, about.p, (int)about.len) == 1 &&
              EVP_DecryptUpdate(c, dst, &n, text.p, (int)text.len) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, (void *)(uintptr_t)tag.p) == 1 &&
              EVP_DecryptFinal_ex(c, dst + n, &last) == 1;
    if (ok) {
        buf_commit(out, text.len);
    } else if (dst != NULL) {
        crypto_wipe(dst, text.len);
    }
    crypto_wipe(key, sizeof(key));
    EVP_CIPHER_CTX_free(c);
    return ok;
}
