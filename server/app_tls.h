/* The certificates that the configuration names. */
#ifndef SERVER_APP_TLS_H
#define SERVER_APP_TLS_H

#include "server/config.h"
#include "server/tls.h"

/* Reads their files; as tls_load. */
enum status app_tls_load(const struct config *config, const struct tls *before, struct tls **tls, char *message,
                         size_t size);

#endif
