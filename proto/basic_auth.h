/* The user and the password that a client sends with its request: HTTP Basic, RFC 7617.
 *
 * Both Arduino cores send it at once where ESPhttpUpdate.setAuthorization was called, and never wait for a 401
 * (ESP8266HTTPClient.cpp and HTTPClient.cpp, setAuthorization); esp_http_client does where it is configured.
 */
#ifndef PROTO_BASIC_AUTH_H
#define PROTO_BASIC_AUTH_H

#include "base/text.h"
#include "proto/device_request.h"

#include <stddef.h>

#define BASIC_AUTH_USER_MAX     64
#define BASIC_AUTH_PASSWORD_MAX 128
#define BASIC_AUTH_BYTES_MAX    (BASIC_AUTH_USER_MAX + 1 + BASIC_AUTH_PASSWORD_MAX)

/* "user:password", whatever bytes they are. */
struct basic_auth {
    size_t used, user_bytes;
    char bytes[BASIC_AUTH_BYTES_MAX + 2]; /* the last bytes may be decoded in vain */
};

enum basic_auth_result {
    BASIC_AUTH_GIVEN,
    BASIC_AUTH_NONE,       /* no such header */
    BASIC_AUTH_UNREADABLE, /* another scheme, no base64, no colon, or the header came twice */
    BASIC_AUTH_TOO_LONG,   /* so nobody's here */
};

/* *auth is filled where it is BASIC_AUTH_GIVEN; whoever asks wipes it afterwards. */
enum basic_auth_result basic_auth_read(const struct header *headers, size_t n, struct basic_auth *auth);

static inline struct slice basic_auth_user(const struct basic_auth *auth)
{
    return (struct slice){ auth->bytes, auth->user_bytes };
}

static inline struct slice basic_auth_password(const struct basic_auth *auth)
{
    return (struct slice){ auth->bytes + auth->user_bytes + 1, auth->used - auth->user_bytes - 1 };
}

#endif
