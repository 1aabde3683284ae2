/* The folders that a server needs: --repo, which must be there, and --state. */
#ifndef SERVER_FOLDERS_H
#define SERVER_FOLDERS_H

#include "server/config.h"

#define FOLDERS_MESSAGE_MAX (CONFIG_TEXT_MAX + 1024)

/* Makes the state folder where it is missing. On failure `message` names the setting, the reason and the remedy. */
enum status folders_prepare(const struct config *config, char *message, size_t size);

/* Whether folders_prepare would succeed, and the files of the state folder could be used; changes nothing. */
enum status folders_check(const struct config *config, char *message, size_t size);

/* Two servers on one state folder would overwrite each other's work. The lock goes with the process. STATUS_BUSY:
 * another has it. */
enum status folders_lock(const struct config *config, char *message, size_t size);

#endif
