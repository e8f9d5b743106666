// Hashes, HMAC, constant-time comparison and text encodings of bytes. OpenSSL behind it.
#ifndef NET_CRYPTO_H
#define NET_CRYPTO_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define SHA256_LEN 32
#define SHA1_LEN   20
// Neither allocates or can fail. Any thread.
void crypto_sha256(struct slice in, uint8_t out[SHA256_LEN]);
void crypto_sha1(struct slice in,
                 uint8_t out[SHA1_LEN]); // where a protocol demands it and nothing hangs on its strength
void crypto_hmac_sha256(struct slice key, struct slice in, uint8_t out[SHA256_LEN]);
bool crypto_equal(struct slice a, struct slice b); // constant time in the contents; lengths are not secret
void crypto_wipe(void *p, size_t len);             // never optimised away

// Text forms of bytes, appended to `out`. False: `out` has failed, or the text is not in the one allowed form; then a decoder
// may have left the part before the fault in `out`. Any thread.
bool hex_encode(struct slice in, struct buf *out);       // lower case
bool hex_decode(struct slice in, struct buf *out);       // either case
bool base64_encode(struct slice in, struct buf *out);    // RFC 4648, padded
bool base64_decode(struct slice in, struct buf *out);    // padded, no white space, unused bits zero
bool base64url_encode(struct slice in, struct buf *out); // unpadded
bool base64url_decode(struct slice in, struct buf *out); // unpadded, unused bits zero

// A random token of `bytes` (1 to 128) secret bytes as base64url text, NUL-terminated: 32 bytes give 43 characters.
// ST_INVALID when `bytes` is out of range or `dst` too small.
enum status crypto_token(size_t bytes, char *dst, size_t dst_size);

#endif
