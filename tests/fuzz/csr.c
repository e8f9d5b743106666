// Certificate signing requests from strangers: as PEM text, and as DER that is put into PEM here, so that the fuzzer need not
// learn base64. What is accepted must give an id or a reason, and the same key digest twice.
#include <stdlib.h>

#include "base/buf.h"
#include "domain/identity/csr.h"
#include "net/crypto.h"

static void parse(struct slice pem)
{
    struct csr *c = NULL;
    struct err err = {.code = ST_OK};
    enum status st = csr_parse(pem, &c, &err);
    if (st != ST_OK) {
        if (c != NULL || err.code != st || err.text[0] == '\0') {
            abort();
        }
        return;
    }
    char id[ID_MAX + 1];
    uint8_t first[SHA256_LEN];
    uint8_t second[SHA256_LEN];
    st = csr_device(c, id, &err);
    if (st == ST_OK && id[0] != '\0' && !id_valid(slice_str(id))) {
        abort();
    }
    csr_spki(c, first);
    csr_spki(c, second);
    if (!slice_eq(slice_make(first, sizeof(first)), slice_make(second, sizeof(second)))) {
        abort();
    }
    csr_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > CSR_PEM_MAX + 16) {
        return 0;
    }
    parse(slice_make(data, size));
    struct buf pem = buf_heap(2 * CSR_PEM_MAX);
    buf_str(&pem, "-----BEGIN CERTIFICATE REQUEST-----\n");
    struct buf text = buf_heap(2 * CSR_PEM_MAX);
    if (base64_encode(slice_make(data, size), &text)) {
        struct slice rest = buf_view(&text);
        while (rest.len > 0) {
            buf_slice(&pem, slice_head(rest, 64));
            buf_str(&pem, "\n");
            rest = slice_from(rest, 64);
        }
        buf_str(&pem, "-----END CERTIFICATE REQUEST-----\n");
        parse(buf_view(&pem));
    }
    buf_release(&text);
    buf_release(&pem);
    return 0;
}
