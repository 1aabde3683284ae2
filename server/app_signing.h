/* The public keys that the configuration names: whose signatures make a file an image. */
#ifndef SERVER_APP_SIGNING_H
#define SERVER_APP_SIGNING_H

#include "proto/signature.h"
#include "server/config.h"

/* Reads their files; *keys is the caller's, NULL where none are named. On failure `message` names the file, the reason
 * and the remedy. */
enum status app_signing_load(const struct config *config, struct signature_keys **keys, char *message, size_t size);

#endif
