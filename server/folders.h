/* The folders that a server needs: --repo, which must be there, and --state. */
#ifndef SERVER_FOLDERS_H
#define SERVER_FOLDERS_H

#include "server/config.h"

/* Makes the state folder where it is missing. On failure `message` names the setting, the reason and the remedy. */
enum status folders_prepare(const struct config *config, char *message, size_t size);

/* Whether folders_prepare would succeed, and the files of the state folder could be used; changes nothing. */
enum status folders_check(const struct config *config, char *message, size_t size);

#endif
