/* The users whose passwords devices send: a file of lines `NAME:HASH[:TYPE,TYPE...]`, read at the start and on SIGHUP.
 *
 * A line without types is good for every type, and makes every type need a password; else those that it names do. Blank
 * lines and lines that begin with `#` say nothing. `updraft device-password` writes lines. What cannot be read is an
 * error of the whole file: a line that is skipped would leave its types open.
 */
#ifndef SERVER_DEVICE_USERS_H
#define SERVER_DEVICE_USERS_H

#include "base/password.h"
#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_USER_NAME_MAX  64 /* bytes: printable ASCII but blanks and `:`, not beginning with `#` */
#define DEVICE_USERS_MAX      20000
#define DEVICE_USERS_FILE_MAX (16u << 20)

#define CREDENTIALS_DIGEST_BYTES 32

struct device_user {
    char name[DEVICE_USER_NAME_MAX + 1];
    struct password_hash hash;
    char *types; /* "d1_mini,esp32"; NULL = all */
    unsigned long line;
    bool is_proven; /* these credentials were found right: password_desk's */
    uint8_t proven[CREDENTIALS_DIGEST_BYTES];
};

struct device_users;

/* On failure `message` names the flag, the file, the line, the reason and the remedy. `before` (may be NULL): users
 * whose name and hash are still the same need not prove their passwords again. */
enum status device_users_load(const char *path, const struct device_users *before, struct device_users **users,
                              char *message, size_t size);
void device_users_free(struct device_users *users);

size_t device_users_count(const struct device_users *users);
uint32_t device_users_rounds_max(const struct device_users *users); /* of all hashes */

/* By name; NULL = there is none. */
struct device_user *device_users_find(struct device_users *users, struct slice name);

/* Whether devices of this type need a password. */
bool device_users_cover(const struct device_users *users, struct slice type);

/* The types that lines name, in order, some of them more than once; NULL behind the last. */
const char *device_users_type(const struct device_users *users, size_t i);

/* Whether this user's password is good for it. */
bool device_user_is_for(const struct device_user *user, struct slice type);

#endif
