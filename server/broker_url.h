/* mqtt://[user[:password]@]host[:port] and mqtts://…, taken apart. User and password are percent-decoded. */
#ifndef SERVER_BROKER_URL_H
#define SERVER_BROKER_URL_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker_url {
    bool tls;
    uint16_t port;  /* 1883, or 8883 with TLS, where none is named */
    char host[256]; /* an IPv6 address without its brackets */
    char user[256];
    char password[256];
};

/* STATUS_INVALID: `why` says what is wrong and what to do; it never holds the password. */
enum status broker_url_read(const char *text, struct broker_url *url, char *why, size_t size);

/* The same without user and password, for people: "mqtt://host:1883". */
void broker_url_print(const struct broker_url *url, char *to, size_t size);

#endif
