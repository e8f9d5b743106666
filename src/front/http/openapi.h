// The OpenAPI 3.1 document of the API, written by the build from api/*.json.
#ifndef FRONT_HTTP_OPENAPI_H
#define FRONT_HTTP_OPENAPI_H

#include <stddef.h>

extern const char api_openapi[]; // JSON text, NUL-terminated
extern const size_t api_openapi_len;

#endif
