/* STATE/tokens (mode 0600), a line a token:
 *
 *   <64 hex digits: SHA-256> <created> <name> <role> <expires> <used>
 *
 * with times in seconds since 1970, or `-` for never. Lines of before there were roles end behind the name: such a
 * token may all, as it always might.
 */
#ifndef SERVER_TOKEN_FILE_H
#define SERVER_TOKEN_FILE_H

#include "base/status.h"
#include "server/role.h"
#include "server/tokens.h"

#define TOKEN_HASH_BYTES 32
#define TOKEN_TIME_MAX   253402300799 /* the end of the year 9999, as far as its text form goes */

struct token {
    uint8_t hash[TOKEN_HASH_BYTES];
    int64_t created_s, expires_s, used_s; /* 0 = never */
    enum role role;
    bool role_unsaid; /* in its line */
    bool revoked;     /* in memory; its line is to go */
    char name[TOKEN_NAME_MAX + 1];
};

struct token_list {
    size_t count;
    struct token tokens[TOKENS_MAX];
};

bool token_name_is_good(struct slice name);
size_t token_list_find(const struct token_list *list, struct slice name); /* count = not there */

/* A file that is not there has none. Else `message` names file, line, reason and remedy. */
enum status token_file_read(const char *path, struct token_list *list, char *message, size_t size);

/* Writes `list` in the file's place. `*replaced`: the file has been exchanged, even where the rest failed. */
enum status token_file_write(const struct token_list *list, const char *path, bool *replaced);

#endif
