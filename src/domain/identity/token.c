// Tokens as bytes: making, hashing, and the small writers all lists of this folder share.
#include <stdio.h>

#include "domain/identity/identity_priv.h"

#define SECRET_BYTES 32
#define TOKEN_MAX    256 // longer ones are nobody's; hashing them would be work for strangers

void token_hash(const struct identity *id, enum token_kind kind, struct slice token, uint8_t out[SHA256_LEN])
{
    uint8_t mem[1 + TOKEN_MAX];
    struct buf in = buf_fixed(mem, sizeof(mem));
    (void)buf_u8(&in, (uint8_t)kind);
    (void)buf_slice(&in, token); // too long: hashed without it, which matches nothing either
    crypto_hmac_sha256(slice_make(id->key, sizeof(id->key)), buf_view(&in), out);
    crypto_wipe(mem, sizeof(mem));
}

enum status token_make(enum token_kind kind, char dst[TOKEN_TEXT_MAX], struct err *err)
{
    char secret[TOKEN_TEXT_MAX / 2 + 1];
    enum status st = crypto_token(SECRET_BYTES, secret, sizeof(secret));
    if (st != ST_OK) {
        return err_set(err, st, "no token could be made");
    }
    (void)snprintf(dst, TOKEN_TEXT_MAX, "muster_%c_%s", (char)kind, secret);
    crypto_wipe(secret, sizeof(secret));
    return ST_OK;
}
